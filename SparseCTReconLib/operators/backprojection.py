"""Voxel-driven weighted back-projection, the last step of FDK (not the adjoint of `projector`).

f(x) += weight(view) (sid / depth)^2  q(view, v(x), u(x)),   bilinear on the detector, zero outside it and behind the source
"""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import Geometry
from ..grid import Grid
from ._jit import kernel, run_threaded


@kernel
def _backproject(start, stop, projections, matrices, weights, volume):
    """Add all views to the planes start <= x < stop of `volume` [x, y, z]; `projections` [view, u, v]."""
    _, ny, nz = volume.shape
    views, nu, nv = projections.shape
    for i in range(start, stop):
        for view in range(views):
            m, weight = matrices[view], weights[view]
            image = projections[view]
            for j in range(ny):
                column = volume[i, j]
                a = m[0, 0] * i + m[0, 1] * j + m[0, 3]
                b = m[1, 0] * i + m[1, 1] * j + m[1, 3]
                c = m[2, 0] * i + m[2, 1] * j + m[2, 3]
                for k in range(nz):
                    inverse = np.float32(1) / np.float32(c + m[2, 2] * k)
                    u, v = np.float32(a + m[0, 2] * k) * inverse, np.float32(b + m[1, 2] * k) * inverse
                    if not (inverse > 0 and 0 <= u <= nu - 1 and 0 <= v <= nv - 1):
                        continue
                    u0, v0 = np.uint32(u), np.uint32(v)
                    u1, v1 = min(u0 + np.uint32(1), np.uint32(nu - 1)), min(v0 + np.uint32(1), np.uint32(nv - 1))
                    fu, fv = u - np.float32(u0), v - np.float32(v0)
                    near, far = image[u0], image[u1]
                    p = near[v0] + fv * (near[v1] - near[v0])
                    q = far[v0] + fv * (far[v1] - far[v0])
                    column[k] += weight * inverse * inverse * (p + fu * (q - p))


def projection_matrices(geometry: Geometry, grid: Grid) -> np.ndarray:
    """Matrices (views, 3, 4) from voxel index (x, y, z, 1) to (u d, v d, d): pixel indices and depth d in mm behind the source."""
    matrices = np.empty((geometry.views, 3, 4))
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    for view, (source, detector, u, v, normal, sdd) in enumerate(
        zip(geometry.source, geometry.detector, geometry.u, geometry.v, geometry.normal, geometry.sdd_mm)
    ):
        foot = source + sdd * normal - detector
        depth = np.append(normal, -normal @ source)
        row_u = sdd * np.append(u, -u @ source) / du + (foot @ u / du + (nu - 1) / 2) * depth
        row_v = sdd * np.append(v, -v @ source) / dv + (foot @ v / dv + (nv - 1) / 2) * depth
        matrices[view] = np.stack([row_u, row_v, depth]) @ grid.index_to_world
    return matrices


def weighted_backprojection(projections: torch.Tensor, geometry: Geometry, grid: Grid, weights: np.ndarray) -> torch.Tensor:
    """Sum over views of weight(view) / depth^2 times the projection at each voxel.

    Parameters
    ----------
    projections : tensor (views, v, u)
        Filtered projections.
    weights : array (views,)
        Factor of each view, in mm^2.

    Returns
    -------
    tensor (z, y, x)
    """
    volume = np.zeros(grid.size, dtype=np.float32)
    image = projections.permute(0, 2, 1).contiguous().numpy()
    matrices = projection_matrices(geometry, grid)
    run_threaded(_backproject, grid.size[0], image, matrices, np.asarray(weights, dtype=np.float32), volume)
    return torch.from_numpy(volume).permute(2, 1, 0)
