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

    def initial_table(self, rng: np.random.Generator, scale: float = 0.1) -> np.ndarray:
        """Features (rows, 2), uniform in -scale .. scale. A layer norm that follows amplifies tiny values to noise, hence not 1e-4."""
        return rng.uniform(-scale, scale, (int(self.layout()[:, 2].sum()), FEATURES)).astype(np.float32)


@kernel(inline=True)
def _cell(coordinate, cells, edge, vertices):
    """Cell of a coordinate in 0 .. edge, and the position within the cell."""
    scaled = min(max(coordinate, np.float32(0)), edge) * np.float32(cells)
    cell = min(np.uint32(scaled), np.uint32(vertices - 2))
    return cell, scaled - np.float32(cell)


@kernel(inline=True)
def _strides(level):
    """Factors of y and z in a row's number, the mask of the hash (all ones on a dense level), and whether it is dense."""
    if level[3]:
        return np.uint32(level[4]), np.uint32(level[4] * level[5]), np.uint32(0xFFFFFFFF), True
    return np.uint32(2654435761), np.uint32(805459861), np.uint32(level[2] - 1), False


@kernel(inline=True)
def _rows(x, along_y, along_z, mask, dense):
    """Table rows of two vertices that are neighbours along x."""
    if dense:
        first = x + along_y + along_z
        return np.uint64(first), np.uint64(first + np.uint32(1))
    mixed = along_y ^ along_z
    return np.uint64((x ^ mixed) & mask), np.uint64(((x + np.uint32(1)) ^ mixed) & mask)


@kernel
def _encode(start, stop, chunk, points, table, layout, scales, edges, out):
    """Tasks start .. stop of (level, chunk of points), level outermost."""
    count = points.shape[1]
    chunks = (count + chunk - 1) // chunk
    for task in range(start, stop):
        level, first = task // chunks, (task % chunks) * chunk
        cells, offset, rows = layout[level, 0], layout[level, 1], layout[level, 2]
        features = table[offset : offset + rows]
        sy, sz, mask, dense = _strides(layout[level])
        for p in range(first, min(first + chunk, count)):
            x, fx = _cell(points[0, p], cells, edges[0], layout[level, 4])
            y, fy = _cell(points[1, p], cells, edges[1], layout[level, 5])
            z, fz = _cell(points[2, p], cells, edges[2], layout[level, 6])
            a, b = np.float32(0), np.float32(0)
            for corner in range(4):
                j, k = np.uint32(corner & 1), np.uint32(corner >> 1)
                w = (fy if j else 1 - fy) * (fz if k else 1 - fz)
                near, far = _rows(x, (y + j) * sy, (z + k) * sz, mask, dense)
                a += w * (features[near, 0] + fx * (features[far, 0] - features[near, 0]))
                b += w * (features[near, 1] + fx * (features[far, 1] - features[near, 1]))
            out[2 * level, p] = scales[level] * a
            out[2 * level + 1, p] = scales[level] * b


@kernel
def _encode_backward(start, stop, points, gradient, layout, scales, edges, table_gradient):
    """Add to the tables' gradient of the levels start .. stop."""
    for level in range(start, stop):
        cells, offset, rows = layout[level, 0], layout[level, 1], layout[level, 2]
        target = table_gradient[offset : offset + rows]
        sy, sz, mask, dense = _strides(layout[level])
        for p in range(points.shape[1]):
            a, b = scales[level] * gradient[2 * level, p], scales[level] * gradient[2 * level + 1, p]
            if a == 0 and b == 0:
                continue
            x, fx = _cell(points[0, p], cells, edges[0], layout[level, 4])
            y, fy = _cell(points[1, p], cells, edges[1], layout[level, 5])
            z, fz = _cell(points[2, p], cells, edges[2], layout[level, 6])
            for corner in range(4):
                j, k = np.uint32(corner & 1), np.uint32(corner >> 1)
                w = (fy if j else 1 - fy) * (fz if k else 1 - fz)
                near, far = _rows(x, (y + j) * sy, (z + k) * sz, mask, dense)
                target[near, 0] += (w - w * fx) * a
                target[near, 1] += (w - w * fx) * b
                target[far, 0] += w * fx * a
                target[far, 1] += w * fx * b


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
