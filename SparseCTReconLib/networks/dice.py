"""DiCE, the network of DeepSparse: a volume from a few views in one pass (Lin et al., IEEE TMI 2026, section 3).

    maps_s    = encoder(views)                                        features of every view on scales s = 1 .. 4          (2D)
    F_s       = max over views of maps_s, where a cell's shadow falls                                                      (3D, cells^3)
    G_s       = decoder_s([quantise_s(F_s), G_(s+1)])                 from the coarsest scale to the finest                (eq. 3, 4)
    mu(x)     = points([max over views of maps_s(x) for all s, G_1(x)])                                                    (eq. 5 to 7)

From few views F_s is poor. A network that denoises mends it after its quantisation, and has learnt that from many views (eq. 11, 12).
The compact one is shown a first volume beside the views, to which it adds what comes out (`first_volume`); the paper's is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..grid import Grid
from ..scan import Scan
from .dice_configuration import COMPACT, RELEASE_STRETCH, Configuration
from .dice_layers import Encoder, PointDecoder, Stack
from .dice_views import Box, Looks, looks, shadows, within
from .first_volume import Betterment, First, bettered
from .largest import largest
from .vector_quantiser import VectorQuantiser

IMAGES_AT_ONCE = 8
POINTS_AT_ONCE = {"cpu": 1 << 13, "cuda": 1 << 18}
"""As many as make the most of a CPU's caches or of a GPU's cores."""

CORRECTION = 0.25
"""What an output of 1 adds to a first volume, in units of `Configuration.top`."""


class Features(NamedTuple):
    """What is known of b scans before a point is asked for.

    Parameters
    ----------
    maps : list of list of Tensor (views, c, v, u)
        Of each scan, of each scale.
    matrices : list of Tensor (views, 3, 4)
    volume : Tensor (b, c, z, y, x)
    quantisation, denoising : Tensor
        Losses; 0 where there is none.
    firsts : list of First
        Their first volumes, if the network is shown any.
    around : list of Tensor (1 + features, z, y, x)
        What is known of these.
    """

    maps: list[list[torch.Tensor]]
    matrices: list[torch.Tensor]
    volume: torch.Tensor
    quantisation: torch.Tensor
    denoising: torch.Tensor
    firsts: list[First] = []
    around: list[torch.Tensor] = []


class Prediction(NamedTuple):
    """Values (b, n) in units of `Configuration.top`, the losses that come with them, and first volumes (z, y, x) bettered without views."""

    values: torch.Tensor
    quantisation: torch.Tensor
    denoising: torch.Tensor
    bettered: list[torch.Tensor]


class DiCE(nn.Module):
    """The network; `forward` is for training, `reconstruct` for use."""

    def __init__(self, configuration: Configuration = COMPACT):
        super().__init__()
        self.configuration = configuration
        widths, out = configuration.widths, configuration.decoder
        self.encoder = Encoder(widths)
        self.quantisers = nn.ModuleList(VectorQuantiser(width, configuration.codes) for width in widths)
        coarser = [out] * (len(widths) - 1) + [0]
        self.decoders = nn.ModuleList(Stack(width + more, out) for width, more in zip(widths, coarser))
        self.denoisers = nn.ModuleList(Stack(width, width) for width in widths if configuration.denoising)
        shown = sum(widths) + out
        if configuration.around:
            self.first = Betterment(configuration.around)
            shown += 1 + configuration.around
        self.points = PointDecoder(shown, configuration.points, configuration.plain_output)
        if configuration.around:
            self.points.begin_at_zero()
        cells = Box((0, 0, 0), (2, 2, 2)).cells(configuration.cells, corners=configuration.release)
        self.register_buffer("cells", cells, persistent=False)
        self.frozen = False

    @property
    def multiple(self) -> int:
        """Of which an image's rows and columns must be multiples."""
        return 2 ** (len(self.configuration.widths) - 1)

    @property
    def device(self) -> torch.device:
        return self.cells.device

    def freeze(self) -> DiCE:
        """Encoder and codebooks stay as they are from now on, their statistics too."""
        self.frozen = True
        for part in (self.encoder, self.quantisers):
            part.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> DiCE:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
            self.quantisers.eval()
        return self

    def looks(self, scan: Scan, box: Box) -> Looks:
        """A scan as this network is to see it."""
        return looks(scan, box, self.configuration.path_mm(box.edges_mm), self.multiple)

    def forward(
        self, seen: list[Looks], points: torch.Tensor, few: list[int] | None = None, firsts: list[First] | None = None
    ) -> Prediction:
        """Values at points (b, n, 3) of b scans' boxes.

        Parameters
        ----------
        seen : list of Looks
        points : Tensor (b, n, 3)
        few : list of int, optional
            Of each scan's views, how many of the first stand for what a user would have; the others are there for training alone. Points
            are shown the few. The volume comes of all views, or, where the network denoises, of the few, mended towards that of all.
        firsts : list of First, optional
            For a network that is shown first volumes.
        """
        features = self.features(seen, few, firsts)
        better = [bettered(known) for known in features.around]
        return Prediction(self.decode(features, points), features.quantisation, features.denoising, better)

    def features(self, seen: list[Looks], few: list[int] | None = None, firsts: list[First] | None = None) -> Features:
        """What `decode` needs, see `forward`."""
        if bool(self.configuration.around) != bool(firsts):
            raise InputError("this network is shown a first volume of each scan, or none: give what it has learnt with", "bad-arguments")
        counts = [len(look.images) for look in seen]
        if few and not all(1 <= some <= count for some, count in zip(few, counts, strict=True)):
            raise InputError(f"{few} of {counts} views: give at least one and no more than there are", "view-count")
        if len({look.images.shape[1:] for look in seen}) == 1:
            images = self._encoded(torch.cat([look.images for look in seen]))
            maps = [list(scales) for scales in zip(*(scale.split(counts) for scale in images))]
        else:
            maps = [self._encoded(look.images) for look in seen]
        matrices = [look.matrices for look in seen]
        volume, quantisation, denoising = self._volume(maps, [shadows(matrix, self.cells) for matrix in matrices], few)
        if few:
            maps = [[scale[:some] for scale in scales] for scales, some in zip(maps, few)]
            matrices = [matrix[:some] for matrix, some in zip(matrices, few)]
        around = self.first(firsts) if firsts else []
        return Features(maps, matrices, volume, quantisation, denoising, firsts or [], around)

    def decode(self, features: Features, points: torch.Tensor) -> torch.Tensor:
        """Values (b, n) at points (b, n, 3)."""
        release = self.configuration.release
        if release:
            points = points * RELEASE_STRETCH
        pixels = []
        for maps, matrices, asked in zip(features.maps, features.matrices, points):
            at = shadows(matrices, asked)
            pixels.append(torch.cat([largest(scale, at, release) for scale in maps]))
        known = [torch.stack(pixels), within(features.volume, points, release)]
        if not features.around:
            return self.points(torch.cat(known, dim=1))
        near = torch.stack([first.at(*each) for first, *each in zip(features.firsts, features.around, points)])
        added = self.points(torch.cat([*known, near], dim=1))
        return (near[:, 0] + near[:, 1]) / self.configuration.top + CORRECTION * added

    def _encoded(self, images: torch.Tensor) -> list[torch.Tensor]:
        if images.shape[-1] % self.multiple or images.shape[-2] % self.multiple:
            raise InputError(f"images of {tuple(images.shape[-2:])} pixels: give multiples of {self.multiple}", "bad-geometry")
        if self.encoder.training or (torch.is_grad_enabled() and not self.frozen):
            maps = self.encoder(images)
        else:
            maps = [torch.cat(parts) for parts in zip(*(self.encoder(some) for some in images.split(IMAGES_AT_ONCE)))]
        return [scale.contiguous(memory_format=torch.channels_last) for scale in maps]

    def _volume(self, maps, at, few) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """G_1 of b scans, and the losses of quantisation and of denoising, means over the scales."""
        out, quantisation, denoising = None, [], []
        for scale in reversed(range(len(self.quantisers))):
            quantise = self.quantisers[scale]
            whole = self._back_projected(maps, at, scale)
            x, loss = quantise(whole)
            if self.denoisers:
                target = x.detach()
                if few:
                    x, loss = quantise(self._back_projected(maps, at, scale, few))
                x = self.denoisers[scale](x)
                denoising.append(functional.l1_loss(x, target) if few else x.new_zeros(()))
            quantisation.append(loss)
            out = self.decoders[scale](x if out is None else torch.cat([x, out], dim=1))
        losses = (torch.stack(found).mean() if found else out.new_zeros(()) for found in (quantisation, denoising))
        return out, *losses

    def _back_projected(self, maps, at, scale: int, few: list[int] | None = None) -> torch.Tensor:
        """F_s (b, c, z, y, x) of b scans, from all their views or the first few."""
        count, corners = self.configuration.cells, self.configuration.release
        few = few or [len(places) for places in at]
        found = [largest(scales[scale][:some], places[:some], corners) for scales, places, some in zip(maps, at, few)]
        return torch.stack(found).unflatten(2, (count,) * 3)


