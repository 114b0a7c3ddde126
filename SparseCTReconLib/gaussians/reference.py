"""Projections and volumes of Gaussians in plain torch: what the kernels are tested against, and what runs on any device.

Every Gaussian meets every pixel or voxel; none ends at `REACH`. Gaussians are taken in chunks, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

CHUNK = 2**22
"""Pairs of a Gaussian and a pixel or voxel that are held at once."""


def project(centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, ray, shape: tuple[int, int]) -> torch.Tensor:
    """Line integrals (v, u) of Gaussians (n, 3), (n, 3, 3), (n,) in one view, whose ray is a row of `Rasteriser.rays`."""
    ray = torch.as_tensor(np.asarray(ray), dtype=centres.dtype, device=centres.device)
    nv, nu = shape
    v, u = torch.meshgrid(*(torch.arange(n, dtype=centres.dtype, device=centres.device) for n in shape), indexing="ij")
    w = (ray[3:6] + u.reshape(-1, 1) * ray[6:9] + v.reshape(-1, 1) * ray[9:12]).T
    w = w / w.norm(dim=0)
    total = centres.new_zeros(nv * nu)
    for part in parts(len(centres), nv * nu):
        q = ray[:3] - centres[part]
        along = (q @ w)[:, None]
        b = whitening[part] @ (q[:, :, None] - along * w)
        a = whitening[part] @ w
        aa, ab, bb = a.square().sum(1), (a * b).sum(1), b.square().sum(1)
        values = torch.exp(-0.5 * (bb - ab.square() / aa)) * (2 * np.pi / aa).sqrt()
        total = total + density[part] @ values
    return total.reshape(shape)


def fill(centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, spacing, first, shape) -> torch.Tensor:
    """Values [z, y, x] of Gaussians on a box of voxels; for the arguments see `Voxeliser`."""
    ticks = [(torch.arange(n, dtype=centres.dtype, device=centres.device) + f) * s for n, f, s in zip(shape, first, tuple(spacing)[::-1])]
    z, y, x = torch.meshgrid(*ticks, indexing="ij")
    places = torch.stack([x, y, z]).reshape(3, -1)
    total = centres.new_zeros(places.shape[1])
    for part in parts(len(centres), places.shape[1]):
        b = whitening[part] @ (places - centres[part][:, :, None])
        total = total + density[part] @ torch.exp(-0.5 * b.square().sum(1))
    return total.reshape(tuple(shape))


def parts(gaussians: int, places: int) -> Iterator[slice]:
    """Ranges of Gaussians that make at most `CHUNK` pairs with so many pixels or voxels."""
    step = max(1, CHUNK // places)
    return (slice(start, start + step) for start in range(0, gaussians, step))
