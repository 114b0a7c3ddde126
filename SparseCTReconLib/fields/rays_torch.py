"""Samples along measured rays on any device: what the compiled kernel of `rays` computes, in torch."""

from __future__ import annotations

import functools

import numpy as np
import torch

from ..geometry import Geometry
from .rays import RaySampler, UnitCube

PARALLEL = 1e-9
"""Change of a coordinate along a ray below which the ray is taken to keep it."""


def sample_rays(pixels: torch.Tensor, jitter: torch.Tensor, poses: torch.Tensor, upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Stratified points (3, rays * samples), and the distance between a ray's samples (rays,), 0 for a ray that misses the box.

    Parameters
    ----------
    pixels : torch.Tensor (rays, 3)
        View, row and column, whole numbers.
    jitter : torch.Tensor (rays, samples)
        Place of each sample in its part of the ray, 0 to 1.
    poses : torch.Tensor (views, 12)
        In the cube: source; way to the first pixel; from a column to the next; from a row to the next.
    upper : torch.Tensor (3,)
        The box reaches from 0 to here.
    """
    view, v, u = pixels.long().unbind(dim=1)
    source, first, along_u, along_v = poses[view].split(3, dim=1)
    direction = first + u[:, None].to(poses) * along_u + v[:, None].to(poses) * along_v
    crosses = direction.abs() > PARALLEL
    safe = torch.where(crosses, direction, 1.0)
    ends = torch.stack([-source / safe, (upper - source) / safe])
    beside = (~crosses & ((source < 0) | (source > upper))).any(dim=1)
    near = torch.where(crosses, ends.amin(dim=0), 0.0).amax(dim=1).clamp(min=0)
    far = torch.where(crosses, ends.amax(dim=0), 1.0).amin(dim=1).clamp(max=1)
    span = torch.where(beside, 0.0, (far - near).clamp(min=0)) / jitter.shape[1]
    along = near[:, None] + (torch.arange(jitter.shape[1], device=jitter.device) + jitter) * span[:, None]
    points = source.T[:, :, None] + along * direction.T[:, :, None]
    return points.flatten(1), span * direction.square().sum(dim=1).sqrt()


class TorchRaySampler(RaySampler):
    """A `RaySampler` whose points lie on a device; its samples' random places are drawn there, from a seed that its `rng` gives.

    Parameters
    ----------
    geometry, cube, spacing_mm
        As `RaySampler` takes them.
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, geometry: Geometry, cube: UnitCube, spacing_mm: float, device: str):
        self.device = device
        super().__init__(geometry, cube, spacing_mm)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(1 << 62)))
        jitter = torch.rand(len(pixels), self.samples, generator=generator, device=self.device)
        points, steps = sample_rays(torch.from_numpy(pixels).to(self.device), jitter, *self._constants)
        return points, steps * self.cube.edge_mm

    @functools.cached_property
    def _constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Poses and the box's far corner on the device."""
        return torch.from_numpy(self.poses).to(self.device), torch.from_numpy(self.cube.upper).to(self.device)


def ray_sampler(geometry: Geometry, cube: UnitCube, spacing_mm: float, device: str) -> RaySampler:
    """The sampler for a device: compiled on the CPU, torch elsewhere."""
    return RaySampler(geometry, cube, spacing_mm) if device == "cpu" else TorchRaySampler(geometry, cube, spacing_mm, device)
