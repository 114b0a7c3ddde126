"""A first reconstruction of a scan, for networks that better it in the place of making a volume of nothing but views.

From a few views total variation makes more than a network that has seen some dozens of patients. So the compact networks are shown what it
has made: a U-Net says of each voxel what is to be added and some features, and what the views show there changes that once more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..grid import Grid
from . import restoration
from .dice_views import Box, within
from .restoration import FACTOR, RestorationNetwork


class First(NamedTuple):
    """A volume and where it lies.

    Parameters
    ----------
    volume : Tensor (z, y, x)
        Attenuation relative to water.
    matrix : Tensor (3, 4)
        From a point (x, y, z, 1) of the box that is reconstructed to (x, y, z), -1 and 1 at the volume's faces.
    """

    volume: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, volume: np.ndarray, grid: Grid, box: Box) -> First:
        """Of an array [z, y, x] of attenuation relative to water on a grid."""
        if volume.shape != grid.shape:
            raise InputError(f"a first volume of shape {volume.shape} on a grid of shape {grid.shape} (z, y, x)", "bad-grid")
        to_box, size = box.voxels(grid).double(), torch.tensor(grid.size, dtype=torch.double)
        linear = torch.linalg.inv(to_box[:, :3]) * (2 / size)[:, None]
        matrix = torch.cat([linear, (-linear @ to_box[:, 3] + 1 / size - 1)[:, None]], dim=1)
        return cls(torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32)), matrix.float())

    def to(self, device) -> First:
        return First(self.volume.to(device), self.matrix.to(device))

    def at(self, known: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """What channels (c, z, y, x) on the volume's voxels show at points (n, 3) of the box, trilinear: (c, n).

        The product is written out for the same reason as in `dice_views.shadows`: mixed precision would round where a point lies.
        """
        places = sum(points[:, axis, None] * self.matrix[:, axis] for axis in range(3)) + self.matrix[:, 3]
        return within(known[None], places[None])[0]


class Betterment(nn.Module):
    """The U-Net of `restoration`, with features beside what it adds.

    Parameters
    ----------
    features : int
        Numbers for each voxel, of which the first is what is to be added.
    """

    def __init__(self, features: int):
        super().__init__()
        self.network = RestorationNetwork(outputs=features)

    def forward(self, firsts: list[First]) -> list[torch.Tensor]:
        """Of each scan (1 + features, z, y, x): the first volume, and its features."""
        volumes = [first.volume[None, None] for first in firsts]
        if len({volume.shape for volume in volumes}) == 1:
            return list(self._known(torch.cat(volumes)))
        return [self._known(volume)[0] for volume in volumes]

    def begin(self) -> None:
        """Take the weights of the restoring network that ships."""
        shipped, _ = restoration.load()
        mine, theirs = self.state_dict(), shipped.state_dict()
        for name, tensor in theirs.items():
            mine[f"network.{name}"][: len(tensor)] = tensor
        self.load_state_dict(mine)

    def _known(self, volumes: torch.Tensor) -> torch.Tensor:
        nz, ny, nx = volumes.shape[2:]
        padding = [n for edge in (nx, ny, nz) for n in (0, -edge % FACTOR)]
        padded = functional.pad(volumes, padding, mode="replicate").contiguous(memory_format=torch.channels_last_3d)
        changes = self.network.changes(padded)[:, :, :nz, :ny, :nx]
        return torch.cat([volumes, changes.float()], dim=1)


def bettered(known: torch.Tensor) -> torch.Tensor:
    """What `Betterment` makes of the first volume by itself, (z, y, x), of what it knows (1 + features, z, y, x)."""
    return known[0] + known[1]
