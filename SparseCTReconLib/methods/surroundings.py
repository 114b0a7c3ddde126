"""What lies even beyond the voxels that a method may work on: reconstructed coarsely, and taken out of the measurements.

    y  <-  y - A x_c       x_c: OS-SART's volume on coarse voxels about the whole object, without its part in the method's domain

So a detail of a large body can be had on fine voxels (Ziegler, Nielsen and Grass 2008, Med. Phys. 35(4)).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np

from ..classical.os_sart import os_sart
from ..classical.truncation import is_truncated
from ..grid import Grid
from ..operators import projector
from ..scan import Scan
from .domain import Domain
from .memory import voxels
from .os_sart import SLOWED

COARSE_VOXELS = 250_000
PASSES, VIEWS_PER_SUBSET = 10, 5


def without_surroundings(scan: Scan, domain: Domain) -> Scan:
    """`scan` as if there were nothing beyond the domain; itself where the domain holds the whole object."""
    if domain.object_grid is None:
        return scan
    coarse = coarser(domain.object_grid)
    A = projector(scan.geometry, coarse)
    y = A.projections(scan.projections)
    subsets = max(1, round(scan.views / VIEWS_PER_SUBSET))
    *_, (x, _) = islice(os_sart(A, y, subsets, slowed=SLOWED * is_truncated(scan)), PASSES)
    beyond = A(x.mul_(A.volume(1 - share_within(coarse, domain.grid)))).cpu().numpy()
    return replace(scan, projections=scan.projections - beyond, taken_out=beyond)


def coarser(grid: Grid) -> Grid:
    """Voxels over the same box, as many as `COARSE_VOXELS` or fewer."""
    factor = max(1.0, (voxels(grid) / COARSE_VOXELS) ** (1 / 3))
    return grid.divided(np.maximum(1, np.asarray(grid.size) / factor).astype(int))


def share_within(coarse: Grid, fine: Grid) -> np.ndarray:
    """Which part of each voxel of `coarse` lies within the box of `fine`, 0 to 1, [z, y, x]; their axes are the same."""
    low = (coarse.world_to_index @ fine.index_to_world @ [-0.5, -0.5, -0.5, 1])[:3]
    high = low + fine.extent_mm / coarse.spacing_mm
    x, y, z = (
        np.clip(np.minimum(np.arange(n) + 0.5, b) - np.maximum(np.arange(n) - 0.5, a), 0, 1) for n, a, b in zip(coarse.size, low, high)
    )
    return (z[:, None, None] * y[:, None] * x).astype(np.float32)
