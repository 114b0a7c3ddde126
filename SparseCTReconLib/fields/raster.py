"""A field as a volume, and a volume's gradient as the field's: slab by slab, so that memory stays bounded.

With R(theta) the field at all voxel centres and g the gradient of a loss with respect to the volume, the gradient with respect to the
parameters is J' g, J the Jacobian of R. A random subset of the voxels gives an unbiased estimate of it,

    J' g  ~  n / m  sum_{i in subset of m}  g_i dR_i / dtheta,

for which only the subset's activations are kept or computed: gradients of all projections at once in 3D, at a fraction of the memory and
time (arXiv 2604.09884).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .field import Field
from .rays import UnitCube

POINTS = 1 << 19
"""Points that are handed to the field together."""

CACHED_POINTS = 1 << 22
"""Voxels of a grid whose centres are kept."""


class Raster:
    """The voxels of a field.

    Parameters
    ----------
    field : Field
    cube : UnitCube
        Its grid's voxels.
    """

    def __init__(self, field: Field, cube: UnitCube):
        self.field, self.cube = field, cube
        nx, ny, nz = cube.grid.size
        slices = max(1, POINTS // (nx * ny))
        self.slabs = [(first, min(first + slices, nz)) for first in range(0, nz, slices)]
        self.voxels = nx * ny * nz
        self._cached = [self._centres(*slab) for slab in self.slabs] if self.voxels <= CACHED_POINTS else None
        self._kept = None

    def _centres(self, first: int, stop: int) -> torch.Tensor:
        return self.cube.voxel_centres(first, stop).to(self.field.device)

    def points(self, slab: int) -> torch.Tensor:
        """Centres (3, n) of a slab's voxels."""
        return self._cached[slab] if self._cached else self._centres(*self.slabs[slab])

    def volume(self, keep: bool = False) -> torch.Tensor:
        """Attenuation [z, y, x] in 1/mm; `keep` what `descend` needs of it, where one slab is all."""
        if keep and len(self.slabs) == 1:
            points = self.points(0)
            mu, kept = self.field.forward(points)
            self._kept = points, kept
        else:
            mu = torch.cat([self.field(self.points(slab)) for slab in range(len(self.slabs))])
        return mu.reshape(self.cube.grid.shape)

    def descend(self, gradient: torch.Tensor, rates: tuple[float, float], share: float, rng: np.random.Generator) -> None:
        """One step of Adam, given a loss's gradient [z, y, x] at the volume that `volume` gave last.

        Parameters
        ----------
        rates : tuple of float
            Learning rates of encoder and network.
        share : float
            Part of the voxels, 0 to 1, from which the parameters' gradient is estimated.
        """
        kept, self._kept = self._kept, None
        if kept and share == 1:
            self.field.gradient(*kept, gradient.reshape(-1).contiguous())
        else:
            factor = self.voxels / self.drawn(share)
            for points, values in self._batches(gradient, share, rng):
                self.field.gradient(points, None, values * factor)
        self.field.step(*rates)

    def fit(self, target: torch.Tensor, rates: tuple[float, float], share: float, rng: np.random.Generator) -> float:
        """One step of Adam towards a volume [z, y, x]; returns the mean squared error of the voxels it saw, before it.

        Where that is no finite number, there is no step.
        """
        squared, self._kept = 0.0, None
        factor = 1 / (self.drawn(share) * self.field.scale**2)
        for points, values in self._batches(target, share, rng):
            mu, kept = self.field.forward(points)
            error = mu - values
            self.field.gradient(points, kept, error * factor)
            squared += float(error.square().sum())
        if np.isfinite(squared):
            self.field.step(*rates)
        return squared / self.drawn(share)

    def drawn(self, share: float) -> int:
        """How many voxels a share of them is."""
        return max(1, round(share * self.voxels))

    def _batches(self, volume: torch.Tensor, share: float, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Points (3, n) and what a volume [z, y, x] has there, (n,), of all voxels or of a subset in which each is as likely."""
        flat, per_slice = volume.reshape(-1), self.voxels // self.cube.grid.size[2]
        drawn = None if share == 1 else torch.from_numpy(draw(self.voxels, self.drawn(share), rng))
        for slab, ends in enumerate(self.slabs):
            first, stop = (end * per_slice for end in ends)
            points, values = self.points(slab), flat[first:stop]
            if drawn is not None:
                here = (drawn[torch.searchsorted(drawn, first) : torch.searchsorted(drawn, stop)] - first).to(self.field.device)
                points, values = points[:, here], values[here]
            for start in range(0, len(values), self.field.at_once):
                part = slice(start, start + self.field.at_once)
                yield points[:, part].contiguous(), values[part].contiguous()


def draw(count: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers (parts,) below `count`, in order: one from each of as many equal parts, all as likely."""
    return np.minimum(((np.arange(parts) + rng.random(parts)) * (count / parts)).astype(np.int64), count - 1)
