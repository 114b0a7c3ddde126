"""How a cloud learns: towards a volume, or from measured projections.

squares   |A G - p|_W^2 / 2 + lambda TV(G), both as the views and the box drawn in a step estimate them
l1-ssim   |A G - p| + 0.25 (1 - SSIM(A G, p)) + 0.05 TV(G), means over the views and the box, in the units of R2-Gaussian:
          attenuation in that of water, lengths in half the grid's longest edge
An attraction may be set between steps.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from ..fields.attraction import Attraction
from ..fields.smoothness import total_variation_gradient
from ..geometry import Geometry
from ..grid import Grid
from ..operators.ssim import ssim
from . import backends
from .density_control import DensityControl
from .optimiser import CloudOptimiser

log = logging.getLogger("SparseCTReconLib.gaussians")

BOX = 32
"""Voxels along an edge of the box that total variation looks at."""

STRUCTURE, VARIATION = 0.25, 0.05


@dataclass(frozen=True)
class Rates:
    """Learning rates of the parameters, and the share of them that is left at the end.

    Parameters
    ----------
    centres : float
        In the grid's smallest spacing.
    """

    centres: float
    raw_density: float
    raw_scales: float
    rotation: float
    end: float = 0.05

    def at(self, progress: float, spacing_mm: float) -> dict[str, float]:
        """The rate of each parameter when a share of the steps is done."""
        factor = self.end**progress
        rates = {"centres": self.centres * spacing_mm, "raw_density": self.raw_density}
        rates |= {"raw_scales": self.raw_scales, "rotation": self.rotation}
        return {name: rate * factor for name, rate in rates.items()}


@dataclass(frozen=True)
class Measured:
    """What the projections of a cloud are compared with.

    Parameters
    ----------
    projections : Tensor (views, v, u)
        Line integrals.
    weights : Tensor (views, v, u) or None
        Of the measurements, 0 to 1.
    tv_weight : float
        lambda of total variation in mm^2, for squares.
    """

    projections: torch.Tensor
    weights: torch.Tensor | None
    tv_weight: float


class CloudTraining:
    """Steps of Adam on the parameters of a cloud, on the device where that lies; the log says what runs there.

    Parameters
    ----------
    optimiser : CloudOptimiser
    geometry, grid
        Views, and voxels of the volume that total variation looks at.
    measured : Measured
        On the cloud's device.
    loss : str
        "squares" or "l1-ssim".
    """

    def __init__(self, optimiser: CloudOptimiser, geometry: Geometry, grid: Grid, measured: Measured, loss: str = "squares"):
        self.optimiser, self.grid, self.measured, self.loss = optimiser, grid, measured, loss
        device = optimiser.cloud.device.type
        self.rasteriser, self.voxeliser = backends.rasteriser(geometry, grid, device), backends.voxeliser(grid, device)
        log.info("Gaussians run on %s by %s", device, self.backend)
        self.box = tuple(min(BOX, n) for n in grid.shape)
        self.unit = optimiser.cloud.unit
        self.unit_integral = self.unit * max(grid.extent_mm) / 2
        self.square = float(measured.projections.square().mean()) or 1.0
        self.attraction: Attraction | None = None

    @property
    def backend(self) -> str:
        """What runs the Gaussians."""
        return self.rasteriser.backend

    def volume(self) -> np.ndarray:
        """The cloud at the voxels of the grid, 1/mm [z, y, x]."""
        return self.voxeliser(*self.optimiser.cloud.gaussians()).cpu().numpy()

    def fit(self, wanted: torch.Tensor, rates: Rates, progress: float) -> float:
        """A step towards a volume [z, y, x] in 1/mm; returns the root mean squared difference before it, in that of water."""
        leaves = self.optimiser.leaves()
        difference = (self.voxeliser(*leaves.gaussians()) - wanted) / self.unit
        loss = difference.square().mean()
        self._descend(loss, leaves, rates, progress)
        return float(loss.detach().sqrt())

    def step(self, views, rng: np.random.Generator, rates: Rates, progress: float, control: DensityControl | None = None) -> float:
        """A step on some views and a box drawn at random; returns the loss before it."""
        leaves = self.optimiser.leaves()
        gaussians = leaves.gaussians()
        made, wanted = self.rasteriser(*gaussians, views), self.measured.projections[views]
        first = tuple(int(rng.integers(0, n - size + 1)) for n, size in zip(self.grid.shape, self.box))
        smoothness = self._smoothness(gaussians, first)
        loss = self._squares(made, wanted, views) if self.loss == "squares" else self._l1_ssim(made, wanted)
        gradients = self._descend(loss + smoothness + self._attracted(gaussians, rng), leaves, rates, progress)
        if control:
            control.observe(gradients["centres"])
        return float(loss.detach())

    def _attracted(self, gaussians, rng: np.random.Generator) -> torch.Tensor | float:
        """The attraction's term, where there is one and it is time."""
        if not (self.attraction and self.attraction.due()):
            return 0.0
        first = self.attraction.place(rng)
        return self.attraction.loss(self.voxeliser(*gaussians, first=first, shape=self.attraction.shape), first)

    def _descend(self, loss, leaves, rates: Rates, progress: float) -> dict[str, torch.Tensor]:
        tensors = leaves.parameters()
        gradients = dict(zip(tensors, torch.autograd.grad(loss, tensors.values())))
        self.optimiser.step(gradients, rates.at(progress, min(self.grid.spacing_mm)))
        return gradients

    def _squares(self, made, wanted, views) -> torch.Tensor:
        """Weighted squares, relative to the measurements'."""
        squares = (made - wanted).square()
        if self.measured.weights is not None:
            squares = squares * self.measured.weights[views]
        return squares.mean() / self.square

    def _l1_ssim(self, made, wanted) -> torch.Tensor:
        made, wanted = made / self.unit_integral, wanted / self.unit_integral
        return (made - wanted).abs().mean() + STRUCTURE * (1 - ssim(made, wanted))

    def _smoothness(self, gaussians, first) -> torch.Tensor | float:
        """Something whose gradient is that of total variation's part of the loss."""
        squares, weight = self.loss == "squares", self.measured.tv_weight
        if squares and not weight:
            return 0.0
        box = self.voxeliser(*gaussians, first=first, shape=self.box)
        share = np.prod(self.grid.shape) / np.prod(self.box)
        factor = (
            2 * weight * share / (self.measured.projections.numel() * self.square) if squares else VARIATION / (self.unit * box.numel())
        )
        return factor * (box * total_variation_gradient(box.detach())).sum()
