"""Volumes of Gaussians: their sum at the centres of voxels, with gradients, on a grid or a box of it.

Forward, a thread owns slices of the volume, so that nothing but the volume itself is held; backward, a range of Gaussians.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..grid import Grid
from ..operators._jit import kernel, run_threaded
from ..operators._lanes import LANES, load, spread, steps, store, sum_of
from ._gaussian import REACH, STEP, WIDTH, ZERO, gaussians, gradients, half_exp, span


@kernel(inline=True)
def _inverse(m, out):
    """Inverse of a matrix 3 x 3 as nine numbers; returns whether there is one."""
    a, b, c, d, e, f, g, h, i = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8]
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if not abs(determinant) > 0:
        return False
    s = 1 / determinant
    out[0], out[1], out[2] = s * (e * i - f * h), s * (c * h - b * i), s * (b * f - c * e)
    out[3], out[4], out[5] = s * (f * g - d * i), s * (a * i - c * g), s * (c * d - a * f)
    out[6], out[7], out[8] = s * (d * h - e * g), s * (b * g - a * h), s * (a * e - b * d)
    return True


@kernel
def _bound(start, stop, centres, whitening, first, spacing, shape, reach, bounds):
    """First and last + 1 index in z and in y of the box [z, y, x] that each Gaussian reaches; empty ones are all 0."""
    m_inverse = np.empty(9)
    for g in range(start, stop):
        bounds[g, 0], bounds[g, 1], bounds[g, 2], bounds[g, 3] = 0, 0, 0, 0
        if not _inverse(whitening[g], m_inverse):
            continue
        for i in range(2):
            axis = 2 - i
            half = reach * np.sqrt(m_inverse[3 * axis] ** 2 + m_inverse[3 * axis + 1] ** 2 + m_inverse[3 * axis + 2] ** 2)
            low = max(np.ceil((centres[g, axis] - half) / spacing[axis] - first[i]), 0.0)
            high = min(np.floor((centres[g, axis] + half) / spacing[axis] - first[i]), shape[i] - 1.0)
            bounds[g, 2 * i], bounds[g, 2 * i + 1] = int(low), int(high) + 1
            if not high >= low:
                bounds[g, 0], bounds[g, 1] = 0, 0
                break


@kernel(inline=True)
def _row(m, y, z, spacing_x):
    """M of the offset (0, y, z), M of one voxel in x, and the quadratic form of the two."""
    c0, c1, c2 = np.float32(m[1] * y + m[2] * z), np.float32(m[4] * y + m[5] * z), np.float32(m[7] * y + m[8] * z)
    s0, s1, s2 = np.float32(m[0] * spacing_x), np.float32(m[3] * spacing_x), np.float32(m[6] * spacing_x)
    square, linear, constant = s0 * s0 + s1 * s1 + s2 * s2, s0 * c0 + s1 * c1 + s2 * c2, c0 * c0 + c1 * c1 + c2 * c2
    return c0, c1, c2, s0, s1, s2, square, linear, constant


@kernel
def _fill(start, stop, centres, whitening, density, bounds, first, spacing, reach, volume):
    """Add all Gaussians to the slices start <= z < stop of the box, whose rows have `LANES` more voxels at their end."""
    _, ny, wide = volume.shape
    for g in range(centres.shape[0]):
        low, high = max(start, bounds[g, 0]), min(stop, bounds[g, 1])
        if high <= low:
            continue
        m, rho = whitening[g], density[g]
        centre = centres[g, 0] / spacing[0] - first[2]
        for z in range(low, high):
            dz = (z + first[0]) * spacing[2] - centres[g, 2]
            for y in range(bounds[g, 2], bounds[g, 3]):
                dy = (y + first[1]) * spacing[1] - centres[g, 1]
                c0, c1, c2, s0, s1, s2, square, linear, constant = _row(m, dy, dz, spacing[0])
                left, right = span(square, linear, constant - reach * reach, centre, wide - LANES)
                at = np.uint64((z * ny + y) * wide + left)
                x = spread(np.float32(left - centre)) + steps()
                for _ in range(left, right, LANES):
                    b0, b1, b2 = c0 + x * s0, c1 + x * s1, c2 + x * s2
                    store(volume, at, load(volume, at) + rho * half_exp(b0 * b0 + b1 * b1 + b2 * b2))
                    at += STEP
                    x += WIDTH


@kernel
def _fill_back(start, stop, centres, whitening, density, bounds, first, spacing, reach, gradient, to_centres, to_whitening, to_density):
    """Add to the gradients of the Gaussians start .. stop, given that of the box."""
    _, ny, wide = gradient.shape
    for g in range(start, stop):
        m = whitening[g]
        centre = centres[g, 0] / spacing[0] - first[2]
        sums = np.zeros(13)
        for z in range(bounds[g, 0], bounds[g, 1]):
            dz = (z + first[0]) * spacing[2] - centres[g, 2]
            for y in range(bounds[g, 2], bounds[g, 3]):
                dy = (y + first[1]) * spacing[1] - centres[g, 1]
                c0, c1, c2, s0, s1, s2, square, linear, constant = _row(m, dy, dz, spacing[0])
                left, right = span(square, linear, constant - reach * reach, centre, wide - LANES)
                at = np.uint64((z * ny + y) * wide + left)
                x = spread(np.float32(left - centre)) + steps()
                zeroth, once, twice = spread(ZERO), spread(ZERO), spread(ZERO)
                for _ in range(left, right, LANES):
                    b0, b1, b2 = c0 + x * s0, c1 + x * s1, c2 + x * s2
                    h = load(gradient, at) * half_exp(b0 * b0 + b1 * b1 + b2 * b2)
                    zeroth += h
                    h = h * x
                    once += h
                    twice += h * x
                    at += STEP
                    x += WIDTH
                total, total_x, total_xx = sum_of(zeroth), sum_of(once), sum_of(twice)
                sums[0] += total
                c, s = (c0, c1, c2), (s0, s1, s2)
                for k in range(3):
                    b = c[k] * total + s[k] * total_x
                    sums[1 + k] += b
                    sums[4 + 3 * k] += (c[k] * total_x + s[k] * total_xx) * spacing[0]
                    sums[5 + 3 * k] += b * dy
                    sums[6 + 3 * k] += b * dz
        to_density[g] += sums[0]
        for axis in range(3):
            to_centres[g, axis] += density[g] * (m[axis] * sums[1] + m[3 + axis] * sums[2] + m[6 + axis] * sums[3])
        for k in range(9):
            to_whitening[g, k] -= density[g] * sums[4 + k]


class Voxeliser:
    """Values of Gaussians at voxels.

    Parameters
    ----------
    grid : Grid
        Its axes are those of the Gaussians' coordinates: mm from the centre of voxel (0, 0, 0).
    """

    backend = "numba"

    def __init__(self, grid: Grid):
        self.grid = grid

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, first=(0, 0, 0), shape=None) -> torch.Tensor:
        """Values in 1/mm [z, y, x], differentiable; for the Gaussians see `Rasteriser`.

        Parameters
        ----------
        first, shape : tuple of int
            First index and voxels of a box, z, y, x; the whole grid by default.
        """
        return _Fill.apply(centres, whitening, density, self.grid, tuple(first), tuple(shape or self.grid.shape))


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centres, whitening, density, grid, first, shape):
        ctx.save_for_backward(centres, whitening, density)
        ctx.box = first, shape, np.array(grid.spacing_mm)
        arrays = gaussians(centres, whitening, density)
        volume = np.zeros((*shape[:2], shape[2] + LANES), np.float32)
        run_threaded(_fill, shape[0], *arrays, _bounds(*arrays[:2], *ctx.box), *ctx.box[::2], REACH, volume)
        return torch.from_numpy(volume)[:, :, : shape[2]].contiguous()

    @staticmethod
    def backward(ctx, gradient):
        arrays = gaussians(*ctx.saved_tensors)
        n = len(arrays[0])
        to = np.zeros((n, 3)), np.zeros((n, 9)), np.zeros(n)
        bounds = _bounds(*arrays[:2], *ctx.box)
        run_threaded(_fill_back, n, *arrays, bounds, *ctx.box[::2], REACH, functional.pad(gradient, (0, LANES)).numpy(), *to)
        return *gradients(to, ctx.saved_tensors), None, None, None


def _bounds(centres, whitening, first, shape, spacing) -> np.ndarray:
    bounds = np.empty((len(centres), 4), np.int32)
    run_threaded(_bound, len(centres), centres, whitening, first, spacing, shape, REACH, bounds)
    return bounds
