"""X-GRM: a volume of a few X-rays in one pass through two transformers (Liu et al. 2025, section 3).

    F_i      = encoder(X-ray i)                                             tokens of each view's patches              (eq. 2)
    G        = fusion of ModLN(F_i, rays of i), all to all                                                            (eq. 3, 4)
    f(x)     = max over the views of G_i, bilinear where x casts its shadow; 0 where it casts none                     (eq. 6)
    Gaussian = mlp(f(x)): opacity, scales, rotation; the opacities are the volume                                      (eq. 7, 8)

The paper's maps have one token for each patch. Those of the compact size are finer: a token gives several columns and rows of them, and
two convolutions add what the X-ray shows there, since 16 x 16 pixels do not fit into one of its tokens. It is shown a first volume too: its
opacities are that volume's (`first_volume`) with what the mlp adds before the softplus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..gaussians.cloud import inverse_softplus
from ..grid import Grid
from . import voxel_gaussians
from .dice_views import Box, shadows
from .first_volume import Betterment, First
from .largest import largest
from .posed_views import ModLN, PosedViews
from .vision_transformer import Transformer, ViewEncoder

GAUSSIANS, VOXELS = "gaussians", "voxels"
HEADS = {GAUSSIANS: voxel_gaussians.NUMBERS, VOXELS: 1}
"""What a voxel is decoded to, and its numbers: a Gaussian, or its attenuation alone (the paper's ablation)."""

EMPTY = -2.0
"""Its softplus is the attenuation, in that of water, of which a network that has learnt nothing sees everything full: .13."""

HELD = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Numbers that are looked up in maps at one time."""


@dataclass(frozen=True)
class Size:
    """How large an X-GRM is.

    Parameters
    ----------
    edge, patch : int
        Pixels along the longer edge of a view, and along the edges of a patch.
    width, heads : int
        Channels of a token, and parts that attention is split into.
    encoder, fusion : int
        Blocks of the two transformers.
    features : int
        Channels of the maps in which voxels are looked up.
    finer : int
        Rows and columns of the maps for each patch.
    octaves : int
        Of sines and cosines by which the mlp is told where a voxel lies; 0 as in the paper.
    hidden : int
        Width of the mlp.
    head : str
        One of `HEADS`.
    around : int
        Features of a first volume around it that a voxel is told, see `first_volume`; 0, as in the paper, if there is none.
    """

    edge: int
    patch: int
    width: int
    heads: int
    encoder: int
    fusion: int
    features: int
    finer: int = 1
    octaves: int = 0
    hidden: int = 256
    head: str = GAUSSIANS
    around: int = 0

    def __post_init__(self):
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "head"}
        for name, number in numbers.items():
            if not isinstance(number, int) or number < (name not in ("octaves", "encoder", "fusion", "around")):
                raise InputError(f"{name} {number!r} of an X-GRM: give a whole number, 1 or more", "bad-option")
        if self.edge % self.patch or self.width % self.heads or self.head not in HEADS:
            raise InputError(
                f"an X-GRM with {self.edge} pixels in patches of {self.patch}, {self.width} channels in {self.heads} heads and the head "
                f"{self.head!r}: give multiples, and one of {', '.join(HEADS)}",
                "bad-option",
            )

    @classmethod
    def from_card(cls, values) -> Size:
        """That of a card, whose values `asdict` gave.

        Raises
        ------
        InputError
            Where something is missing, unknown or no size.
        """
        try:
            return cls(**values)
        except (TypeError, InputError) as error:
            raise InputError(f"the card's size is none of X-GRM's ({error})", "bad-weights") from None


BASE = Size(edge=256, patch=16, width=768, heads=12, encoder=12, fusion=12, features=768)
"""The paper's: two ViT-B. Its text has 16 blocks in the second one in one place, and 12 in another."""

COMPACT = Size(edge=128, patch=16, width=192, heads=6, encoder=3, fusion=4, features=32, finer=8, hidden=64, around=8)
"""What trains on a CPU: it betters a first volume."""

VIEWS_ALONE = Size(edge=128, patch=16, width=256, heads=8, encoder=4, fusion=6, features=48, finer=8, octaves=4, hidden=64)
"""As small, without a first volume, as in the paper."""

SIZES = {"base": BASE, "compact": COMPACT, "views-alone": VIEWS_ALONE}

LEAST = 1e-3
"""Attenuation relative to water that a first volume has at least, since no softplus gives nothing."""


class Maps(NamedTuple):
    """What is known of a scan before a voxel is asked for.

    Parameters
    ----------
    features : Tensor (views, c, rows, columns)
    matrices : Tensor (views, 3, 4)
        As in `PosedViews`.
    first : First, optional
        The first volume, if the network is shown one.
    around : Tensor (1 + features, z, y, x), optional
        What is known of it.
    """

    features: torch.Tensor
    matrices: torch.Tensor
    first: First | None = None
    around: torch.Tensor | None = None


class XGRM(nn.Module):
    """The network; `forward` is for training, `xgrm_result.reconstruct` for use."""

    def __init__(self, size: Size = COMPACT):
        super().__init__()
        self.size = size
        self.encoder = ViewEncoder(size.edge, size.patch, size.width, size.encoder, size.heads)
        self.told = ModLN(size.width)
        self.fusion = Transformer(size.width, size.fusion, size.heads)
        self.spread = nn.Linear(size.width, size.features * size.finer**2)
        self.detail = _detail(size.features) if size.finer > 1 else None
        self.first = Betterment(size.around) if size.around else None
        inputs = size.features + 6 * size.octaves + (1 + size.around if size.around else 0)
        layers = (nn.Linear(inputs, size.hidden), nn.SiLU(), nn.Linear(size.hidden, size.hidden), nn.SiLU())
        self.decoder = nn.Sequential(*layers)
        self.last = nn.Linear(size.hidden, HEADS[size.head])
        nn.init.normal_(self.last.weight, std=0.02)
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            self.last.bias[0] = 0 if size.around else EMPTY
            self.last.weight[0] *= not size.around

    @property
    def device(self) -> torch.device:
        return self.last.weight.device

    def spare_memory(self, sparing: bool = True) -> XGRM:
        """From now on what lies between blocks alone is kept for the gradients, and the rest made anew (gradient checkpointing)."""
        self.encoder.transformer.sparing = self.fusion.sparing = sparing
        return self

    def forward(self, views: PosedViews, box: Box, grid: Grid, first: First | None = None) -> torch.Tensor:
        """What each voxel of a grid is decoded to, (n, numbers of the head), in the order of an array [z, y, x]."""
        maps = self.look(views, first)
        return torch.cat([raw for _, raw in self.decode(maps, box, grid)])

    def look(self, views: PosedViews, first: First | None = None) -> Maps:
        """The maps of a scan's views, each with what it has learnt from the others; their order does not matter."""
        if (self.first is None) != (first is None):
            raise InputError("this network is shown a first volume of each scan, or none: give what it has learnt with", "bad-arguments")
        tokens = self.told(self.encoder(views.images), views.rays)
        n, h, w, _ = tokens.shape
        fused = self.fusion(tokens.reshape(1, n * h * w, -1)).view(n, h, w, -1)
        maps = functional.pixel_shuffle(self.spread(fused).permute(0, 3, 1, 2), self.size.finer)
        if self.detail is not None:
            images = functional.interpolate(views.images, maps.shape[2:], mode="bilinear", antialias=True)
            maps = maps + self.detail(images)
        around = None if first is None else self.first([first])[0]
        return Maps(maps.float().contiguous(memory_format=torch.channels_last), views.matrices, first, around)

    def decode(self, maps: Maps, box: Box, grid: Grid) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the first voxel and the numbers (n, numbers of the head) of some voxels at a time, through all of a grid."""
        at_once = max(1, HELD[self.device.type] // (len(maps.features) * self.size.features))
        matrix, count = box.voxels(grid).to(self.device), int(np.prod(grid.size))
        sparing = self.fusion.sparing and torch.is_grad_enabled()
        for start in range(0, count, at_once):
            index = voxel_gaussians.voxels(grid, start, min(start + at_once, count), self.device)
            points = (index[:, None] * matrix[:, :3]).sum(dim=2) + matrix[:, 3]
            yield start, (checkpoint(self.at, maps, points, use_reentrant=False) if sparing else self.at(maps, points))

    def at(self, maps: Maps, points: torch.Tensor) -> torch.Tensor:
        """Numbers (n, numbers of the head) at points (n, 3) of the box, in single precision."""
        known = largest(maps.features, shadows(maps.matrices, points)).T
        if self.size.octaves:
            turns = points[:, :, None] * (torch.pi / 2 * 2.0 ** torch.arange(self.size.octaves, device=points.device))
            known = torch.cat([known, turns.sin().flatten(1), turns.cos().flatten(1)], dim=1)
        if maps.first is not None:
            near = maps.first.at(maps.around, points).T
            known = torch.cat([known, near], dim=1)
        hidden = self.decoder(known)
        with torch.autocast(hidden.device.type, enabled=False):
            raw = self.last(hidden.float())
            if maps.first is None:
                return raw
            better = (near[:, :1] + near[:, 1:2]).float().clamp(min=LEAST)
            return torch.cat([raw[:, :1] + inverse_softplus(better), raw[:, 1:]], dim=1)


def _detail(features: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, features, 3, padding=1), nn.SiLU(), nn.Conv2d(features, features, 3, padding=1))


def begin(size: Size = COMPACT, seed: int = 0) -> XGRM:
    """A network with random weights of its own seed; the caller's random numbers go on undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = XGRM(size)
    if network.first is not None:
        network.first.begin()
    return network


def card_of(size: Size) -> dict:
    """JSON values."""
    return asdict(size)
