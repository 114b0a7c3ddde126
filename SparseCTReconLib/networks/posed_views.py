"""Views as X-GRM takes them: images cut into patches, and the rays that run through these.

A ray is told by its Pluecker coordinates

    (d, o x d),     d its unit direction, o the source,

which are the same for every point o of the ray. Space is the box of `dice_views`, so that the network meets every machine at the same size,
whatever grid is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from .dice_views import Box, shadow_matrices, upright

LEAST_VIEWS = 3
NUMBERS = 6
"""Of a ray."""


class PosedViews(NamedTuple):
    """A scan as X-GRM sees it.

    Parameters
    ----------
    images : Tensor (views, 1, rows, columns)
        Line integrals in shares of what water as wide as the box gives.
    rays : Tensor (views, h, w, 6)
        Pluecker coordinates of the rays through the middles of the patches.
    matrices : Tensor (views, 3, 4)
        From points of the box to their shadows, see `dice_views.Looks`.
    """

    images: torch.Tensor
    rays: torch.Tensor
    matrices: torch.Tensor

    def to(self, device) -> PosedViews:
        return PosedViews(*(tensor.to(device) for tensor in self))


def posed(scan: Scan, box: Box, edge: int, patch: int) -> PosedViews:
    """A scan's views for a network that looks at patches.

    Parameters
    ----------
    scan : Scan
    box : Box
        What the network knows of space.
    edge : int
        Pixels that the detector's longer edge is brought to; the other one to as many patches as keep the proportions best.
    patch : int
        Pixels along the edges of a patch.

    Raises
    ------
    InputError
        Where there are fewer than `LEAST_VIEWS` views.
    """
    if scan.views < LEAST_VIEWS:
        raise InputError(f"the scan has {scan.views} views: a learned volume needs at least {LEAST_VIEWS}", "too-few-views")
    projections, geometry = upright(scan.projections, scan.geometry)
    lengths = np.multiply(geometry.detector_shape, geometry.pixel_mm)
    rows, columns = (max(1, round(edge / patch * length / lengths.max())) for length in lengths)
    relative = torch.from_numpy(projections / np.float32(scan.mu_water * max(box.edges_mm)))[:, None]
    images = functional.interpolate(relative, (rows * patch, columns * patch), mode="bilinear", antialias=True)
    rays = torch.from_numpy(pluecker_rays(geometry, box, rows, columns)).float()
    return PosedViews(images, rays, shadow_matrices(geometry, box, geometry.detector_shape))


def pluecker_rays(geometry: Geometry, box: Box, rows: int, columns: int) -> np.ndarray:
    """Pluecker coordinates (views, rows, columns, 6) of the rays through the middles of a detector's patches: direction, moment."""
    (along_v, along_u), (nv, nu) = np.multiply(geometry.detector_shape, geometry.pixel_mm), (rows, columns)
    v, u = (((np.arange(n) + 0.5) / n - 0.5) * length for n, length in ((nv, along_v), (nu, along_u)))
    source, centre, row, column = (pose[:, None, None] for pose in (geometry.source, geometry.detector, geometry.u, geometry.v))
    direction = centre + v[:, None, None] * column + u[:, None] * row - source
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    moment = np.cross((source - box.centre_mm) / (max(box.edges_mm) / 2), direction)
    return np.concatenate([direction, moment], axis=-1)


class ModLN(nn.Module):
    """norm(x) (1 + scale(ray)) + shift(ray): tokens are told their rays (adaptive layer norm, Peebles and Xie 2023).

    It begins as a plain layer norm.

    Parameters
    ----------
    width : int
        Channels of a token.
    """

    def __init__(self, width: int):
        super().__init__()
        self.told = nn.Linear(NUMBERS, width)
        self.change = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, tokens: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
        """Tokens (..., width) and rays (..., 6); in single precision, since half of it would blur where a ray runs."""
        with torch.autocast(tokens.device.type, enabled=False):
            scale, shift = self.change(functional.silu(self.told(rays))).chunk(2, dim=-1)
            return functional.layer_norm(tokens.float(), tokens.shape[-1:]) * (1 + scale) + shift
