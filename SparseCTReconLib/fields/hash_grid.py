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
    """

    levels: int = 8
    base: int = 16
    finest: int = 128
    log2_table: int = 19

    @property
    def channels(self) -> int:
        return self.levels * FEATURES

    def resolutions(self) -> np.ndarray:
        growth = (self.finest / self.base) ** (1 / max(self.levels - 1, 1))
        return np.floor(self.base * growth ** np.arange(self.levels) + 1e-6).astype(np.int64)

    def layout(self) -> np.ndarray:
        """(levels, 3): resolution, first row, and number of rows of each level."""
        cells = self.resolutions()
        rows = np.minimum((cells + 1) ** 3, 1 << self.log2_table)
        return np.stack([cells, np.concatenate([[0], np.cumsum(rows)[:-1]]), rows], axis=1)

    def initial_table(self, rng: np.random.Generator, scale: float = 0.1) -> np.ndarray:
        """Features (rows, 2), uniform in -scale .. scale. A layer norm that follows amplifies tiny values to noise, hence not 1e-4."""
        return rng.uniform(-scale, scale, (int(self.layout()[:, 2].sum()), FEATURES)).astype(np.float32)


@kernel(inline=True)
def _row(x, y, z, cells, rows):
    """Table row of a vertex."""
    side = cells + 1
    if side * side * side <= rows:
        return x + side * (y + side * z)
    mixed = np.uint32(x) ^ (np.uint32(y) * np.uint32(2654435761)) ^ (np.uint32(z) * np.uint32(805459861))
    return np.int64(mixed & np.uint32(rows - 1))


@kernel(inline=True)
def _cell(coordinate, cells):
    """Cell of a coordinate in 0 .. 1, and the position within the cell."""
    scaled = min(max(coordinate, np.float32(0)), np.float32(1)) * np.float32(cells)
    cell = min(np.int64(scaled), cells - 1)
    return cell, scaled - np.float32(cell)


@kernel
def _encode(start, stop, chunk, points, table, layout, out):
    """Tasks start .. stop of (level, chunk of points), level outermost."""
    count = points.shape[1]
    chunks = (count + chunk - 1) // chunk
    for task in range(start, stop):
        level, first = task // chunks, (task % chunks) * chunk
        cells, offset, rows = layout[level]
        for p in range(first, min(first + chunk, count)):
            x, fx = _cell(points[0, p], cells)
            y, fy = _cell(points[1, p], cells)
            z, fz = _cell(points[2, p], cells)
            a, b = np.float32(0), np.float32(0)
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                w = (fx if i else 1 - fx) * (fy if j else 1 - fy) * (fz if k else 1 - fz)
                row = np.uint64(offset + _row(x + i, y + j, z + k, cells, rows))
                a += w * table[row, 0]
                b += w * table[row, 1]
            out[2 * level, p] = a
            out[2 * level + 1, p] = b


@kernel
def _encode_backward(start, stop, points, gradient, layout, table_gradient):
    """Add to the tables' gradient of the levels start .. stop."""
    for level in range(start, stop):
        cells, offset, rows = layout[level]
        for p in range(points.shape[1]):
            x, fx = _cell(points[0, p], cells)
            y, fy = _cell(points[1, p], cells)
            z, fz = _cell(points[2, p], cells)
            a, b = gradient[2 * level, p], gradient[2 * level + 1, p]
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                w = (fx if i else 1 - fx) * (fy if j else 1 - fy) * (fz if k else 1 - fz)
                row = np.uint64(offset + _row(x + i, y + j, z + k, cells, rows))
                table_gradient[row, 0] += w * a
                table_gradient[row, 1] += w * b


CHUNK = 16384
"""Points that a task encodes on one level."""


def encode(points: np.ndarray, table: np.ndarray, grid: HashGrid, out: np.ndarray | None = None) -> np.ndarray:
    """Features (2 * levels, n) of points (3, n) in the unit cube."""
    out = np.empty((grid.channels, points.shape[1]), dtype=np.float32) if out is None else out
    chunks = -(-points.shape[1] // CHUNK)
    run_threaded(_encode, grid.levels * chunks, CHUNK, points, table, grid.layout(), out, chunk=1)
    return out


def encode_backward(points: np.ndarray, gradient: np.ndarray, grid: HashGrid, table_gradient: np.ndarray) -> None:
    """Add the gradient with respect to the tables, given that with respect to the features (2 * levels, n)."""
    run_threaded(_encode_backward, grid.levels, points, gradient, grid.layout(), table_gradient, chunk=1)
