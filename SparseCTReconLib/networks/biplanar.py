"""Two orthogonal X-rays of a scan, laid beside the slices of a grid: row k shows what slice k casts.

Networks that repair slices are given them as what is known for certain of the whole. They are resampled to a plane through the grid's
middle, so that neither the detector's place nor its pixels matter.
"""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry
from ..grid import Grid
from ..scan import Scan


def orthogonal_views(geometry: Geometry) -> tuple[int, int]:
    """Two views whose directions are as near to a right angle as any; the first such two.

    A scan with one view gives it twice.
    """
    closeness = np.abs(geometry.normal @ geometry.normal.T).round(6)
    first, second = np.unravel_index(np.argmin(closeness), closeness.shape)
    return int(first), int(second)


def biplanar(scan: Scan, grid: Grid) -> np.ndarray:
    """The X-rays (2, z, n), n the larger of the grid's x and y.

    Line integrals over what water as wide as the grid would give, so that they are about 0 to 1; 0 where the detector does not reach.
    """
    views = orthogonal_views(scan.geometry)
    nx, ny, nz = grid.size
    axes = grid.index_to_world[:3, :3] / grid.spacing_mm
    n, width_mm = max(nx, ny), float(max(grid.extent_mm[:2]))
    across = ((np.arange(n) + 0.5) / n - 0.5) * width_mm
    along = (np.arange(nz) - (nz - 1) / 2) * grid.spacing_mm[2]
    sheets = []
    for view in views:
        sideways = np.cross(axes[:, 2], scan.geometry.normal[view])
        sideways = sideways / np.linalg.norm(sideways) if np.linalg.norm(sideways) > 1e-6 else axes[:, 0]
        points = grid.centre_mm + along[:, None, None] * axes[:, 2] + across[:, None] * sideways
        sheets.append(_looked_up(scan, view, points.reshape(-1, 3)).reshape(nz, n))
    return (np.stack(sheets) / (scan.mu_water * width_mm)).astype(np.float32)


def _looked_up(scan: Scan, view: int, points: np.ndarray) -> np.ndarray:
    """Line integrals of a view through points (n, 3), bilinear."""
    from scipy.ndimage import map_coordinates

    (nv, nu), (dv, du) = scan.geometry.detector_shape, scan.geometry.pixel_mm
    _, u, v = (values[0] for values in scan.geometry[[view]].shadows(points))
    at = np.stack([v / dv + (nv - 1) / 2, u / du + (nu - 1) / 2])
    return map_coordinates(scan.projections[view], np.nan_to_num(at, nan=-10.0), order=1, cval=0.0)
