"""The hash encoding and Adam's step as Triton kernels, for NVIDIA GPUs; `reference.encode` and `torch_adam.update` say what they compute.

Import it only where Triton is wanted: an install without CUDA has none. With TRITON_INTERPRET=1 in the environment before Triton is
first imported, the kernels run in Python on CPU tensors; so they are tested.

Compiled for compute capabilities 7.5 to 12.0 and looked at there; no GPU has run or timed them yet.

A program handles one level for a block of points, and level is the outer axis of the launch grid: programs that run at the same time
share one level's table, which the L2 cache may hold. A vertex's two features are neighbours in memory and one 64-bit load.
The adjoint adds with float32 atomics without order of memory (`relaxed`), so its sums differ in rounding from run to run; it computes the
cells anew and keeps the points alone. Indices are int32, in which products wrap as the hash wants. Adam reads moments and parameters only
where there is a gradient.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import triton
import triton.language as tl

from .adam import BETA1, BETA2, EPSILON
from .hash_grid import PRIMES, HashGrid

POINTS, WARPS = 256, 8
"""Points of a program, and its warps: one point a thread, which takes about 40 registers and no exchange between threads."""

NUMBERS = 1024
"""Parameters that a program of Adam's updates."""

COLUMNS = tl.constexpr(8)
"""Of the layout: cells, first row, factors of y and z in a row's number, mask of the hash (-1: dense), vertices along x, y, z."""


@triton.jit
def _cell(coordinates, p, inside, edge, cells, vertices):
    """Cell of a coordinate along one axis, and the position within it."""
    scaled = tl.minimum(tl.maximum(tl.load(coordinates + p, mask=inside, other=0.0), 0.0), edge) * cells.to(tl.float32)
    cell = tl.minimum(scaled.to(tl.int32), vertices - 2)
    return cell, scaled - cell.to(tl.float32)


@triton.jit
def _place(points, layout, p, inside, count, edge_x, edge_y, edge_z):
    """Cells and positions of a program's points along x, y, z on its level, and the level's numbers."""
    level = layout + tl.program_id(1) * COLUMNS
    cells = tl.load(level)
    x, fx = _cell(points, p, inside, edge_x, cells, tl.load(level + 5))
    y, fy = _cell(points + count, p, inside, edge_y, cells, tl.load(level + 6))
    z, fz = _cell(points + 2 * count.to(tl.int64), p, inside, edge_z, cells, tl.load(level + 7))
    return x, fx, y, fy, z, fz, tl.load(level + 1), tl.load(level + 2), tl.load(level + 3), tl.load(level + 4)


@triton.jit
def _corner(number: tl.constexpr, x, fx, y, fy, z, fz, first, along_y, along_z, mask):
    """Row in all tables and weight of one of the eight vertices about each point."""
    j = (y + (number >> 1 & 1)) * along_y
    k = (z + (number >> 2)) * along_z
    i = x + (number & 1)
    row = tl.where(mask < 0, i + j + k, (i ^ j ^ k) & mask)
    wx = fx if number & 1 else 1 - fx
    wy = fy if number >> 1 & 1 else 1 - fy
    wz = fz if number >> 2 else 1 - fz
    return first + row, wx * wy * wz


@triton.jit(do_not_specialize=["count"])
def _encode(points, table, layout, scales, out, count, edge_x, edge_y, edge_z, BLOCK: tl.constexpr):
    level = tl.program_id(1)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = p < count
    x, fx, y, fy, z, fz, first, along_y, along_z, mask = _place(points, layout, p, inside, count, edge_x, edge_y, edge_z)
    feature = tl.arange(0, 2)[None, :]
    total = tl.zeros((BLOCK, 2), tl.float32)
    for number in tl.static_range(8):
        row, weight = _corner(number, x, fx, y, fy, z, fz, first, along_y, along_z, mask)
        total += weight[:, None] * tl.load(table + (2 * row[:, None] + feature), mask=inside[:, None], other=0.0)
    target = out + (2 * level + feature).to(tl.int64) * count + p[:, None]
    tl.store(target, total * tl.load(scales + level), mask=inside[:, None])


