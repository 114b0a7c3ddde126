"""What a measurement and what total variation weigh, from the data at hand instead of a number per data set.

A line integral errs by photon noise and by the mismatch of voxels and object, which at usual doses is the larger one:

    weight = sigma_model^2 / (sigma_model^2 + sigma_photon^2),   sigma_model = 3 mu_water voxel
    sigma_photon^2 = 1 / I + (electronic noise / I)^2            (I photons measured; Poisson, first order of the logarithm)

so that clean data weigh 1, and rays through bone at a low dose little.
"""

from __future__ import annotations

import numpy as np
import torch

from ..grid import Grid
from ..operators import Projector
from ..scan import Scan

MISMATCH = 3.0
"""sigma_model in units of mu_water times the voxel's edge; chosen on a head and a chest at 10^3 to 10^5 photons, 64 and 128 voxels."""

FEWEST = np.float32(1e-6)
"""Photons that are assumed at least: a ray through far too much must not overflow, nor weigh nothing over nothing."""

TV_PER_VIEW = 0.05
"""Total variation's weight over the mean curvature of one view; chosen on a head, a chest, a limb and a phantom at 10 to 50 views,
none of them held out."""


def measurement_weights(scan: Scan, grid: Grid) -> torch.Tensor | None:
    """Weights (views, v, u) of the measurements, 0 to 1; None where the scan does not know its photons."""
    if scan.photons is None:
        return None
    noise = photon_variance(scan)
    model_variance = np.float32((MISMATCH * scan.mu_water * np.cbrt(np.prod(grid.spacing_mm))) ** 2)
    return torch.from_numpy((model_variance / (model_variance + noise)).astype(np.float32))


def photon_variance(scan: Scan) -> np.ndarray:
    """Variance of each line integral (views, v, u) by photons and readout, of a scan that knows its photons."""
    counts = np.maximum(scan.photons * np.exp(-np.maximum(scan.attenuation, 0)), FEWEST)
    return 1 / counts + (float(scan.provenance.get("electronic_noise", 0.0)) / counts) ** 2


def total_variation_weight(A: Projector) -> float:
    """lambda in mm^2 for 0.5 |A x - y|^2 + lambda TV(x): in proportion to the mean curvature of a single view.

    The curvature follows voxel size, ray density and field of view. The weight does not grow with the number of views, since the
    error that total variation has to outweigh, streaks and mismatch, does not shrink with it either.
    """
    return TV_PER_VIEW * mean_curvature(A) / A.geometry.views


def mean_curvature(A: Projector, seed: int = 0) -> float:
    """Mean diagonal element of A'A in mm^2, estimated with random signs (Hutchinson)."""
    signs = torch.randint(0, 2, A.volume_shape, generator=torch.Generator().manual_seed(seed)).float().mul_(2).sub_(1)
    p = A(signs.to(A.device))
    return float(p.square().sum(dtype=torch.float64)) / signs.numel()
