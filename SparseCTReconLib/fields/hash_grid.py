"""Multi-resolution hash encoding (Mueller et al. 2022, ACM Trans. Graph. 41(4), section 3): trilinear features of every level.

A level's vertices have a table row each where the table holds them all, else they share rows by the hash
``(x * 1) ^ (y * 2654435761) ^ (z * 805459861) mod T``. Points and features are stored channel first, [channel, point].

Level by level each table stays in a core's cache; in the backward pass a thread owns a level's table, so there are no atomics and the
gradient does not depend on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..operators._jit import kernel, run_threaded
from ._trilinear import gather_dense, gather_hashed, scatter_dense, scatter_hashed

FEATURES = 2
FADING = 0.7
PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class HashGrid:
    """Layout of the encoding.

    Parameters
    ----------
    levels : int
        Number of resolutions; the encoding has ``2 * levels`` channels.
    base : int
        Cells along an edge of the unit cube on the coarsest level.
    finest : int
        Cells along an edge on the finest level; the levels between grow geometrically.
    log2_table : int
        Rows of a level's table, at most.
    box : tuple of float
        Edges (x, y, z), at most 1, of the box at the cube's first corner that is encoded; a level that is dense has rows for it alone.
    """

    levels: int = 8
    base: int = 16
    finest: int = 128
    log2_table: int = 22
    box: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def channels(self) -> int:
        """Features of a point."""
        return self.levels * FEATURES

    def resolutions(self) -> np.ndarray:
        """Cells (levels,) along an edge of the cube."""
        growth = (self.finest / self.base) ** (1 / max(self.levels - 1, 1))
        return np.floor(self.base * growth ** np.arange(self.levels) + 1e-6).astype(np.int64)

    def scales(self) -> np.ndarray:
        """Factor (levels,) on the features of each level: finer ones start fainter and learn more slowly, or they would learn noise."""
        return (FADING ** np.arange(self.levels)).astype(np.float32)

    def edges(self) -> np.ndarray:
        """The box's edges (3,) as the kernels take them."""
        return np.array(self.box, dtype=np.float32)

    def layout(self) -> np.ndarray:
        """(levels, 7): cells along an edge of the cube; first row and number of rows; 1 if dense; vertices of the box along x, y, z."""
        cells = self.resolutions()
        vertices = np.ceil(cells[:, None] * np.array(self.box) - 1e-4).astype(np.int64) + 1
        rows = np.minimum(vertices.prod(axis=1), 1 << self.log2_table)
        return np.column_stack([cells, np.concatenate([[0], np.cumsum(rows)[:-1]]), rows, vertices.prod(axis=1) == rows, vertices])

    def training_bytes(self) -> float:
        """Memory of the tables, their gradient and the two moments of Adam."""
        return 4 * 4.0 * FEATURES * int(self.layout()[:, 2].sum())

    def initial_table(self, rng: np.random.Generator, scale: float = 0.1) -> np.ndarray:
        """Features (rows, 2), uniform in -scale .. scale. A layer norm that follows amplifies tiny values to noise, hence not 1e-4."""
        return rng.uniform(-scale, scale, (int(self.layout()[:, 2].sum()), FEATURES)).astype(np.float32)


STRIP = 256
"""Points whose cells a kernel works out before it looks them up, so that this vectorises."""


@kernel(inline=True)
def _cells(points, first, count, level, edges, cell, fraction):
    """The cell (3, STRIP) of each of `count` points and the place in it, 0 to 1."""
    for axis in range(3):
        cells, edge, last = np.float32(level[0]), edges[axis], np.int32(level[4 + axis] - 2)
        for p in range(count):
            scaled = min(max(points[axis, first + p], np.float32(0)), edge) * cells
            whole = min(np.int32(scaled), last)
            cell[axis, p] = whole
            fraction[axis, p] = scaled - np.float32(whole)


