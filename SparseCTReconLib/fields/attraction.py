"""A volume that a representation is drawn to while it learns from the projections (DiffNR's pseudo-reference).

    lambda (1 - SSIM3D(V, R))    or    lambda |V - R|      on a box of voxels drawn anew, in every tau-th step

SSIM3D is the mean over axial, coronal and sagittal slices; attenuation counts in twice that of water, HU from -1000 to 1000.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from ..operators.ssim import ssim_3d
from .rays import UnitCube

EDGE = 64
"""Voxels along an edge of the box, which bounds the memory."""


@dataclass
class Attraction:
    """What draws.

    Parameters
    ----------
    reference : Tensor [z, y, x]
        Attenuation in 1/mm.
    mu_water : float
        In 1/mm.
    weight : float
        lambda.
    every : int
        tau, steps.
    likeness : str
        "ssim" or "l1".
    count : int
        Steps that have asked whether it is time.
    """

    reference: torch.Tensor
    mu_water: float
    weight: float
    every: int
    likeness: Literal["ssim", "l1"] = "ssim"
    count: int = 0
    shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self):
        self.shape = tuple(min(EDGE, n) for n in self.reference.shape)

    def due(self) -> bool:
        """Whether it draws in this step; asked once a step."""
        self.count += 1
        return (self.count - 1) % self.every == 0

    def place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """First index z, y, x of a box of `shape`."""
        return tuple(int(rng.integers(0, n - size + 1)) for n, size in zip(self.reference.shape, self.shape))

    def loss(self, values: torch.Tensor, first: tuple[int, int, int]) -> torch.Tensor:
        """The term of values [z, y, x] in 1/mm in the box at `first`, differentiable."""
        wanted = self.reference[tuple(slice(f, f + n) for f, n in zip(first, self.shape))].to(values.device)
        values, wanted = (x / (2 * self.mu_water) for x in (values, wanted))
        unlike = 1 - ssim_3d(values, wanted) if self.likeness == "ssim" else (values - wanted).abs().mean()
        return self.weight * unlike


class AttractionBlock:
    """Draws boxes of voxels and gives an attraction's gradient on them, as `smoothness.SmoothnessBlock` does total variation's.

    Parameters
    ----------
    cube : UnitCube
    attraction : Attraction
    base : tensor [z, y, x], optional
        Attenuation that the field is added to.
    """

    def __init__(self, cube: UnitCube, attraction: Attraction, base: torch.Tensor | None = None):
        self.cube, self.attraction, self.base = cube, attraction, base
        self._first = (0, 0, 0)

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """Points (3, n): the voxels' centres of a box at a random place."""
        self._first = self.attraction.place(rng)
        return self.cube.box_centres(self._first, self.attraction.shape)

    def gradient(self, mu: torch.Tensor) -> torch.Tensor:
        """Gradient (n,) of the term on the box drawn last with respect to the field's mu (n,)."""
        leaf = mu.detach().reshape(self.attraction.shape).requires_grad_()
        values = leaf
        if self.base is not None:
            values = leaf + self.base[tuple(slice(f, f + n) for f, n in zip(self._first, self.attraction.shape))]
        return torch.autograd.grad(self.attraction.loss(values, self._first), leaf)[0].reshape(-1)
