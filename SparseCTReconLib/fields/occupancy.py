"""Where an object can be at all: the hull of its silhouettes, in which alone a field is asked.

A ray that measures next to nothing passes through air; a voxel that such a ray of any view meets holds none of the object. What is left
contains the object, whatever the views, and needs no reconstruction. Rays keep their samples in the hull, about half of them.
"""

from __future__ import annotations

import numpy as np
import torch

from ..operators import Projector
from ..operators._jit import kernel, run_threaded
from .rays import UnitCube

AIR_MM = 1.5
"""Of water: what a ray through air may measure."""

NOISE = 4.0
"""Standard deviations of the measurement in air that count as nothing."""

TOUCHED = 0.5
"""Length of air rays in a voxel, in its edges, from which on it is empty."""

MARGIN = 2
"""Voxels by which the hull is grown."""


def silhouette_hull(A: Projector, projections: np.ndarray, mu_water: float, photons: float | None) -> np.ndarray:
    """Voxels (bool [z, y, x]) that may hold some of the object.

    Parameters
    ----------
    A : Projector
        The operator.
    projections : array (views, v, u)
        Line integrals.
    mu_water : float
        Attenuation of water in 1/mm.
    photons : float or None
        In a pixel without an object, for the noise there.
    """
    from scipy.ndimage import binary_dilation

    limit = AIR_MM * mu_water + (NOISE / np.sqrt(photons) if photons else 0.0)
    air = A.projections((projections < limit).astype(np.float32))
    empty = A.T(air).cpu().numpy() > TOUCHED * float(np.cbrt(np.prod(A.grid.spacing_mm)))
    hull = binary_dilation(~empty, iterations=MARGIN)
    return hull if hull.any() else np.ones_like(hull)


@kernel
def _inside(start, stop, points, samples, hull, voxels_per_unit, kept, counts):
    nz, ny, nx = hull.shape
    for ray in range(start, stop):
        count = 0
        for p in range(ray * samples, (ray + 1) * samples):
            x = min(max(int(points[0, p] * voxels_per_unit[0]), 0), nx - 1)
            y = min(max(int(points[1, p] * voxels_per_unit[1]), 0), ny - 1)
            z = min(max(int(points[2, p] * voxels_per_unit[2]), 0), nz - 1)
            kept[p] = hull[z, y, x]
            count += kept[p]
        counts[ray] = count


@kernel
def _compact(start, stop, points, samples, kept, firsts, out):
    for ray in range(start, stop):
        at = firsts[ray]
        for p in range(ray * samples, (ray + 1) * samples):
            if kept[p]:
                for axis in range(3):
                    out[axis, at] = points[axis, p]
                at += 1


class Occupancy:
    """Drops the samples of rays that lie in empty voxels.

    Parameters
    ----------
    cube : UnitCube
        Where the samples lie.
    hull : array, bool [z, y, x]
        Voxels of the cube's grid that are not empty.
    device : str
        Where the samples are.
    """

    def __init__(self, cube: UnitCube, hull: np.ndarray, device: str = "cpu"):
        self.hull = np.ascontiguousarray(hull, dtype=np.uint8)
        self.voxels_per_unit = (cube.edge_mm / np.asarray(cube.grid.spacing_mm)).astype(np.float32)
        self._there = torch.from_numpy(self.hull).to(device)
        self._per_unit = torch.from_numpy(self.voxels_per_unit).to(device)[:, None]
        self._last = torch.tensor(self.hull.shape[::-1], device=device)[:, None] - 1

    def compact(self, points: torch.Tensor, rays: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The points (3, kept) in the hull and how many each ray has of them, (rays,), given (3, rays * samples) points."""
        if points.device.type != "cpu":
            return self._compact_elsewhere(points, rays)
        points, samples = points.numpy(), points.shape[1] // rays
        kept, counts = np.empty(points.shape[1], np.uint8), np.empty(rays, np.int64)
        run_threaded(_inside, rays, points, samples, self.hull, self.voxels_per_unit, kept, counts)
        firsts = np.cumsum(counts) - counts
        out = np.empty((3, int(counts.sum())), np.float32)
        run_threaded(_compact, rays, points, samples, kept, firsts, out)
        return torch.from_numpy(out), torch.from_numpy(counts)

    def contains(self, points: torch.Tensor) -> torch.Tensor:
        """Whether points (3, n) lie in the hull, (n,) bool."""
        x, y, z = (points * self._per_unit).long().clamp(min=0).minimum(self._last)
        return self._there[z, y, x].bool()

    def _compact_elsewhere(self, points, rays):
        kept = self.contains(points)
        return points[:, kept], kept.reshape(rays, -1).sum(dim=1)
