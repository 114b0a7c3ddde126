"""A small 3D U-Net that restores a nearly converged sparse-view volume.

It is given what total variation has made of the data, voxels of attenuation relative to water, and adds what it has learned such volumes
lack. Two-fold pixel-unshuffling keeps the finest level, at half the voxels along each axis, affordable on a CPU; there is no
normalisation, so that the network sees attenuation as it is, and the last layer starts at zero, so that it begins as the identity.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .. import resources, weight_files
from ..formats.files import named
from ..weight_files import WeightFile
from .filled import network_of

FACTOR = 8
"""Voxels along each axis must be a multiple of this; `restore` pads."""

WEIGHTS = "Weights/restoration.safetensors"
SHIPPED, NONE = "shipped", "none"

MOST = 32
"""Views up to which the shipped network is asked: it has learnt from 8 to 24, and with 50 a limb that it had not seen lost .4 dB by it."""

log = logging.getLogger(__name__)

FORMAT = "SparseCTRecon restoration 1"


def unshuffle(x: torch.Tensor) -> torch.Tensor:
    """(n, c, z, y, x) to (n, 8 c, z / 2, y / 2, x / 2): each 2 x 2 x 2 voxels become channels."""
    n, c, z, y, x_ = x.shape
    blocks = x.reshape(n, c, z // 2, 2, y // 2, 2, x_ // 2, 2)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, z // 2, y // 2, x_ // 2)


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `unshuffle`."""
    n, c, z, y, x_ = x.shape
    blocks = x.reshape(n, c // 8, 2, 2, 2, z, y, x_)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // 8, 2 * z, 2 * y, 2 * x_)


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), as many channels out as in."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.silu(self.first(functional.silu(x))))


class RestorationNetwork(nn.Module):
    """U-Net on half, quarter and eighth of the voxels along each axis.

    Parameters
    ----------
    widths : tuple of int
        Channels on the three levels.
    outputs : int
        Numbers that `changes` gives for each voxel.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 64, 96), outputs: int = 1):
        super().__init__()
        a, b, c = self.widths = widths
        self.stem = nn.Conv3d(8, a, 3, padding=1)
        self.down1 = nn.Conv3d(a, b, 2, stride=2)
        self.middle = Residual(b)
        self.down2 = nn.Conv3d(b, c, 2, stride=2)
        self.coarse = nn.Sequential(Residual(c), Residual(c))
        self.up2 = nn.ConvTranspose3d(c, b, 2, stride=2)
        self.middle_up = Residual(b)
        self.up1 = nn.ConvTranspose3d(b, a, 2, stride=2)
        self.fine = Residual(a)
        self.last = nn.Conv3d(a, 8 * outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restored (n, 1, z, y, x), water 1 and air 0; the edges must be multiples of `FACTOR`."""
        return x + self.changes(x)

    def changes(self, x: torch.Tensor) -> torch.Tensor:
        """What is to be added, (n, outputs, z, y, x)."""
        fine = self.stem(unshuffle(x))
        middle = self.middle(self.down1(fine))
        coarse = self.coarse(self.down2(middle))
        middle = self.middle_up(middle + self.up2(coarse))
        fine = self.fine(fine + self.up1(middle))
        return shuffle(self.last(functional.silu(fine)))


def restore(network: RestorationNetwork, mu: np.ndarray, mu_water: float) -> np.ndarray:
    """A volume's attenuation [z, y, x] as the network restores it, never negative; any size, in the unit of `mu_water`."""
    pad = [(0, -n % FACTOR) for n in mu.shape]
    relative = torch.from_numpy(np.pad(mu / np.float32(mu_water), pad, mode="edge"))[None, None]
    with torch.no_grad():
        restored = network(relative.contiguous(memory_format=torch.channels_last_3d))[0, 0].numpy()
    nz, ny, nx = mu.shape
    return np.maximum(restored[:nz, :ny, :nx], 0) * np.float32(mu_water)


class Restorer:
    """A network with its weights, for a scan's volumes.

    Parameters
    ----------
    network : RestorationNetwork
    source : str
        Name and checksum of its weights.
    mu_water : float
        In 1/mm.
    """

    def __init__(self, network: RestorationNetwork, source: str, mu_water: float):
        self.network, self.source, self.mu_water = network, source, mu_water

    def __call__(self, mu: np.ndarray) -> np.ndarray:
        """A volume's attenuation in 1/mm [z, y, x] as the network restores it."""
        return restore(self.network, mu, self.mu_water)


def restorer(choice: str, views: int, mu_water: float) -> Restorer | None:
    """The restorer that is asked for, see `load`; none in the place of the shipped one where there are more views than it has learnt
    from."""
    if choice == SHIPPED and views > MOST:
        log.info("%d views are more than the restoring network has learnt from: it is left out", views)
        return None
    network, file = load(choice)
    return Restorer(network, file.source, mu_water) if network else None


def load(choice="shipped") -> tuple[RestorationNetwork, WeightFile] | tuple[None, None]:
    """The network with pretrained weights, and their file.

    Parameters
    ----------
    choice : str or Path
        "shipped" for those of the library, a file, or "none".

    Raises
    ------
    InputError
        For a file that is missing, damaged, or holds something else.
    """
    if choice == NONE:
        return None, None
    path = resources.find(WEIGHTS) if choice == SHIPPED else Path(choice).expanduser()
    file = weight_files.read(path, FORMAT, "weights of the restoration network")
    with named(path):
        network = network_of(file, lambda card: RestorationNetwork(tuple(card["widths"])))
    return network.to(memory_format=torch.channels_last_3d), file


def save(network: RestorationNetwork, path, card: dict) -> None:
    """Write weights as float16, with a card of JSON values that says what they were trained on and how."""
    arrays = {name: tensor.detach().half().contiguous().numpy() for name, tensor in network.state_dict().items()}
    weight_files.write(path, FORMAT, {**card, "widths": network.widths}, arrays)
