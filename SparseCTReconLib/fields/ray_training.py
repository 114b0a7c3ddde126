"""How a field learns from measured rays: which rays, where on them, with which loss.

    squares    |sum_i mu(x_i) dl - p|_W^2
    filtered   |F^(1/2) (sum_i mu(x_i) dl - p)|_W^2     whole detector rows, so that the ramp F can filter them
    l1         |sum_i mu(x_i) dl - p|                   as in NI-NeRF

each relative to the measurements, plus total variation on a block of voxels drawn anew in every step. Samples outside the object's hull
are dropped. Where the field is added to a volume that there is already, it learns what that volume's line integrals lack. An attraction
may be set between steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..operators import Projector
from ..operators.ramp import RampFilter
from .attraction import Attraction, AttractionBlock
from .field import Field
from .occupancy import Occupancy, silhouette_hull
from .rays import UnitCube
from .rays_torch import ray_sampler
from .smoothness import SmoothnessBlock

LOSSES = ("filtered", "squares", "l1")


@dataclass(frozen=True)
class Measurements:
    """What a field is to explain.

    Parameters
    ----------
    projections : array (views, v, u)
        Line integrals.
    weights : tensor (views, v, u) or None
        Of the measurements, 0 to 1.
    mu_water : float
        In 1/mm.
    photons : float or None
        In a pixel without an object.
    tv_weight : float
        lambda of total variation in mm^2; 0 leaves it out.
    base : array [z, y, x] or None
        Attenuation that the field is added to.
    shadows : array (views, v, u), optional
        Line integrals that show where there is air, if other than `projections`: those before anything was taken out of them.
    """

    projections: np.ndarray
    weights: torch.Tensor | None
    mu_water: float
    photons: float | None
    tv_weight: float = 0.0
    base: np.ndarray | None = None
    shadows: np.ndarray | None = None


class RayTraining:
    """Steps of Adam on rays drawn at random.

    Parameters
    ----------
    field : Field
        What learns.
    A : Projector
        Geometry and grid.
    measurements : Measurements
    loss : str
        One of `LOSSES`.
    rays : int
        Rays in a step, at least; "filtered" takes whole detector rows.
    spacing : float
        Between samples on a ray, in voxels.
    """

    def __init__(
        self, field: Field, A: Projector, measurements: Measurements, loss: str = "filtered", rays: int = 2048, spacing: float = 2.0
    ):
        self.field, self.loss, self.cube = field, loss, UnitCube(A.grid)
        _, nv, nu = measurements.projections.shape
        self.rows = max(1, round(rays / nu))
        self.sampler = ray_sampler(A.geometry, self.cube, spacing * min(A.grid.spacing_mm), field.device)
        shadows = measurements.projections if measurements.shadows is None else measurements.shadows
        hull = silhouette_hull(A, shadows, measurements.mu_water, measurements.photons)
        self.occupancy = Occupancy(self.cube, hull, field.device)
        self.outside = torch.from_numpy(~hull)
        self.measured = torch.from_numpy(self._lacking(A, measurements)).to(field.device)
        self.weights = None if measurements.weights is None else measurements.weights.to(field.device)
        self.scale = float(np.mean(np.square(measurements.projections))) or 1.0
        if loss == "l1":
            self.scale = self.scale**0.5
        self.ramp = RampFilter(nu, 1.0, "hann")
        self.ramp_scale = 1 / float(self.ramp.response.mean())
        self.tv_factor = (
            2 * measurements.tv_weight / (measurements.projections.size * float(np.mean(np.square(measurements.projections)) or 1.0))
        )
        base = None if measurements.base is None else torch.from_numpy(np.ascontiguousarray(measurements.base)).to(field.device)
        self.base = base
        self.smoothness = SmoothnessBlock(self.cube, base)
        self.attraction: Attraction | None = None

    @staticmethod
    def _lacking(A, measurements) -> np.ndarray:
        """The line integrals that are left for the field to explain."""
        if measurements.base is None:
            return np.ascontiguousarray(measurements.projections, dtype=np.float32)
        return measurements.projections - A(A.volume(measurements.base)).cpu().numpy()

    def volume(self) -> np.ndarray:
        """Attenuation [z, y, x]: the field's in the object's hull, and what it was added to."""
        values = torch.from_numpy(self.field.volume(self.cube)).masked_fill_(self.outside, 0.0)
        return (values if self.base is None else (values + self.base.cpu()).clamp_(min=0)).numpy()

    def step(self, rng: np.random.Generator, encoder_rate: float, head_rate: float) -> float:
        """One step on fresh rays and a fresh block; returns the loss before it."""
        pixels = self._draw(rng)
        points, lengths = self.sampler(pixels, rng)
        points, counts = self.occupancy.compact(points, len(pixels))
        terms = self._terms()
        parts = [points, *(term.draw(rng).to(points.device) for _, term in terms)]
        points = torch.cat(parts, dim=1)
        mu, kept = self.field.forward(points)
        on_rays, *on_voxels = mu.split([part.shape[1] for part in parts])
        slope, loss = self._data_term(pixels, lengths, counts, on_rays)
        if not np.isfinite(loss):
            raise FloatingPointError(f"the field's loss is {loss}: give smaller learning rates")
        gradients = [torch.repeat_interleave(slope, counts)]
        for (factor, term), part, values in zip(terms, parts[1:], on_voxels):
            inside = self.occupancy.contains(part)
            gradients.append(factor * term.gradient(values * inside) * inside)
        self.field.descend(points, kept, torch.cat(gradients), encoder_rate, head_rate)
        return loss

    def _terms(self) -> list:
        """Terms of the loss that look at voxels in this step, with their factors."""
        terms = [(self.tv_factor, self.smoothness)] if self.tv_factor else []
        if self.attraction and self.attraction.due():
            terms.append((1.0, AttractionBlock(self.cube, self.attraction, self.base)))
        return terms

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Pixels (rays, 3): view, row, column; whole rows where they are filtered."""
        if self.loss == "filtered":
            return self.sampler.draw(self.rows, rng)
        rays = self.rows * self.sampler.shape[2]
        return np.stack([rng.integers(0, n, rays, dtype=np.int32) for n in self.sampler.shape], axis=1)

    def _data_term(self, pixels, lengths, counts, mu) -> tuple[torch.Tensor, float]:
        """The data term's gradient with respect to mu on each ray, (rays,), and the term."""
        at = tuple(torch.from_numpy(np.ascontiguousarray(index)).long().to(mu.device) for index in pixels.T)
        error = torch.segment_reduce(mu, "sum", lengths=counts, initial=0) * lengths - self.measured[at]
        weighted = error if self.weights is None else error * self.weights[at]
        if self.loss == "l1":
            return weighted.sign() * lengths / (self.scale * len(pixels)), float(error.abs().mean()) / self.scale
        direction = self._filtered(weighted) if self.loss == "filtered" else weighted
        return 2 / (self.scale * len(pixels)) * direction * lengths, float((error * weighted).mean()) / self.scale

    def _filtered(self, rows: torch.Tensor) -> torch.Tensor:
        """Ramp-filtered detector rows, scaled to what they were on average over frequencies."""
        rows = rows.reshape(-1, self.measured.shape[2])
        if rows.device.type == "cpu":
            return torch.from_numpy(self.ramp.few_rows(rows.numpy()).astype(np.float32)).reshape(-1) * self.ramp_scale
        return self.ramp(rows).reshape(-1) * self.ramp_scale
