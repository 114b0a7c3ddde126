"""Structural similarity of pictures and of volumes, differentiable (Wang et al. 2004)."""

from __future__ import annotations

import torch
from torch.nn import functional

C1, C2 = 0.01**2, 0.03**2
TAPS = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2)
"""Of the window, not yet normalised."""


def ssim(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Structural similarity of images (n, v, u), the mean over all: 11 x 11 Gaussian window, zero padding, range 1 (Wang et al. 2004)."""
    taps = (TAPS / TAPS.sum()).to(images)

    def blurred(x):
        x = functional.conv2d(x[:, None], taps[None, None, :, None], padding=(5, 0))
        return functional.conv2d(x, taps[None, None, None, :], padding=(0, 5))[:, 0]

    mean_x, mean_y = blurred(images), blurred(references)
    variance_x, variance_y = blurred(images * images) - mean_x**2, blurred(references * references) - mean_y**2
    covariance = blurred(images * references) - mean_x * mean_y
    top = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return (top / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))).mean()


def ssim_3d(volume: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The mean of `ssim` over the axial, coronal and sagittal slices of volumes [z, y, x] (DiffNR)."""
    planes = [ssim(volume.movedim(axis, 0), reference.movedim(axis, 0)) for axis in range(3)]
    return torch.stack(planes).mean()
