"""Projections and volumes of Gaussians by `reference`, with gradients in bounded memory: what runs on a GPU without Triton.

Every Gaussian meets every pixel or voxel, and backward once more: slow beyond some thousands of Gaussians.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ..geometry import Geometry
from ..grid import Grid
from ..operators.projector import index_rays
from . import reference
from ._gaussian import REACH

FARTHEST = 1e12
"""Distance in standard deviations from which on a Gaussian is left out, since its square would overflow."""


class TorchRasteriser:
    """As `rasteriser.Rasteriser`, on any device; for the arguments see there."""

    backend = "torch"

    def __init__(self, geometry: Geometry, grid: Grid):
        self.shape = geometry.detector_shape
        self.rays = index_rays(geometry, grid) * np.tile(grid.spacing_mm, 4)

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, views) -> torch.Tensor:
        """Line integrals (views, v, u), differentiable."""
        return torch.stack([self._view(self.rays[view], centres, whitening, density) for view in views])

    def _view(self, ray: np.ndarray, *gaussians: torch.Tensor) -> torch.Tensor:
        seen = _in_front(ray, *gaussians[:2])
        return _InParts.apply(partial(reference.project, ray=ray, shape=self.shape), *(tensor[seen] for tensor in gaussians))


class TorchVoxeliser:
    """As `voxeliser.Voxeliser`, on any device; for the arguments see there."""

    backend = "torch"

    def __init__(self, grid: Grid):
        self.grid = grid

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, first=(0, 0, 0), shape=None) -> torch.Tensor:
        """Values in 1/mm [z, y, x], differentiable."""
        fill = partial(reference.fill, spacing=self.grid.spacing_mm, first=tuple(first), shape=tuple(shape or self.grid.shape))
        there = _near(whitening.detach(), centres.detach())
        return _InParts.apply(fill, *(tensor[there] for tensor in (centres, whitening, density)))


@torch.no_grad()
def _in_front(ray: np.ndarray, centres: torch.Tensor, whitening: torch.Tensor) -> torch.Tensor:
    """Which Gaussians (n,) end before they reach the plane through the source that is parallel to the detector: those that are seen."""
    normal = np.cross(ray[6:9], ray[9:12])
    normal = torch.as_tensor(normal / np.linalg.norm(normal) * np.sign(normal @ ray[3:6]), dtype=centres.dtype, device=centres.device)
    q = centres - torch.as_tensor(ray[:3], dtype=centres.dtype, device=centres.device)
    half, _ = torch.linalg.solve_ex(whitening.transpose(1, 2), normal.expand(len(centres), 3)[:, :, None])
    return (q @ normal > REACH * half[:, :, 0].norm(dim=1)) & _near(whitening, q)


def _near(whitening: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Which Gaussians (n,) are somewhere at all, and not too far from where q (n, 3) begins."""
    return (whitening @ q[:, :, None])[:, :, 0].norm(dim=1) < FARTHEST


class _InParts(torch.autograd.Function):
    """What `evaluate` makes of Gaussians, made anew for the gradients, some Gaussians at a time."""

    @staticmethod
    def forward(ctx, evaluate, centres, whitening, density):
        ctx.save_for_backward(centres, whitening, density)
        ctx.evaluate = evaluate
        return evaluate(centres, whitening, density)

    @staticmethod
    def backward(ctx, gradient):
        to = [torch.zeros_like(tensor) for tensor in ctx.saved_tensors]
        for part in reference.parts(len(to[0]), gradient.numel()):
            leaves = [tensor[part].detach().requires_grad_() for tensor in ctx.saved_tensors]
            with torch.enable_grad():
                made = ctx.evaluate(*leaves)
            for whole, found in zip(to, torch.autograd.grad(made, leaves, gradient)):
                whole[part] = found
        return None, *to
