"""Which Gaussians reach which tile of an image or a volume, in torch on any device.

A Gaussian comes with its box of tiles; a tile's list is what a kernel then adds up, always in the order of the Gaussians, so that sums come
out the same in every run. Boxes that would make too many pairs of a Gaussian and a tile are worked off region by region.

Where gsplat is installed its `isect_tiles` makes the lists of images in two calls: handed whole boxes of tiles, it needs none of what its
own projection assumes (a pinhole camera and the affine approximation of each Gaussian, which is why that is not used here).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

PAIRS = 2**22
"""Pairs of a Gaussian and a tile in a region: lists of at most some 200 MB while they are made."""


@dataclass(frozen=True)
class Region:
    """A box of neighbouring tiles, and the part of each Gaussian's box in it.

    Parameters
    ----------
    first, shape : tuple of int
        First tile and number of tiles along each axis.
    boxes : Tensor (n, axes, 2)
        First tile and last + 1 of each Gaussian, counted from `first`; where there is none, both are equal along an axis.
    """

    first: tuple[int, ...]
    shape: tuple[int, ...]
    boxes: torch.Tensor

    @functools.cached_property
    def pairs(self) -> int:
        """Pairs of a Gaussian and a tile."""
        return int(_tiles(self.boxes).sum())

    @property
    def tiles(self) -> int:
        """Tiles of the region."""
        return int(torch.Size(self.shape).numel())

    def halves(self) -> Iterator[Region]:
        """The parts on both sides of the middle of the longest axis."""
        axis = max(range(len(self.shape)), key=self.shape.__getitem__)
        middle = self.shape[axis] // 2
        for low, high in ((0, middle), (middle, self.shape[axis])):
            boxes = self.boxes.clone()
            boxes[:, axis] = boxes[:, axis].clamp(low, high) - low
            first, shape = list(self.first), list(self.shape)
            first[axis], shape[axis] = first[axis] + low, high - low
            yield Region(tuple(first), tuple(shape), boxes)


def tile_boxes(boxes: torch.Tensor, edge: int) -> torch.Tensor:
    """Boxes (n, axes, 2) in tiles, of boxes in pixels or voxels; int32, first and last + 1."""
    return torch.stack([boxes[..., 0] // edge, (boxes[..., 1] + (edge - 1)) // edge], dim=-1)


def regions(boxes: torch.Tensor, shape: tuple[int, ...], most: int | None = None) -> Iterator[Region]:
    """Regions that together are all tiles, each with at most `most` pairs (`PAIRS` by default) or of a single tile.

    Parameters
    ----------
    boxes : Tensor (n, axes, 2)
        First tile and last + 1 of each Gaussian.
    shape : tuple of int
        Tiles along each axis.
    """
    most, waiting = most or PAIRS, [Region((0,) * len(shape), tuple(shape), boxes)]
    while waiting:
        region = waiting.pop()
        if region.tiles > 1 and region.pairs > most:
            waiting.extend(region.halves())
        else:
            yield region


def by_torch(region: Region) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussians (pairs,) int32, tile by tile and ascending in each, and where each tile's begin (tiles + 1,) int32, the end included."""
    boxes, device = region.boxes, region.boxes.device
    counts = _tiles(boxes)
    owner = torch.repeat_interleave(torch.arange(len(boxes), dtype=torch.int32, device=device), counts, output_size=region.pairs)
    within = torch.arange(region.pairs, device=device) - (counts.cumsum(0) - counts)[owner]
    tile, stride = torch.zeros_like(within, dtype=torch.int32), 1
    for axis in range(len(region.shape) - 1, -1, -1):
        size = (boxes[:, axis, 1] - boxes[:, axis, 0])[owner]
        tile += ((boxes[:, axis, 0][owner] + within % size) * stride).int()
        within, stride = within // size, stride * region.shape[axis]
    tile, order = torch.sort(tile, stable=True)
    ends = torch.searchsorted(tile, torch.arange(region.tiles + 1, dtype=torch.int32, device=device), out_int32=True)
    return owner[order], ends


def by_gsplat(region: Region) -> tuple[torch.Tensor, torch.Tensor]:
    """The same lists by gsplat, of regions with two axes.

    Each Gaussian's box of tiles is handed over as a box about its middle. In tiles of two units middle and half-width are whole numbers, so
    that gsplat's rounding finds exactly that box again; depths that count up leave the Gaussians of a tile in their order.
    """
    gsplat = library()
    rows, columns = region.shape
    boxes = region.boxes.flip(1)  # gsplat has x before y
    size = (boxes[..., 1] - boxes[..., 0]) * (_tiles(boxes) > 0)[:, None]
    middles, depths = boxes.sum(dim=2).float(), torch.arange(len(boxes), dtype=torch.float32, device=boxes.device)
    _, keys, owner = gsplat.isect_tiles(middles[None], size[None].int(), depths[None], 2, columns, rows)
    begins = gsplat.isect_offset_encode(keys, 1, columns, rows).reshape(-1)
    return owner, torch.cat([begins, begins.new_full((1,), len(owner))])


def library():
    """The module gsplat."""
    import gsplat

    return gsplat


def gsplat_fails(device: str) -> str | None:
    """Why gsplat does not make lists on `device`, None where it does: versions before 1.5 took one radius for both axes."""
    boxes = torch.tensor([[[0, 2], [1, 3]], [[0, 0], [0, 0]], [[1, 2], [0, 3]]], dtype=torch.int32, device=device)
    region = Region((0, 0), (2, 3), boxes)
    try:
        same = [torch.equal(ours.int(), theirs.int()) for ours, theirs in zip(by_torch(region), by_gsplat(region))]
    except Exception as error:  # no compiler for its kernels, another signature: whatever it is, torch is there
        return f"{type(error).__name__}: {error}"
    return None if all(same) else "its lists differ from those that torch makes: it may be older than 1.5"


def _tiles(boxes: torch.Tensor) -> torch.Tensor:
    """Tiles (n,) of each box, int64."""
    return (boxes[..., 1] - boxes[..., 0]).prod(dim=1)