@kernel(inline=True)
def _rows(cell, count, level, rows):
    """Rows (8, STRIP) of a cell's vertices: the near and far one of its edges along x; of a dense level only the near ones."""
    if level[3]:
        sy, sz = np.int32(level[4]), np.int32(level[4] * level[5])
        for p in range(count):
            row = cell[0, p] + cell[1, p] * sy + cell[2, p] * sz
            rows[0, p], rows[1, p], rows[2, p], rows[3, p] = row, row + sy, row + sz, row + sy + sz
        return
    mask = np.uint32(level[2] - 1)
    for p in range(count):
        x = np.uint32(cell[0, p])
        far = x + np.uint32(1)
        for edge in range(4):
            y = (np.uint32(cell[1, p]) + np.uint32(edge & 1)) * np.uint32(2654435761)
            z = (np.uint32(cell[2, p]) + np.uint32(edge >> 1)) * np.uint32(805459861)
            rows[2 * edge, p] = (x ^ y ^ z) & mask
            rows[2 * edge + 1, p] = (far ^ y ^ z) & mask


@kernel(inline=True)
def _look_up(table, dense, r, p, f):
    """Features at point `p` of a strip."""
    if dense:
        return gather_dense(table, r[0, p], r[1, p], r[2, p], r[3, p], f[0, p], f[1, p], f[2, p])
    return gather_hashed(table, r[0, p], r[1, p], r[2, p], r[3, p], r[4, p], r[5, p], r[6, p], r[7, p], f[0, p], f[1, p], f[2, p])


@kernel(inline=True)
def _add(table, dense, r, p, f, a, b):
    """Add features (a, b) at point `p` of a strip to its cell's vertices."""
    if dense:
        scatter_dense(table, r[0, p], r[1, p], r[2, p], r[3, p], f[0, p], f[1, p], f[2, p], a, b)
    else:
        scatter_hashed(table, r[0, p], r[1, p], r[2, p], r[3, p], r[4, p], r[5, p], r[6, p], r[7, p], f[0, p], f[1, p], f[2, p], a, b)


@kernel
def _encode(start, stop, chunk, points, table, layout, scales, edges, out):
    """Tasks start .. stop of (level, chunk of points), level outermost."""
    count = points.shape[1]
    chunks = (count + chunk - 1) // chunk
    cell, fraction = np.empty((3, STRIP), np.int32), np.empty((3, STRIP), np.float32)
    rows = np.empty((8, STRIP), np.uint32)
    for task in range(start, stop):
        number, begin = task // chunks, (task % chunks) * chunk
        level, scale = layout[number], scales[number]
        address = table[level[1] :].ctypes.data
        for first in range(begin, min(begin + chunk, count), STRIP):
            n = min(STRIP, count - first)
            _cells(points, first, n, level, edges, cell, fraction)
            _rows(cell, n, level, rows)
            for p in range(n):
                a, b = _look_up(address, level[3], rows, p, fraction)
                out[2 * number, first + p] = scale * a
                out[2 * number + 1, first + p] = scale * b


@kernel
def _encode_backward(start, stop, points, gradient, layout, scales, edges, table_gradient):
    """Add to the tables' gradient of the levels start .. stop."""
    cell, fraction = np.empty((3, STRIP), np.int32), np.empty((3, STRIP), np.float32)
    rows = np.empty((8, STRIP), np.uint32)
    for number in range(start, stop):
        level, scale = layout[number], scales[number]
        address = table_gradient[level[1] :].ctypes.data
        for first in range(0, points.shape[1], STRIP):
            n = min(STRIP, points.shape[1] - first)
            _cells(points, first, n, level, edges, cell, fraction)
            _rows(cell, n, level, rows)
            for p in range(n):
                a, b = gradient[2 * number, first + p], gradient[2 * number + 1, first + p]
                if a != 0 or b != 0:
                    _add(address, level[3], rows, p, fraction, scale * a, scale * b)


CHUNK = 16384
"""Points that a task encodes on one level."""


def encode(points: np.ndarray, table: np.ndarray, grid: HashGrid, out: np.ndarray | None = None) -> np.ndarray:
    """Features (2 * levels, n) of points (3, n) in the unit cube."""
    out = np.empty((grid.channels, points.shape[1]), dtype=np.float32) if out is None else out
    chunks = -(-points.shape[1] // CHUNK)
    run_threaded(_encode, grid.levels * chunks, CHUNK, points, table, grid.layout(), grid.scales(), grid.edges(), out, chunk=1)
    return out


def encode_backward(points: np.ndarray, gradient: np.ndarray, grid: HashGrid, table_gradient: np.ndarray) -> None:
    """Add the gradient with respect to the tables, given that with respect to the features (2 * levels, n)."""
    run_threaded(_encode_backward, grid.levels, points, gradient, grid.layout(), grid.scales(), grid.edges(), table_gradient, chunk=1)
