"""Multi-resolution hash encoding (Mueller et al. 2022, ACM Trans. Graph. 41(4), section 3): trilinear features of every level.

A level's vertices have a table row each where the table holds them all, else they share rows by the hash
``(x * 1) ^ (y * 2654435761) ^ (z * 805459861) mod T``. Points and features are stored channel first, [channel, point].

Level by level each table stays in a core's cache; in the backward pass a thread owns a level's table, so there are no atomics and the
gradient does not depend on the threads.
"""

from __future__ import annotations

import numpy as np

from ..operators._jit import kernel, run_threaded
from ._trilinear import STRIP, gather_dense, gather_hashed, scatter_dense, scatter_hashed
from .hash_layout import HashGrid

PRIMES = (1, 2654435761, 805459861)


@kernel(inline=True)
def _cells(points, first, count, level, edges, cell, fraction):
    """The cell (3, STRIP) of each of `count` points and the place in it, 0 to 1."""
    for axis in range(3):
        cells, edge, last = np.float32(level[0]), edges[axis], np.int32(level[4 + axis] - 2)
        place = points[axis, first : first + count]
        for p in range(count):
            scaled = min(max(place[p], np.float32(0)), edge) * cells
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
def _weights(fraction, count, scale, weights):
    """Weights (4, STRIP) of a cell's edges along x, times the level's scale."""
    for p in range(count):
        fy, fz = fraction[1, p], scale * fraction[2, p]
        gz = scale - fz
        weights[1, p], weights[3, p] = fy * gz, fy * fz
        weights[0, p], weights[2, p] = gz - weights[1, p], fz - weights[3, p]


@kernel(inline=True)
def _strip(points, first, count, level, scale, edges, work):
    """Work out what looking up `count` points needs."""
    cell, fraction, rows, weights, _ = work
    _cells(points, first, count, level, edges, cell, fraction)
    _rows(cell, count, level, rows)
    _weights(fraction, count, scale, weights)


@kernel(inline=True)
def _work():
    """Of a strip: cells, places in them, rows, weights, and the features at both ends of the interpolated edge along x."""
    return (
        np.empty((3, STRIP), np.int32),
        np.empty((3, STRIP), np.float32),
        np.empty((8, STRIP), np.uint32),
        np.empty((4, STRIP), np.float32),
        np.empty((STRIP, 4), np.float32),
    )


@kernel(inline=True)
def _look_up(table, dense, rows, weights, ends, p):
    """Features at both ends of point `p`'s interpolated edge."""
    at, weight, end = rows.ctypes.data + 4 * p, weights.ctypes.data + 4 * p, ends.ctypes.data + 16 * p
    if dense:
        gather_dense(table, at, weight, end)
    else:
        gather_hashed(table, at, weight, end)


@kernel(inline=True)
def _add(table, dense, rows, weights, ends, p):
    """The adjoint of `_look_up`."""
    at, weight, end = rows.ctypes.data + 4 * p, weights.ctypes.data + 4 * p, ends.ctypes.data + 16 * p
    if dense:
        scatter_dense(table, at, weight, end)
    else:
        scatter_hashed(table, at, weight, end)


@kernel
def _encode(start, stop, chunk, points, table, layout, scales, edges, out):
    """Tasks start .. stop of (level, chunk of points), level outermost."""
    count = points.shape[1]
    chunks = (count + chunk - 1) // chunk
    work = _work()
    _, fraction, rows, weights, ends = work
    for task in range(start, stop):
        number, begin = task // chunks, (task % chunks) * chunk
        level = layout[number]
        address = table[level[1] :].ctypes.data
        for first in range(begin, min(begin + chunk, count), STRIP):
            n = min(STRIP, count - first)
            _strip(points, first, n, level, scales[number], edges, work)
            for p in range(n):
                _look_up(address, level[3], rows, weights, ends, p)
            a, b = out[2 * number, first : first + n], out[2 * number + 1, first : first + n]
            for p in range(n):
                a[p] = ends[p, 0] + fraction[0, p] * (ends[p, 2] - ends[p, 0])
                b[p] = ends[p, 1] + fraction[0, p] * (ends[p, 3] - ends[p, 1])


WAYS = 4
"""Places in a strip between which the backward pass goes to and fro: neighbours on a ray share vertices, and would wait for one another."""


@kernel
def _encode_backward(start, stop, points, gradient, layout, scales, edges, table_gradient):
    """Add to the tables' gradient of the levels start .. stop, counted from the finest, which takes longest."""
    work = _work()
    _, fraction, rows, weights, ends = work
    for task in range(start, stop):
        number = len(layout) - 1 - task
        level = layout[number]
        address = table_gradient[level[1] :].ctypes.data
        for first in range(0, points.shape[1], STRIP):
            n = min(STRIP, points.shape[1] - first)
            _strip(points, first, n, level, scales[number], edges, work)
            a, b = gradient[2 * number, first : first + n], gradient[2 * number + 1, first : first + n]
            for p in range(n):
                c, d = fraction[0, p] * a[p], fraction[0, p] * b[p]
                ends[p, 0], ends[p, 1], ends[p, 2], ends[p, 3] = a[p] - c, b[p] - d, c, d
            apart = -(-n // WAYS)
            for begin in range(apart):
                for p in range(begin, n, apart):
                    if a[p] != 0 or b[p] != 0:
                        _add(address, level[3], rows, weights, ends, p)


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
