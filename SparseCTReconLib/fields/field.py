"""A neural attenuation field: hash encoding and head with their parameters, trained on rays or points."""

from __future__ import annotations

import numpy as np

from . import hash_grid, head
from .adam import Adam
from .rays import UnitCube


class AttenuationField:
    """mu(x) in 1/mm as a function on the unit cube.

    Parameters
    ----------
    grid : hash_grid.HashGrid
        Encoding.
    shape : head.Head
        Network behind it.
    scale : float
        Attenuation in 1/mm of an output of 1; the output has no upper bound.
    rng : numpy.random.Generator
        For the start.
    """

    def __init__(self, grid: hash_grid.HashGrid, shape: head.Head, scale: float, rng: np.random.Generator):
        self.grid, self.shape, self.scale = grid, shape, scale
        self.table, self.parameters = grid.initial_table(rng), shape.initial(rng)
        self.optimisers = Adam(self.table), Adam(self.parameters)
        self._table_gradient = np.zeros_like(self.table)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Attenuation (n,) in 1/mm at points (3, n)."""
        return self.forward(points)[0]

    def forward(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attenuation (n,) and the features that `descend` needs."""
        features = hash_grid.encode(points, self.table, self.grid)
        return head.forward(features, self.parameters, self.shape, self.scale), features

    def descend(self, points: np.ndarray, features: np.ndarray, mu_gradient: np.ndarray, table_rate: float, head_rate: float) -> None:
        """One step of Adam, given the loss's gradient (n,) with respect to mu."""
        feature_gradient, gradient = head.backward(features, self.parameters, self.shape, self.scale, mu_gradient)
        hash_grid.encode_backward(points, feature_gradient, self.grid, self._table_gradient)
        self.optimisers[0].step(self._table_gradient, table_rate)
        self.optimisers[1].step(gradient, head_rate)

    def volume(self, cube: UnitCube, slab: int = 8) -> np.ndarray:
        """Attenuation [z, y, x] at the centres of the grid's voxels."""
        nx, ny, nz = cube.grid.size
        out = np.empty((nz, ny, nx), dtype=np.float32)
        for first in range(0, nz, slab):
            stop = min(first + slab, nz)
            out[first:stop] = self(cube.voxel_centres(first, stop)).reshape(stop - first, ny, nx)
        return out

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that training goes on from, by name."""
        table, parameters = self.optimisers
        return {
            "table": self.table,
            "table_first": table.first,
            "table_second": table.second,
            "head": self.parameters,
            "head_first": parameters.first,
            "head_second": parameters.second,
            "updates": np.array(table.steps),
        }

    def restore(self, arrays) -> None:
        """Take over what `arrays` gave."""
        for name, mine in self.arrays().items():
            if name != "updates":
                mine[...] = np.asarray(arrays[name]).reshape(mine.shape)
        for optimiser in self.optimisers:
            optimiser.steps = int(arrays["updates"])
