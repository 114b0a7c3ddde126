"""Total variation of a field, estimated on a block of voxels drawn at random."""

from __future__ import annotations

import numpy as np

from .rays import UnitCube

EDGE = 24
"""Voxels along an edge of the block."""

ROUNDING = 1e-4
"""Differences in 1/mm (5 HU) below which total variation becomes quadratic, so that it has a gradient at 0."""


class SmoothnessBlock:
    """Draws blocks of neighbouring voxels and gives total variation's gradient on them.

    Parameters
    ----------
    cube : UnitCube
        Its grid's spacing is that of the block.
    """

    def __init__(self, cube: UnitCube):
        self.shape = tuple(min(EDGE, n) for n in cube.grid.shape)
        self.share = np.prod(cube.grid.shape) / np.prod(self.shape)
        self._step = (np.asarray(cube.grid.spacing_mm) / cube.edge_mm)[::-1]
        self._room = np.array(cube.grid.shape) - self.shape
        z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(self.shape, self._step)), indexing="ij")
        self._offsets = np.stack([x, y, z]).reshape(3, -1).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Points (3, n) of a block at a random place, not bound to the voxel centres."""
        corner = ((rng.random(3) * self._room + rng.random(3)) * self._step)[::-1]
        return self._offsets + corner[:, None].astype(np.float32)

    def gradient(self, mu: np.ndarray) -> np.ndarray:
        """Gradient (n,) of the whole grid's total variation, as this block estimates it, with respect to its mu (n,)."""
        values = mu.reshape(self.shape)
        differences = [np.diff(values, axis=axis, append=np.take(values, [-1], axis=axis)) for axis in range(3)]
        norm = np.sqrt(sum(d * d for d in differences) + np.float32(ROUNDING**2))
        gradient = np.zeros_like(values)
        for axis, difference in enumerate(differences):
            flow = difference / norm
            gradient -= np.diff(flow, axis=axis, prepend=np.zeros_like(np.take(flow, [0], axis=axis)))
        return gradient.reshape(-1) * np.float32(self.share)