def begin(configuration: Configuration, seed: int = 0) -> DiCE:
    """A network with random weights of its own seed; the caller's random numbers go on undisturbed.

    What betters a first volume begins with the weights of the restoring network that ships.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DiCE(configuration)
    if configuration.around:
        network.first.begin()
    return network


def with_denoising(network: DiCE, denoising: bool, seed: int = 0) -> DiCE:
    """A network with all of another's weights, with new denoise layers or without any."""
    if network.configuration.denoising == denoising:
        return network
    other = begin(replace(network.configuration, denoising=denoising), seed).to(network.device)
    other.load_state_dict(network.state_dict(), strict=False)
    return other.train(network.training)


@torch.no_grad()
def reconstruct(
    network: DiCE, scan: Scan, grid: Grid, box: Box | None = None, at_once: int | None = None, first: np.ndarray | None = None
) -> np.ndarray:
    """Attenuation in 1/mm [z, y, x] on a grid, never negative.

    Parameters
    ----------
    network : DiCE
        It is left in evaluation mode.
    scan : Scan
        Any number of views.
    grid : Grid
    box : Box, optional
        What the low-resolution cells divide; `Box.of` the scan's geometry if None. Beyond it their outermost ones go on.
    at_once : int, optional
        Voxels that are decoded at one time, which bounds the memory; `POINTS_AT_ONCE` if None.
    first : array [z, y, x], optional
        For a network that is shown one: a first volume in 1/mm on the grid, as `first_volume` says.
    """
    box = box or Box.of(scan.geometry)
    shown = None if first is None else First.of(first / np.float32(scan.mu_water), grid, box)
    return volume(network, look(network, scan, box, shown), grid, box, scan.mu_water, at_once)


