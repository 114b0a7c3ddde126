"""A neural attenuation field: mu(x) with parameters that learn from mu's gradient."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from ..errors import InputError
from . import hash_grid, head
from .adam import Adam
from .rays import UnitCube

POINTS_AT_ONCE = 1 << 19
"""Points that are evaluated together: of a volume, and by a compiled field."""


class Field(Protocol):
    """mu(x) in 1/mm as a function on the unit cube, on any device.

    Points are (3, n) and attenuation is (n,), float32 tensors on `device`. `scale` is the attenuation of an output of 1, and `at_once` the
    points for which `forward` keeps what `gradient` needs; of more it keeps nothing, so that all is computed twice.
    """

    scale: float
    device: str
    backend: str
    at_once: int

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Attenuation in 1/mm."""

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, object]:
        """Attenuation, and what `gradient` needs to know of it, or None."""

    def gradient(self, points: torch.Tensor, kept: object, mu_gradient: torch.Tensor) -> None:
        """Add to the parameters' gradient, given the loss's with respect to mu; without `kept` (None) the attenuation is computed anew."""

    def step(self, encoder_rate: float, head_rate: float) -> None:
        """One step of Adam with the gradient that was added up, which is then zero."""

    def descend(self, points: torch.Tensor, kept: object, mu_gradient: torch.Tensor, encoder_rate: float, head_rate: float) -> None:
        """`gradient`, then `step`."""

    def volume(self, cube: UnitCube) -> np.ndarray:
        """Attenuation [z, y, x] at the centres of the cube's voxels."""

    def weights(self) -> dict[str, torch.Tensor]:
        """What is learnt, by its names in `arrays`: float32 tensors on `device` that share the field's memory."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that training goes on from, by name."""

    def restore(self, arrays) -> None:
        """Take over what `arrays` gave."""


def volume_of(field: Field, cube: UnitCube) -> np.ndarray:
    """Attenuation [z, y, x] of any field at the centres of the cube's voxels, a few slices at a time."""
    nx, ny, nz = cube.grid.size
    slab = max(1, POINTS_AT_ONCE // (nx * ny))
    out = np.empty((nz, ny, nx), dtype=np.float32)
    for first in range(0, nz, slab):
        stop = min(first + slab, nz)
        out[first:stop] = field(cube.voxel_centres(first, stop).to(field.device)).cpu().numpy().reshape(stop - first, ny, nx)
    return out


class AttenuationField:
    """The field of hash grid and head on the CPU, with compiled kernels; a `Field`.

    Parameters
    ----------
    grid : hash_grid.HashGrid
        Encoding.
    shape : head.Head
        Network behind it.
    scale : float
        Attenuation in 1/mm of an output of 1.
    rng : numpy.random.Generator
        For the start.
    """

    device, backend, at_once = "cpu", "numba", POINTS_AT_ONCE

    def __init__(self, grid: hash_grid.HashGrid, shape: head.Head, scale: float, rng: np.random.Generator):
        self.grid, self.shape, self.scale = grid, shape, scale
        self.table, self.parameters = grid.initial_table(rng), shape.initial(rng)
        self.mask = np.ones(shape.channels, dtype=np.float32)
        self.optimisers = Adam(self.table), Adam(self.parameters)
        self._gradients = np.zeros_like(self.table), np.zeros_like(self.parameters)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return self.forward(points)[0]

    def features(self, points: torch.Tensor) -> np.ndarray:
        """What the encoding gives, (channels, n)."""
        return hash_grid.encode(points.numpy(), self.table, self.grid)

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        features = self.features(points)
        return torch.from_numpy(head.forward(features, self.parameters, self.shape, self.scale, self.mask)), features

    def gradient(self, points: torch.Tensor, kept: np.ndarray | None, mu_gradient: torch.Tensor) -> None:
        features = self.features(points) if kept is None else kept
        feature_gradient, gradient = head.backward(features, self.parameters, self.shape, self.scale, mu_gradient.numpy(), self.mask)
        hash_grid.encode_backward(points.numpy(), feature_gradient, self.grid, self._gradients[0])
        self._gradients[1][...] += gradient

    def step(self, encoder_rate: float, head_rate: float) -> None:
        for optimiser, gradient, rate in zip(self.optimisers, self._gradients, (encoder_rate, head_rate)):
            optimiser.step(gradient, rate)

    def descend(self, points, kept, mu_gradient, encoder_rate: float, head_rate: float) -> None:
        self.gradient(points, kept, mu_gradient)
        self.step(encoder_rate, head_rate)

    def volume(self, cube: UnitCube) -> np.ndarray:
        return volume_of(self, cube)

    def head_parameters(self) -> np.ndarray:
        """A copy of the head's parameters (size,), laid out as `Head.sizes` says."""
        return self.parameters.copy()

    def set_head(self, parameters: np.ndarray) -> None:
        """Start from a head that was trained before.

        Raises
        ------
        InputError
            Where the head has another number of parameters.
        """
        if np.shape(parameters) != self.parameters.shape:
            raise InputError(
                f"a head of {np.size(parameters)} parameters does not fit this network, which has {self.parameters.size}", "bad-weights"
            )
        self.parameters[...] = parameters

    def weights(self) -> dict[str, torch.Tensor]:
        return {"table": torch.from_numpy(self.table), "head": torch.from_numpy(self.parameters)}

    def arrays(self) -> dict[str, np.ndarray]:
        table, parameters = self.optimisers
        return {
            "table": self.table,
            "table_first": table.first,
            "table_second": table.second,
            "head": self.parameters,
            "head_first": parameters.first,
            "head_second": parameters.second,
            "mask": self.mask,
            "updates": np.array(table.steps),
        }

    def restore(self, arrays) -> None:
        for name, mine in self.arrays().items():
            if name != "updates":
                mine[...] = np.asarray(arrays[name]).reshape(mine.shape)
        for optimiser in self.optimisers:
            optimiser.steps = int(arrays["updates"])