@triton.jit(do_not_specialize=["count"])
def _encode_backward(
    points, gradient, layout, scales, table_gradient, count, edge_x, edge_y, edge_z, BLOCK: tl.constexpr, PAIRS: tl.constexpr
):  # fmt: skip
    level = tl.program_id(1)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = p < count
    x, fx, y, fy, z, fz, first, along_y, along_z, mask = _place(points, layout, p, inside, count, edge_x, edge_y, edge_z)
    source, scale = gradient + (2 * level).to(tl.int64) * count + p, tl.load(scales + level)
    a = tl.load(source, mask=inside, other=0.0) * scale
    b = tl.load(source + count, mask=inside, other=0.0) * scale
    touched = (a != 0) | (b != 0)
    for number in tl.static_range(8):
        row, weight = _corner(number, x, fx, y, fy, z, fz, first, along_y, along_z, mask)
        if PAIRS:
            target = table_gradient + (2 * row[:, None] + tl.arange(0, 2)[None, :])
            tl.atomic_add(target, tl.join(weight * a, weight * b), mask=touched[:, None], sem="relaxed")
        else:
            tl.atomic_add(table_gradient + 2 * row, weight * a, mask=touched, sem="relaxed")
            tl.atomic_add(table_gradient + 2 * row + 1, weight * b, mask=touched, sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def _adam(
    parameters, gradient, first, second, count, rate, correction,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gradient + n, mask=n < count, other=0.0)
    touched = g != 0
    m = BETA1 * tl.load(first + n, mask=touched, other=0.0) + (1 - BETA1) * g
    v = BETA2 * tl.load(second + n, mask=touched, other=0.0) + (1 - BETA2) * g * g
    stepped = tl.load(parameters + n, mask=touched, other=0.0) - rate * m / (tl.sqrt(v * correction) + EPSILON)
    tl.store(parameters + n, stepped, mask=touched)
    tl.store(first + n, m, mask=touched)
    tl.store(second + n, v, mask=touched)
    tl.store(gradient + n, tl.zeros_like(g), mask=touched)


@functools.lru_cache(maxsize=16)
def _tables(grid: HashGrid, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float, float]]:
    """Layout (levels, 8) as the kernels take it, scales (levels,) and edges."""
    cells, first, rows, dense, *vertices = grid.layout().T
    dense = dense > 0
    factors = np.array(PRIMES, dtype=np.uint32).view(np.int32)
    along_y, along_z = np.where(dense, vertices[0], factors[1]), np.where(dense, vertices[0] * vertices[1], factors[2])
    layout = np.column_stack([cells, first, along_y, along_z, np.where(dense, -1, rows - 1), *vertices]).astype(np.int32)
    edges = tuple(float(edge) for edge in grid.edges())
    return torch.from_numpy(layout).to(device), torch.from_numpy(grid.scales()).to(device), edges


@functools.cache
def _pairs(device: torch.device) -> bool:
    """Whether the GPU adds two neighbouring float32 with one atomic, as since Hopper."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def _launch(kernel, grid: HashGrid, points: torch.Tensor, source: torch.Tensor, target: torch.Tensor, **constants) -> None:
    layout, scales, edges = _tables(grid, points.device)
    count = points.shape[1]
    if count:
        programs = triton.cdiv(count, POINTS), grid.levels
        kernel[programs](points, source, layout, scales, target, count, *edges, BLOCK=POINTS, num_warps=WARPS, **constants)


class _Encoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, table, grid):
        points = points.contiguous()
        ctx.save_for_backward(points)
        ctx.grid, ctx.shape = grid, table.shape
        out = table.new_empty(grid.channels, points.shape[1])
        _launch(_encode, grid, points, table, out)
        return out

    @staticmethod
    def backward(ctx, gradient):
        (points,) = ctx.saved_tensors
        table_gradient = gradient.new_zeros(ctx.shape)
        _launch(_encode_backward, ctx.grid, points, gradient.contiguous(), table_gradient, PAIRS=_pairs(points.device))
        return None, table_gradient, None


def encode(points: torch.Tensor, table: torch.Tensor, grid: HashGrid) -> torch.Tensor:
    """Features (2 * levels, n) of points (3, n) in the unit cube, float32, with a gradient with respect to `table` alone."""
    return _Encoding.apply(points, table, grid)


def update(parameters, gradient, first, second, rate: float, correction: float) -> None:
    """Adam's step in place on flat float32 tensors, as `torch_adam.update`, in one pass over memory."""
    count = parameters.numel()
    _adam[(triton.cdiv(count, NUMBERS),)](
        parameters, gradient, first, second, count, rate, correction,
        BETA1=float(BETA1), BETA2=float(BETA2), EPSILON=float(EPSILON), BLOCK=NUMBERS,
    )  # fmt: skip
