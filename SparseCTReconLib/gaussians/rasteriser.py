"""X-ray projections of Gaussians: exact line integrals along the ray of every pixel, with gradients.

A Gaussian is rho exp(-|M (x - p)|^2 / 2), M its whitening matrix. On the ray source + t w through a pixel its integral is

    rho sqrt(2 pi) |w| / |a| exp(-(|b|^2 - (a b)^2 / |a|^2) / 2),     a = M w,  b = M q,

q from p to a point of the ray: the one at the depth of p, so that q is small and linear in the pixel's distance (du, dv) from where p is
seen. No approximation of the perspective is made; a Gaussian only ends at `REACH` standard deviations. Forward, a thread owns rows of the
detector; backward, a range of Gaussians: no atomics, and the same result whatever the threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..geometry import Geometry
from ..grid import Grid
from ..operators._jit import kernel, run_threaded
from ..operators._lanes import LANES, load, root, spread, steps, store, sum_of
from ..operators.projector import index_rays
from ._gaussian import ONE, REACH, STEP, WIDTH, ZERO, gaussians, gradients, half_exp, span

U0, V0, A0, MU, MV, INVERSE_DEPTH, UU, UV, VV, U1, V1, ONES, COLUMNS = 0, 1, 2, 5, 8, 11, 12, 13, 14, 15, 16, 17, 18
"""Columns of the table of seen Gaussians: place, M w there, M q of one pixel in u and in v, 1 / depth, and the form whose roots are their
ends."""

NEAREST = 1e-6
"""Depth of a Gaussian, in that of the detector, from which on it is seen."""

ROOT_TWO_PI = np.float32(np.sqrt(2 * np.pi))


@kernel(inline=True)
def _end(row, reach):
    """Where a Gaussian ends: |b x a|^2 = reach^2 |a|^2, a quadratic form in du, dv and 1, since b x a is b x (M w at the centre)."""
    near, reach = row[INVERSE_DEPTH], reach * reach
    aa, au, av, uu, uv, vv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for axis in range(3):
        a, u, v = row[A0 + axis], row[MU + axis], row[MV + axis]
        aa += a * a
        au += a * u
        av += a * v
        uu += u * u
        uv += u * v
        vv += v * v
    far = reach * near * near
    row[UU], row[UV], row[VV] = aa * uu - au * au - far * uu, aa * uv - au * av - far * uv, aa * vv - av * av - far * vv
    row[U1], row[V1], row[ONES] = -reach * near * au, -reach * near * av, -reach * aa


@kernel(inline=True)
def _rows(row, shape):
    """First row and last + 1 that a Gaussian reaches: where the form has columns at all."""
    square, linear = row[UU] * row[VV] - row[UV] ** 2, row[UU] * row[V1] - row[UV] * row[U1]
    return span(square, linear, row[UU] * row[ONES] - row[U1] ** 2, row[V0], shape[0])


@kernel
def _see(start, stop, ray, centres, whitening, shape, reach, seen, rows):
    """Fill the table for Gaussians start .. stop, and the rows, first and last + 1, in which each is seen."""
    eu, ev, w = ray[6:9], ray[9:12], np.empty(3)
    normal = (eu[1] * ev[2] - eu[2] * ev[1], eu[2] * ev[0] - eu[0] * ev[2], eu[0] * ev[1] - eu[1] * ev[0])
    plane = ray[3] * normal[0] + ray[4] * normal[1] + ray[5] * normal[2]
    for g in range(start, stop):
        row, m = seen[g], whitening[g]
        rows[g, 0], rows[g, 1] = 0, 0
        q = (centres[g, 0] - ray[0], centres[g, 1] - ray[1], centres[g, 2] - ray[2])
        depth = (q[0] * normal[0] + q[1] * normal[1] + q[2] * normal[2]) / plane
        if not depth > NEAREST:
            continue
        uu, uv, vv, du, dv = 0.0, 0.0, 0.0, 0.0, 0.0
        for axis in range(3):
            w[axis] = q[axis] / depth
            off = w[axis] - ray[3 + axis]
            uu += eu[axis] * eu[axis]
            uv += eu[axis] * ev[axis]
            vv += ev[axis] * ev[axis]
            du += off * eu[axis]
            dv += off * ev[axis]
        determinant = uu * vv - uv * uv
        row[U0], row[V0] = (du * vv - dv * uv) / determinant, (dv * uu - du * uv) / determinant
        row[INVERSE_DEPTH] = 1 / depth
        for axis in range(3):
            m0, m1, m2 = m[3 * axis], m[3 * axis + 1], m[3 * axis + 2]
            row[A0 + axis] = m0 * w[0] + m1 * w[1] + m2 * w[2]
            row[MU + axis] = depth * (m0 * eu[0] + m1 * eu[1] + m2 * eu[2])
            row[MV + axis] = depth * (m0 * ev[0] + m1 * ev[1] + m2 * ev[2])
        _end(row, reach)
        rows[g, 0], rows[g, 1] = _rows(row, shape)


@kernel(inline=True)
def _columns(row, dv, shape):
    """First column and blocks of `LANES` columns that a Gaussian reaches in the row dv below its centre."""
    left, right = span(row[UU], row[U1] + row[UV] * dv, row[ONES] + dv * (2 * row[V1] + dv * row[VV]), row[U0], shape[1] - LANES)
    return left, (right - left + LANES - 1) // LANES


@kernel
def _project(start, stop, seen, rows, density, lengths, image):
    """Add all Gaussians to the rows start <= v < stop of the image, which like `lengths` has `LANES` more columns than the detector."""
    shape = image.shape
    for g in range(seen.shape[0]):
        low, high = max(start, rows[g, 0]), min(stop, rows[g, 1])
        if high <= low:
            continue
        row = seen[g]
        amplitude = ROOT_TWO_PI * density[g]
        inverse_depth = np.float32(row[INVERSE_DEPTH])
        x0, x1, x2 = np.float32(row[A0]), np.float32(row[A0 + 1]), np.float32(row[A0 + 2])
        u0, u1, u2 = np.float32(row[MU]), np.float32(row[MU + 1]), np.float32(row[MU + 2])
        for v in range(low, high):
            left, blocks = _columns(row, v - row[V0], shape)
            du, dv = np.float32(left - row[U0]), np.float32(v - row[V0])
            at = np.uint64(v * image.shape[1] + left)
            x = spread(du) + steps()
            c0, c1, c2 = dv * np.float32(row[MV]), dv * np.float32(row[MV + 1]), dv * np.float32(row[MV + 2])
            for _ in range(blocks):
                b0, b1, b2 = c0 + x * u0, c1 + x * u1, c2 + x * u2
                a0, a1, a2 = x0 + b0 * inverse_depth, x1 + b1 * inverse_depth, x2 + b2 * inverse_depth
                aa, ab = a0 * a0 + a1 * a1 + a2 * a2, a0 * b0 + a1 * b1 + a2 * b2
                e = b0 * b0 + b1 * b1 + b2 * b2 - ab * ab / aa
                store(image, at, load(image, at) + amplitude * load(lengths, at) / root(aa) * half_exp(e))
                at += STEP
                x += WIDTH


@kernel
def _project_back(start, stop, seen, rows, ray, whitening, density, lengths, gradient, to_centres, to_whitening, to_density):
    """Add to the gradients of the Gaussians start .. stop, given that of the image."""
    shape = gradient.shape
    for g in range(start, stop):
        if rows[g, 1] <= rows[g, 0]:
            continue
        row = seen[g]
        inverse_depth = np.float32(row[INVERSE_DEPTH])
        depth = np.float32(1 / row[INVERSE_DEPTH])
        x0, x1, x2 = np.float32(row[A0]), np.float32(row[A0 + 1]), np.float32(row[A0 + 2])
        u0, u1, u2 = np.float32(row[MU]), np.float32(row[MU + 1]), np.float32(row[MU + 2])
        zero = spread(ZERO)
        s, r_0, r_1, r_2, k_0, k_1, k_2 = zero, zero, zero, zero, zero, zero, zero
        f_0, f_1, f_2, g_0, g_1, g_2 = zero, zero, zero, zero, zero, zero
        for v in range(rows[g, 0], rows[g, 1]):
            left, blocks = _columns(row, v - row[V0], shape)
            du, dv = np.float32(left - row[U0]), np.float32(v - row[V0])
            at = np.uint64(v * gradient.shape[1] + left)
            x = spread(du) + steps()
            c0, c1, c2 = dv * np.float32(row[MV]), dv * np.float32(row[MV + 1]), dv * np.float32(row[MV + 2])
            for _ in range(blocks):
                b0, b1, b2 = c0 + x * u0, c1 + x * u1, c2 + x * u2
                a0, a1, a2 = x0 + b0 * inverse_depth, x1 + b1 * inverse_depth, x2 + b2 * inverse_depth
                aa, ab = a0 * a0 + a1 * a1 + a2 * a2, a0 * b0 + a1 * b1 + a2 * b2
                inverse_aa = ONE / aa
                k = ab * inverse_aa
                r0, r1, r2 = b0 - k * a0, b1 - k * a1, b2 - k * a2
                h = load(gradient, at) * load(lengths, at) * root(inverse_aa) * half_exp(r0 * r0 + r1 * r1 + r2 * r2)
                s += h
                r0, r1, r2 = h * r0, h * r1, h * r2
                h = h * inverse_aa
                w0, w1, w2 = k * r0 - h * a0, k * r1 - h * a1, k * r2 - h * a2
                r_0, r_1, r_2 = r_0 + r0, r_1 + r1, r_2 + r2
                k_0, k_1, k_2 = k_0 + w0, k_1 + w1, k_2 + w2
                w0, w1, w2 = w0 - r0 * depth, w1 - r1 * depth, w2 - r2 * depth
                f_0, f_1, f_2 = f_0 + x * w0, f_1 + x * w1, f_2 + x * w2
                g_0, g_1, g_2 = g_0 + w0 * dv, g_1 + w1 * dv, g_2 + w2 * dv
                at += STEP
                x += WIDTH
        to_density[g] += ROOT_TWO_PI * sum_of(s)
        amplitude = ROOT_TWO_PI * density[g]
        m, place = whitening[g], (sum_of(r_0), sum_of(r_1), sum_of(r_2))
        slopes = (
            (sum_of(k_0), sum_of(f_0), sum_of(g_0)),
            (sum_of(k_1), sum_of(f_1), sum_of(g_1)),
            (sum_of(k_2), sum_of(f_2), sum_of(g_2)),
        )
        for axis in range(3):
            eu, ev = ray[6 + axis], ray[9 + axis]
            w = ray[3 + axis] + row[U0] * eu + row[V0] * ev
            to_centres[g, axis] += amplitude * (m[axis] * place[0] + m[3 + axis] * place[1] + m[6 + axis] * place[2])
            for line in range(3):
                k, f, of_v = slopes[line]
                to_whitening[g, 3 * line + axis] += amplitude * (k * w + f * eu + of_v * ev)


class Rasteriser:
    """Line integrals of Gaussians.

    Parameters
    ----------
    geometry : Geometry
        Poses of the views.
    grid : Grid
        Its axes are those of the Gaussians' coordinates: mm from the centre of voxel (0, 0, 0).
    """

    backend = "numba"

    def __init__(self, geometry: Geometry, grid: Grid):
        self.shape = geometry.detector_shape
        self.rays = index_rays(geometry, grid) * np.tile(grid.spacing_mm, 4)

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, views) -> torch.Tensor:
        """Line integrals (views, v, u), differentiable.

        Parameters
        ----------
        centres : Tensor (n, 3)
            x, y, z in mm.
        whitening : Tensor (n, 3, 3)
            M, 1/mm: the covariance is the inverse of M^T M.
        density : Tensor (n,)
            At the centres, 1/mm.
        views : sequence of int
            Which of the geometry's views.
        """
        return _Project.apply(centres, whitening, density, self, list(views))

    def lengths(self, ray: np.ndarray) -> np.ndarray:
        """Distance in mm from the source to each pixel [v, u], and to `LANES` more in each row."""
        nv, nu = self.shape
        w = ray[3:6] + np.arange(nu + LANES)[:, None] * ray[6:9] + np.arange(nv)[:, None, None] * ray[9:12]
        return np.linalg.norm(w, axis=-1).astype(np.float32)

    def see(self, ray, centres, whitening) -> tuple[np.ndarray, np.ndarray]:
        """The table of what a view sees of the Gaussians, and the rows in which it sees each."""
        n = len(centres)
        seen, rows = np.empty((n, COLUMNS)), np.empty((n, 2), np.int32)
        run_threaded(_see, n, ray, centres, whitening, self.shape, REACH, seen, rows)
        return seen, rows


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centres, whitening, density, rasteriser, views):
        ctx.save_for_backward(centres, whitening, density)
        ctx.rasteriser, ctx.views = rasteriser, views
        nv, nu = rasteriser.shape
        images = np.zeros((len(views), nv, nu + LANES), np.float32)
        points, matrices, densities = gaussians(centres, whitening, density)
        for image, view in zip(images, views):
            ray = rasteriser.rays[view]
            seen, rows = rasteriser.see(ray, points, matrices)
            run_threaded(_project, nv, seen, rows, densities, rasteriser.lengths(ray), image)
        return torch.from_numpy(images)[:, :, :nu].contiguous()

    @staticmethod
    def backward(ctx, gradient):
        points, matrices, densities = gaussians(*ctx.saved_tensors)
        n, rasteriser = len(points), ctx.rasteriser
        to = np.zeros((n, 3)), np.zeros((n, 9)), np.zeros(n)
        for image, view in zip(functional.pad(gradient, (0, LANES)).numpy(), ctx.views):
            ray = rasteriser.rays[view]
            seen, rows = rasteriser.see(ray, points, matrices)
            arguments = (seen, rows, ray, matrices, densities, rasteriser.lengths(ray), image)
            run_threaded(_project_back, n, *arguments, *to)
        return *gradients(to, ctx.saved_tensors), None, None