@torch.no_grad()
def look(network: DiCE, scan: Scan, box: Box, first: First | None = None) -> Features:
    """What the network makes of a scan before a voxel is asked for; it is left in evaluation mode."""
    firsts = [first.to(network.device)] if first else None
    return network.eval().features([network.looks(scan, box).to(network.device)], firsts=firsts)


@torch.no_grad()
def volume(network: DiCE, features: Features, grid: Grid, box: Box, mu_water: float, at_once: int | None = None) -> np.ndarray:
    """Attenuation in 1/mm [z, y, x] on a grid, never negative, of a scan that was looked at; see `reconstruct`."""
    at_once = at_once or POINTS_AT_ONCE[network.device.type]
    out = np.empty(int(np.prod(grid.shape)), np.float32)
    for first, points in _points(grid, box, network.device, at_once):
        out[first : first + len(points)] = network.decode(features, points[None])[0].float().cpu().numpy()
    return np.maximum(out, 0).reshape(grid.shape) * np.float32(network.configuration.top * mu_water)


def _points(grid: Grid, box: Box, device: torch.device, at_once: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Coordinates (n, 3) in the box of a grid's voxels, in the order of its array, with the number of the first."""
    (nx, ny, nz), matrix = grid.size, box.voxels(grid).to(device)
    for first in range(0, nx * ny * nz, at_once):
        voxel = torch.arange(first, min(first + at_once, nx * ny * nz), device=device)
        index = (voxel % nx, voxel // nx % ny, voxel // (nx * ny))
        yield first, sum(n[:, None].float() * column for n, column in zip(index, matrix.T)) + matrix[:, 3]
