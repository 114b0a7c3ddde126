"""The hash encoding in torch on any device: what `reference.encode` computes, with an adjoint that keeps no intermediate results.

Autograd through `reference.encode` would keep the rows and weights of every corner of every level. Here the backward pass finds them
anew, so that the memory does not grow with the levels; on the CPU its sums have one order, whatever the threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .hash_grid import PRIMES, HashGrid


def encode(points: torch.Tensor, table: torch.Tensor, grid: HashGrid) -> torch.Tensor:
    """Features (2 * levels, n) of points (3, n) in the unit cube, with a gradient with respect to `table` alone."""
    return _Encoding.apply(points, table, grid)


class _Encoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, table, grid):
        ctx.save_for_backward(points)
        ctx.grid, ctx.shape = grid, table.shape
        out = table.new_zeros(grid.channels, points.shape[1])
        for level, scale, corners in levels(points, grid):
            for row, weight in corners:
                out[2 * level : 2 * level + 2] += (scale * weight) * table[row].T
        return out

    @staticmethod
    def backward(ctx, gradient):
        (points,) = ctx.saved_tensors
        table_gradient = gradient.new_zeros(ctx.shape)
        for level, scale, corners in levels(points, ctx.grid):
            for row, weight in corners:
                for feature in range(2):
                    table_gradient[:, feature].index_add_(0, row, (scale * weight) * gradient[2 * level + feature])
        return None, table_gradient, None


def levels(points: torch.Tensor, grid: HashGrid) -> Iterator[tuple[int, float, Iterator]]:
    """Number, scale and corners of each level."""
    for level, scale in enumerate(grid.scales().tolist()):
        yield level, scale, _corners(points, grid, level)


def _corners(points: torch.Tensor, grid: HashGrid, level: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Table row and weight (n,) of each of the eight vertices about the points."""
    cells, offset, rows, dense, *vertices = grid.layout()[level].tolist()
    edges = torch.tensor(grid.box, dtype=points.dtype, device=points.device)[:, None]
    scaled = points.clamp(min=0).minimum(edges) * cells
    cell = scaled.long().minimum(torch.tensor(vertices, device=points.device)[:, None] - 2)
    fraction = scaled - cell
    for corner in range(8):
        (x, y, z), weight = cell, 1
        for axis in range(3):
            weight = weight * (fraction[axis] if corner >> axis & 1 else 1 - fraction[axis])
        x, y, z = x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2)
        if dense:
            yield offset + x + vertices[0] * (y + vertices[1] * z), weight
        else:
            yield offset + ((x ^ y * PRIMES[1] ^ z * PRIMES[2]) & (rows - 1)), weight
