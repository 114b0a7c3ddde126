"""Total variation's gradient: of a whole volume, and of a field as a block of voxels drawn at random tells."""

from __future__ import annotations

import numpy as np
import torch

from .rays import UnitCube

EDGE = 24
"""Voxels along an edge of the block."""

ROUNDING = 1e-4
"""Differences in 1/mm (5 HU) below which total variation becomes quadratic, so that it has a gradient at 0."""


def total_variation_gradient(values: torch.Tensor) -> torch.Tensor:
    """Gradient [z, y, x] of sum sqrt(|forward differences|^2 + ROUNDING^2) with respect to `values` [z, y, x] in 1/mm."""
    differences = [torch.diff(values, dim=axis, append=values.narrow(axis, -1, 1)) for axis in range(3)]
    norm = (sum(d.square() for d in differences) + ROUNDING**2).sqrt_()
    gradient = torch.zeros_like(values)
    for axis, difference in enumerate(differences):
        flow = difference / norm
        gradient -= torch.diff(flow, dim=axis, prepend=torch.zeros_like(flow.narrow(axis, 0, 1)))
    return gradient


class SmoothnessBlock:
    """Draws blocks of neighbouring voxels and gives total variation's gradient on them.

    Parameters
    ----------
    cube : UnitCube
        Its grid's spacing is that of the block.
    base : tensor [z, y, x], optional
        Attenuation that the field is added to; blocks then lie on the voxels, else anywhere.
    """

    def __init__(self, cube: UnitCube, base: torch.Tensor | None = None):
        self.shape = tuple(min(EDGE, n) for n in cube.grid.shape)
        self.share = np.prod(cube.grid.shape) / np.prod(self.shape)
        self.base, self._under = base, 0.0
        self._step = (np.asarray(cube.grid.spacing_mm) / cube.edge_mm)[::-1]
        self._room = np.array(cube.grid.shape) - self.shape
        z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(self.shape, self._step)), indexing="ij")
        self._offsets = torch.from_numpy(np.stack([x, y, z]).reshape(3, -1).astype(np.float32))

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """Points (3, n) of a block at a random place."""
        if self.base is None:
            corner = rng.random(3) * self._room + rng.random(3)
        else:
            first = rng.integers(0, self._room + 1)
            self._under = self.base[tuple(slice(f, f + n) for f, n in zip(first, self.shape))]
            corner = first + 0.5
        return self._offsets + torch.tensor((corner * self._step)[::-1, None].astype(np.float32))

    def gradient(self, mu: torch.Tensor) -> torch.Tensor:
        """Gradient (n,) of the whole grid's total variation, as the block drawn last estimates it, with respect to its mu (n,)."""
        return total_variation_gradient(mu.reshape(self.shape) + self._under).reshape(-1) * float(self.share)
