"""Proximal map of isotropic total variation with non-negativity, by fast gradient projection.

    prox(b) = argmin_{z >= 0} 0.5 |z - b|^2 + weight TV(z),   TV(z) = sum w |forward differences of z|,   w = 1 or given per voxel

Dual gradient projection with momentum (Beck and Teboulle 2009, IEEE Trans. Image Process. 18(11)), two passes over memory an iteration.
The dual variable can be kept between calls: a solver that calls with slowly changing `b` then needs few iterations.
"""

from __future__ import annotations

import numpy as np
import torch

from ._jit import kernel, run_threaded


@kernel
def _primal(start, stop, b, dual, weight, z):
    """z = max(0, b - weight D' dual) for the planes start <= i < stop."""
    _, ny, nz = b.shape
    for i in range(start, stop):
        for j in range(ny):
            dx, dy, dz = dual[0, i, j], dual[1, i, j], dual[2, i, j]
            bx, by = dual[0, max(i - 1, 0), j], dual[1, i, max(j - 1, 0)]
            wx, wy = np.float32(i > 0), np.float32(j > 0)
            row, out = b[i, j], z[i, j]
            out[0] = max(row[0] - weight * (wx * bx[0] - dx[0] + wy * by[0] - dy[0] - dz[0]), np.float32(0))
            for k in range(1, nz):
                spread = wx * bx[k] - dx[k] + wy * by[k] - dy[k] + dz[k - 1] - dz[k]
                out[k] = max(row[k] - weight * spread, np.float32(0))


@kernel
def _dual(start, stop, z, step, momentum, radii, dual, previous):
    """Ascend along D z, project onto balls, extrapolate; `dual` is the extrapolated point, `previous` the last projected one. `radii`
    may have one plane and row for all."""
    nx, ny, nz = z.shape
    for i in range(start, stop):
        wx = np.float32(i + 1 < nx) * step
        for j in range(ny):
            wy = np.float32(j + 1 < ny) * step
            here, right, back = z[i, j], z[min(i + 1, nx - 1), j], z[i, min(j + 1, ny - 1)]
            dx, dy, dz = dual[0, i, j], dual[1, i, j], dual[2, i, j]
            px, py, pz = previous[0, i, j], previous[1, i, j], previous[2, i, j]
            radius = radii[min(i, radii.shape[0] - 1), min(j, radii.shape[1] - 1)]
            for k in range(nz):
                above = here[k + 1] if k + 1 < nz else here[k]
                gx = dx[k] + wx * (right[k] - here[k])
                gy = dy[k] + wy * (back[k] - here[k])
                gz = dz[k] + step * (above - here[k])
                shrink = radius[k] / max(radius[k], np.sqrt(gx * gx + gy * gy + gz * gz))
                gx, gy, gz = gx * shrink, gy * shrink, gz * shrink
                dx[k], dy[k], dz[k] = gx + momentum * (gx - px[k]), gy + momentum * (gy - py[k]), gz + momentum * (gz - pz[k])
                px[k], py[k], pz[k] = gx, gy, gz


class TotalVariationProx:
    """The proximal map on volumes of one shape, with the dual variable of the last call as its start.

    Parameters
    ----------
    shape : tuple
        Shape (z, y, x) of the volumes.
    iterations : int
        Of fast gradient projection, in each call.
    """

    def __init__(self, shape: tuple[int, int, int], iterations: int = 10):
        self.iterations = iterations
        self.dual = np.zeros((3, *shape[::-1]), dtype=np.float32)
        self._radii = np.ones((1, 1, shape[0]), dtype=np.float32)

    @property
    def weights(self) -> np.ndarray:
        """Weights [z, y, x] of the voxels' differences; one plane and row [z, 1, 1] where all are 1."""
        return self._radii.T

    def weigh(self, weights: np.ndarray) -> None:
        """Set `weights`, which are positive."""
        self._radii = np.ascontiguousarray(weights.T, dtype=np.float32)

    def __call__(self, b: torch.Tensor, weight: float) -> torch.Tensor:
        """The proximal point of `b` [z, y, x]."""
        if weight == 0:
            return b.clamp(min=0)
        array = b.permute(2, 1, 0).contiguous().numpy()
        z = np.empty_like(array)
        planes, weight = len(array), np.float32(weight)
        previous, t = self.dual.copy(), 1.0
        for _ in range(self.iterations):
            t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
            momentum = np.float32((t - 1) / t_next)
            run_threaded(_primal, planes, array, self.dual, weight, z)
            run_threaded(_dual, planes, z, np.float32(1 / (12 * weight)), momentum, self._radii, self.dual, previous)
            t = t_next
        self.dual, _ = previous, self.dual
        run_threaded(_primal, planes, array, self.dual, weight, z)
        return torch.from_numpy(z).permute(2, 1, 0)
