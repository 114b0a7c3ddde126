"""VoxGS: Gaussians that stand at the centres of voxels (X-GRM, section 3.4).

What is learnt of each is its opacity, which is the voxel's attenuation, its scales and its rotation. In the paper the opacity is also the
Gaussian's density, so that a wider one is heavier, and X-rays and volume need not agree. Here a Gaussian is always as heavy as its voxel,

    density = opacity * voxel / ((2 pi)^(3/2) * scales),

and scales and rotation only say where in its surroundings that lies.
"""

from __future__ import annotations

import numpy as np
import torch

from ..gaussians import backends
from ..gaussians.cloud import Cloud
from ..geometry import Geometry
from ..grid import Grid
from ..operators import projector

NUMBERS = 8
"""Of a Gaussian: opacity, three scales, four of a quaternion."""

BEGIN, LEAST, MOST = 0.5, 0.35, 1.0
"""Standard deviations in spacings of the voxels: what 0 stands for, the smallest in the least spacing, the largest in the greatest. Between
Gaussians of .5 that stand in a row their sum varies by 1 %, between those of .4 by 9 %."""

GAUSSIANS_AT_ONCE = 1 << 20


def voxels(grid: Grid, start: int, stop: int, device="cpu") -> torch.Tensor:
    """Indices x, y, z (n, 3) of the voxels start .. stop, in the order in which an array [z, y, x] holds them."""
    flat = torch.arange(start, stop, device=device)
    nx, ny, _ = grid.size
    return torch.stack([flat % nx, flat // nx % ny, flat // (nx * ny)], dim=1).float()


def gaussians(raw: torch.Tensor, grid: Grid, start: int, unit: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The Gaussians at voxels of a grid, as a rasteriser takes them: centres (n, 3), whitening (n, 3, 3) and density (n,) in 1/mm.

    Parameters
    ----------
    raw : Tensor (n, 8)
        Numbers of any size.
    grid : Grid
        Of the voxels.
    start : int
        The first of the n voxels, see `voxels`.
    unit : float
        Attenuation in 1/mm that an opacity of 1 stands for.
    """
    spacing = torch.tensor(grid.spacing_mm, dtype=raw.dtype, device=raw.device)
    low, high = bounds = LEAST * min(grid.spacing_mm), MOST * max(grid.spacing_mm)
    begin = torch.logit(((BEGIN * spacing - low) / (high - low)).clamp(0.01, 0.99))
    upright = torch.tensor([1.0, 0, 0, 0], device=raw.device)
    centres = voxels(grid, start, start + len(raw), raw.device) * spacing
    cloud = Cloud(centres, raw[:, 0], raw[:, 1:4] + begin, raw[:, 4:] + upright, unit, bounds)
    centres, whitening, opacity = cloud.gaussians()
    return centres, whitening, opacity * (spacing / (np.sqrt(2 * np.pi) * cloud.scales())).prod(dim=1)


def render(gaussians: tuple[torch.Tensor, ...], grid: Grid, geometry: Geometry) -> torch.Tensor:
    """X-rays (views, v, u) of Gaussians that stand on a grid, differentiable; some Gaussians at a time."""
    device = gaussians[0].device
    rasteriser = backends.rasteriser(geometry, grid, device.type)
    total = torch.zeros(geometry.views, *geometry.detector_shape, device=device)
    for some in zip(*(tensor.split(GAUSSIANS_AT_ONCE) for tensor in gaussians)):
        total = total + rasteriser(*some, range(geometry.views))
    return total


def render_voxels(mu: torch.Tensor, grid: Grid, geometry: Geometry) -> torch.Tensor:
    """X-rays (views, v, u) of a volume [z, y, x], differentiable."""
    return projector(geometry, grid, mu.device.type)(mu)
