"""Joseph's projector for any pose of source and flat detector, and its exact adjoint.

A ray steps along the grid axis on which its direction is largest (in index space); each step reads the four voxels around it in the
plane of the other two axes (Joseph 1982), with zero outside the grid:

    p(ray) = |d| / |d_main| * sum_i  bilinear( vol[i], (a_i, b_i) )

The volume is padded by one voxel of zeros, which spares the bounds checks. Memory order as in `columnar`. The adjoint runs the rays of
each main axis in turn; a thread owns a slab of that axis, so there are no atomics and the result does not depend on the threads.
"""

from __future__ import annotations

import numpy as np

from ._jit import kernel, run_threaded, threads


@kernel(inline=True)
def _main_axis(dx, dy, dz):
    if abs(dx) >= abs(dy) and abs(dx) >= abs(dz):
        return 0
    return 1 if abs(dy) >= abs(dz) else 2


@kernel(inline=True)
def _clip(lo, hi, at_zero, slope, n):
    """Narrow lo .. hi to the places where -1 < at_zero + slope * i < n, by a hair, so that rounding never leads out of the padding."""
    low, high = 1e-7 - 1.0, n - 1e-7
    if abs(slope) > 1e-12:
        a, b = (low - at_zero) / slope, (high - at_zero) / slope
        return max(lo, min(a, b)), min(hi, max(a, b))
    return (lo, hi) if low < at_zero < high else (1.0, 0.0)


@kernel(inline=True)
def _trace(source, dx, dy, dz, axis, shape):
    """A ray along `axis`: first and last + 1 index, and the other two coordinates as at_zero + slope * index (lower axis first)."""
    if axis == 0:
        s, d, sa, da, sb, db = source[0], dx, source[1], dy, source[2], dz
        n, na, nb = shape[0], shape[1], shape[2]
    elif axis == 1:
        s, d, sa, da, sb, db = source[1], dy, source[0], dx, source[2], dz
        n, na, nb = shape[1], shape[0], shape[2]
    else:
        s, d, sa, da, sb, db = source[2], dz, source[0], dx, source[1], dy
        n, na, nb = shape[2], shape[0], shape[1]
    slope_a, slope_b = da / d, db / d
    zero_a, zero_b = sa - slope_a * s, sb - slope_b * s
    lo, hi = max(0.0, min(s, s + d)), min(n - 1.0, max(s, s + d))
    lo, hi = _clip(lo, hi, zero_a, slope_a, na)
    lo, hi = _clip(lo, hi, zero_b, slope_b, nb)
    return int(np.ceil(lo)), int(np.floor(hi)) + 1, zero_a, slope_a, zero_b, slope_b


@kernel(inline=True)
def _strides(axis, shape):
    """Strides in the padded volume: along the main axis, the lower and the higher of the other two."""
    x, y = (shape[1] + 2) * (shape[2] + 2), shape[2] + 2
    if axis == 0:
        return np.uint64(x), np.uint64(y), np.uint64(1)
    return (np.uint64(y), np.uint64(x), np.uint64(1)) if axis == 1 else (np.uint64(1), np.uint64(x), np.uint64(y))


@kernel
def _general_forward(start, stop, padded, shape, rays, spacing, projections):
    _, nu, nv = projections.shape
    for column in range(start, stop):
        view, u = column // nu, column % nu
        r = rays[view]
        for v in range(nv):
            dx, dy, dz = r[3] + u * r[6] + v * r[9], r[4] + u * r[7] + v * r[10], r[5] + u * r[8] + v * r[11]
            axis = _main_axis(dx, dy, dz)
            first, last, zero_a, slope_a, zero_b, slope_b = _trace(r, dx, dy, dz, axis, shape)
            s_main, s_a, s_b = _strides(axis, shape)
            total = np.float32(0)
            for i in range(first, last):
                a, b = zero_a + 1 + slope_a * i, zero_b + 1 + slope_b * i
                ja, jb = np.uint32(a), np.uint32(b)
                wa, wb = np.float32(a - ja), np.float32(b - jb)
                at = np.uint64(i + 1) * s_main + ja * s_a + jb * s_b
                low = padded[at] + wb * (padded[at + s_b] - padded[at])
                high = padded[at + s_a] + wb * (padded[at + s_a + s_b] - padded[at + s_a])
                total += low + wa * (high - low)
            length = np.sqrt((dx * spacing[0]) ** 2 + (dy * spacing[1]) ** 2 + (dz * spacing[2]) ** 2)
            main = abs(dx) if axis == 0 else (abs(dy) if axis == 1 else abs(dz))
            projections[view, u, v] = total * np.float32(length / main)


@kernel
def _general_adjoint(start, stop, projections, rays, spacing, axis, shape, padded):
    """Add the rays along `axis` to the planes start <= index < stop of that axis."""
    views, nu, nv = projections.shape
    s_main, s_a, s_b = _strides(axis, shape)
    for view in range(views):
        r = rays[view]
        for u in range(nu):
            for v in range(nv):
                dx, dy, dz = r[3] + u * r[6] + v * r[9], r[4] + u * r[7] + v * r[10], r[5] + u * r[8] + v * r[11]
                if _main_axis(dx, dy, dz) != axis:
                    continue
                first, last, zero_a, slope_a, zero_b, slope_b = _trace(r, dx, dy, dz, axis, shape)
                first, last = max(first, start), min(last, stop)
                if first >= last:
                    continue
                length = np.sqrt((dx * spacing[0]) ** 2 + (dy * spacing[1]) ** 2 + (dz * spacing[2]) ** 2)
                main = abs(dx) if axis == 0 else (abs(dy) if axis == 1 else abs(dz))
                value = projections[view, u, v] * np.float32(length / main)
                for i in range(first, last):
                    a, b = zero_a + 1 + slope_a * i, zero_b + 1 + slope_b * i
                    ja, jb = np.uint32(a), np.uint32(b)
                    wa, wb = np.float32(a - ja), np.float32(b - jb)
                    at = np.uint64(i + 1) * s_main + ja * s_a + jb * s_b
                    high = wa * value
                    low = value - high
                    padded[at] += low - wb * low
                    padded[at + s_b] += wb * low
                    padded[at + s_a] += high - wb * high
                    padded[at + s_a + s_b] += wb * high


def forward(volume: np.ndarray, rays: np.ndarray, spacing: np.ndarray, projections: np.ndarray) -> None:
    """Project `volume` [x, y, z] into `projections` [view, u, v]; `rays` (views, 12) as `index_rays` gives them."""
    views, nu, _ = projections.shape
    padded = np.pad(volume, 1).ravel()
    run_threaded(_general_forward, views * nu, padded, np.array(volume.shape), rays, spacing, projections)


def adjoint(projections: np.ndarray, rays: np.ndarray, spacing: np.ndarray, volume: np.ndarray) -> None:
    """Write the exact adjoint of `forward` into `volume` [x, y, z]."""
    shape = np.array(volume.shape)
    padded = np.zeros(shape + 2, dtype=np.float32)
    for axis in range(3):
        chunk = -(-volume.shape[axis] // (2 * threads()))
        run_threaded(_general_adjoint, volume.shape[axis], projections, rays, spacing, axis, shape, padded.ravel(), chunk=chunk)
    volume[...] = padded[1:-1, 1:-1, 1:-1]
