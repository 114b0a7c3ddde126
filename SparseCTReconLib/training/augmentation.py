"""What a body's shape may become beside what `pairs` does to its pose, its size and its tone.

The field of displacements is drawn on a few points and smooth between them, as in MONAI's RandSmoothDeform; written out here, since a bare
GPU machine has torch alone, and since every example follows from its seed and number in whichever process.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..units import AIR_HU

POINTS = 5
"""Along each axis, at which displacements are drawn."""

MOST = 0.04
"""Largest displacement along an axis, in edges of the field: a sixth of the distance of the points, so that nothing folds."""

SMALLEST, LARGEST = 0.6, 0.9
"""Share of a body's field that is seen where the detector is too small."""


def deformed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """HU [z, y, x], displaced smoothly; the voxels at the outer faces stay in the body's field, and beyond it lies air."""
    drawn = torch.from_numpy(rng.uniform(-MOST, MOST, (1, 3, POINTS, POINTS, POINTS))).float()
    moved = 2 * functional.interpolate(_smooth(drawn), values.shape, mode="trilinear", align_corners=True)[0].movedim(0, -1)
    straight = functional.affine_grid(torch.eye(3, 4)[None], (1, 1, *values.shape), align_corners=False)
    above = torch.from_numpy(np.ascontiguousarray(values, np.float32) - np.float32(AIR_HU))[None, None]
    return functional.grid_sample(above, straight + moved, align_corners=False)[0, 0].numpy() + np.float32(AIR_HU)


def _smooth(drawn: torch.Tensor) -> torch.Tensor:
    """Displacements on a grid four times as fine, without the kinks that straight lines between the points would have."""
    fine = functional.interpolate(drawn, scale_factor=4, mode="trilinear", align_corners=True)
    return functional.avg_pool3d(functional.pad(fine, (2,) * 6, mode="replicate"), 5, stride=1)


def inner(grid_voxels: int, share: float) -> slice:
    """The middle voxels of an edge, as many as a share of it and an even number less than all."""
    left_out = round((1 - share) * grid_voxels / 2)
    return slice(left_out, grid_voxels - left_out)
