"""Channels of a hash encoding that hold nothing but noise, found by their spectrum (NI-NeRF, Xu et al. 2025, section 2.3).

    noise(c) = mean(min(|F_c(k)|, 1)^2  if |k| >= w/4 else 0)

with F_c the Fourier transform of a w x w slice of channel c, scaled to 0 .. 1. The disc that is left out lets nothing come to more than
1 - pi/16 = 0.804, and the limit of 0.8 lies just below: only white noise reaches it, and that only on slices of about 100 pixels and
more. So it finds levels with a cell per pixel or finer that have not learnt anything; a coarser level is smooth between its vertices,
whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .rays import UnitCube

LIMIT = 0.8
"""Noise beyond which a channel, and all finer ones, are masked."""


def channel_mask(encode: Callable[[torch.Tensor], object], cube: UnitCube, device: str = "cpu") -> np.ndarray:
    """Mask (channels,), float32: 0 for the first channel that is noise and all finer ones, 1 for those before.

    Parameters
    ----------
    encode : callable
        Gives the encoding's features (channels, n), coarsest first, before any normalisation, at points (3, n) of the unit cube.
    cube : UnitCube
        Its middle slice across z is looked at.
    device : str
        Where `encode` wants its points: "cpu" or "cuda".
    """
    edge = max(cube.grid.size[:2])
    features = torch.as_tensor(encode(slice_points(cube).to(device))).detach()
    return mask_of_slice(features.reshape(len(features), edge, edge)).cpu().numpy()


def slice_points(cube: UnitCube) -> torch.Tensor:
    """Points (3, w * w) of a square lattice over the middle slice across z; w is the grid's larger size along x and y."""
    nx, ny, nz = cube.grid.size
    edge = max(nx, ny)
    along = (torch.arange(edge, dtype=torch.float32) + 0.5) / edge
    y, x = torch.meshgrid(along * float(cube.upper[1]), along * float(cube.upper[0]), indexing="ij")
    z = (nz // 2 + 0.5) / nz * float(cube.upper[2])
    return torch.stack([x, y, torch.full_like(x, z)]).reshape(3, -1)


def mask_of_slice(features: torch.Tensor) -> torch.Tensor:
    """Mask (channels,) from a slice of every channel, (channels, w, w), coarsest first."""
    noisy = torch.stack([noise(image) for image in features]) > LIMIT
    return (torch.cumsum(noisy, dim=0) == 0).to(torch.float32)


def noise(image: torch.Tensor) -> torch.Tensor:
    """How much of a channel's slice (w, w) is noise: 0 where it is constant, 0.80 where it is white noise."""
    image = image.double()
    low, high = torch.aminmax(image)
    if high == low:
        return torch.zeros_like(low)
    amplitude = torch.fft.fft2((image - low) / (high - low)).abs().clamp(max=1)
    width = len(image)
    k = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64, device=image.device)
    high_pass = k[:, None] ** 2 + k[None, :] ** 2 >= (width / 4) ** 2
    return (amplitude**2 * high_pass).mean()
