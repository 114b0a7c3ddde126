"""Joseph's projector for any pose of source and flat detector, and its exact adjoint.

A ray steps along the grid axis on which its direction is largest (in index space); each step reads the four voxels around it in the
plane of the other two axes (Joseph 1982), with zero outside the grid:

    p(ray) = |d| / |d_main| * sum_i  bilinear( vol[i], (a_i, b_i) )

For each main axis the volume is laid out anew as [main, a, b], so that two of the four voxels are neighbours in memory, and padded by
one voxel of zeros, which spares the bounds checks; a_i and b_i run in fixed point. Memory order outside as in `columnar`. In the adjoint
a thread owns a slab of the main axis, so there are no atomics and the result does not depend on the threads.
"""

from __future__ import annotations

import numpy as np

from ._jit import kernel, run_threaded, threads

ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Axes of a volume [x, y, z] in the layout [main, a, b], for each main axis."""

FIXED = np.float64(1 << 32)
TO_FRACTION = np.float32(1 / (1 << 32))


@kernel(inline=True)
def _direction(r, u, v, axis):
    return r[3 + axis] + u * r[6 + axis] + v * r[9 + axis]


@kernel(inline=True)
def _is_main(d, a, b, axis):
    """Whether |d|, along `axis`, is the largest; on a tie the lower axis is."""
    d, a, b = abs(d), abs(a), abs(b)
    if axis == 0:
        return d >= a and d >= b
    return (d > a and d >= b) if axis == 1 else (d > a and d > b)


@kernel(inline=True)
def _clip(lo, hi, at_zero, slope, n):
    """Narrow lo .. hi to the places where -1 < at_zero + slope * i < n, by a hair, so that rounding never leads out of the padding."""
    low, high = 1e-6 - 1.0, n - 1e-6
    if abs(slope) > 1e-12:
        inverse = 1 / slope
        a, b = (low - at_zero) * inverse, (high - at_zero) * inverse
        return max(lo, min(a, b)), min(hi, max(a, b))
    return (lo, hi) if low < at_zero < high else (1.0, 0.0)


@kernel(inline=True)
def _trace(r, order, d, da, db, shape):
    """A ray in the layout [main, a, b]: first and last + 1 index, and a + 1 and b + 1 at index 0 and their slopes."""
    s, n, inverse = r[order[0]], shape[0], 1 / d
    slope_a, slope_b = da * inverse, db * inverse
    zero_a, zero_b = r[order[1]] - slope_a * s, r[order[2]] - slope_b * s
    lo, hi = max(0.0, min(s, s + d)), min(n - 1.0, max(s, s + d))
    lo, hi = _clip(lo, hi, zero_a, slope_a, shape[1])
    lo, hi = _clip(lo, hi, zero_b, slope_b, shape[2])
    return int(np.ceil(lo)), int(np.floor(hi)) + 1, zero_a + 1, slope_a, zero_b + 1, slope_b


@kernel(inline=True)
def _length(slope_a, slope_b, spacing, order):
    """Path in mm from one index of the main axis to the next."""
    main, a, b = spacing[order[0]], slope_a * spacing[order[1]], slope_b * spacing[order[2]]
    return np.sqrt(np.float32(main * main + a * a + b * b))


@kernel(inline=True)
def _fraction(fixed):
    return np.float32(fixed & 0xFFFFFFFF) * TO_FRACTION


@kernel
def _general_forward(start, stop, views, padded, shape, order, rays, spacing, projections):
    """Write the rays of the columns start .. stop whose main axis is order[0]."""
    _, nu, nv = projections.shape
    s_a = np.uint64(shape[2] + 2)
    s_main = np.uint64(shape[1] + 2) * s_a
    for column in range(start, stop):
        view, u = views[column // nu], column % nu
        r = rays[view]
        for v in range(nv):
            d, da, db = _direction(r, u, v, order[0]), _direction(r, u, v, order[1]), _direction(r, u, v, order[2])
            if not _is_main(d, da, db, order[0]):
                continue
            first, last, zero_a, slope_a, zero_b, slope_b = _trace(r, order, d, da, db, shape)
            a, b = np.int64((zero_a + slope_a * first) * FIXED), np.int64((zero_b + slope_b * first) * FIXED)
            step_a, step_b = np.int64(slope_a * FIXED), np.int64(slope_b * FIXED)
            plane = np.uint64(first + 1) * s_main
            total = np.float32(0)
            for _ in range(first, last):
                wa, wb = _fraction(a), _fraction(b)
                at = plane + np.uint64(a >> 32) * s_a + np.uint64(b >> 32)
                beyond = at + s_a
                near = padded[at] + wa * (padded[beyond] - padded[at])
                far = padded[at + np.uint64(1)] + wa * (padded[beyond + np.uint64(1)] - padded[at + np.uint64(1)])
                total += near + wb * (far - near)
                a += step_a
                b += step_b
                plane += s_main
            projections[view, u, v] = total * _length(slope_a, slope_b, spacing, order)


@kernel
def _general_adjoint(start, stop, views, projections, rays, spacing, shape, order, padded):
    """Add the rays along order[0] to the planes start <= index < stop of that axis."""
    _, nu, nv = projections.shape
    s_a = np.uint64(shape[2] + 2)
    s_main = np.uint64(shape[1] + 2) * s_a
    for view in views:
        r = rays[view]
        for u in range(nu):
            for v in range(nv):
                d, da, db = _direction(r, u, v, order[0]), _direction(r, u, v, order[1]), _direction(r, u, v, order[2])
                if not _is_main(d, da, db, order[0]):
                    continue
                first, last, zero_a, slope_a, zero_b, slope_b = _trace(r, order, d, da, db, shape)
                a, b = np.int64((zero_a + slope_a * first) * FIXED), np.int64((zero_b + slope_b * first) * FIXED)
                step_a, step_b = np.int64(slope_a * FIXED), np.int64(slope_b * FIXED)
                skipped = max(first, start) - first
                a, b, first, last = a + skipped * step_a, b + skipped * step_b, first + skipped, min(last, stop)
                value = projections[view, u, v] * _length(slope_a, slope_b, spacing, order)
                plane = np.uint64(first + 1) * s_main
                for _ in range(first, last):
                    wa, wb = _fraction(a), _fraction(b)
                    at = plane + np.uint64(a >> 32) * s_a + np.uint64(b >> 32)
                    high = wa * value
                    low = value - high
                    padded[at] += low - wb * low
                    padded[at + np.uint64(1)] += wb * low
                    at += s_a
                    padded[at] += high - wb * high
                    padded[at + np.uint64(1)] += wb * high
                    a += step_a
                    b += step_b
                    plane += s_main


def views_along(rays: np.ndarray, shape: tuple[int, int, int], order: tuple[int, int, int]) -> np.ndarray:
    """Views that may have rays whose main axis is order[0]; `shape` (views, nu, nv)."""
    _, nu, nv = shape
    corners = [rays[:, 3:6] + u * rays[:, 6:9] + v * rays[:, 9:12] for u in (0, nu - 1) for v in (0, nv - 1)]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    largest = np.maximum(np.abs(low), np.abs(high))
    smallest = np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0)
    return np.flatnonzero(largest[:, order[0]] >= smallest[:, list(order[1:])].max(axis=1))


def forward(volume: np.ndarray, rays: np.ndarray, spacing: np.ndarray, projections: np.ndarray) -> None:
    """Project `volume` [x, y, z] into `projections` [view, u, v]; `rays` (views, 12) as `index_rays` gives them."""
    for order in ORDERS:
        views = views_along(rays, projections.shape, order)
        laid = np.pad(volume.transpose(order), 1)
        arguments = (views, laid.ravel(), np.array(laid.shape) - 2, np.array(order), rays, spacing, projections)
        run_threaded(_general_forward, len(views) * projections.shape[1], *arguments)


def adjoint(projections: np.ndarray, rays: np.ndarray, spacing: np.ndarray, volume: np.ndarray) -> None:
    """Write the exact adjoint of `forward` into `volume` [x, y, z]."""
    volume[...] = 0
    for order in ORDERS:
        shape = np.array(volume.shape)[list(order)]
        laid = np.zeros(shape + 2, dtype=np.float32)
        arguments = (views_along(rays, projections.shape, order), projections, rays, spacing, shape, np.array(order), laid.ravel())
        run_threaded(_general_adjoint, shape[0], *arguments, chunk=-(-shape[0] // threads()))
        volume += laid[1:-1, 1:-1, 1:-1].transpose(np.argsort(order))
