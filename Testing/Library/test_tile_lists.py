"""Lists of the Gaussians that reach each tile: as one finds them tile by tile, in bounded pieces, by torch and by gsplat."""

import inspect
import sys

import numpy as np
import played_gsplat
import pytest
import torch

from SparseCTReconLib.gaussians import tile_lists
from SparseCTReconLib.gaussians.tile_lists import Region, by_gsplat, by_torch, regions, tile_boxes

SHAPES = {"image": (5, 4), "row": (1, 9), "volume": (3, 4, 2)}


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(tile_lists, "library", lambda: played_gsplat)


def boxes_in(shape, count=60, seed=0):
    """Boxes of tiles (count, axes, 2), every fifth empty, some of all tiles."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(0, np.array(shape)[None, :, None] + 1, (count, len(shape), 2)), axis=2)
    ends[ends[..., 0] == ends[..., 1]] = 0
    ends[(ends[..., 0] == ends[..., 1]).any(axis=1) | (np.arange(count) % 5 == 0)] = 0
    ends[3] = np.stack([np.zeros(len(shape)), shape], axis=1)
    return torch.from_numpy(ends.astype(np.int32))


def spelt_out(boxes, shape):
    """The Gaussians of each tile, tile by tile."""
    return [
        [g for g, box in enumerate(boxes.tolist()) if all(low <= at < high for at, (low, high) in zip(tile, box))]
        for tile in np.ndindex(*shape)
    ]


def listed(region, maker):
    owners, ends = maker(region)
    assert owners.dtype == ends.dtype == torch.int32 and len(ends) == region.tiles + 1
    return [owners[begin:end].tolist() for begin, end in zip(ends[:-1], ends[1:])]


@pytest.mark.parametrize("name", SHAPES)
def test_a_tile_lists_the_gaussians_whose_boxes_hold_it_in_their_order(name):
    shape = SHAPES[name]
    boxes = boxes_in(shape)
    assert listed(Region((0,) * len(shape), shape, boxes), by_torch) == spelt_out(boxes, shape)


@pytest.mark.parametrize("name", ["image", "row"])
def test_gsplat_makes_the_same_lists(name, played):
    shape = SHAPES[name]
    boxes = boxes_in(shape)
    region = Region((0, 0), shape, boxes)
    assert listed(region, by_gsplat) == spelt_out(boxes, shape)
    for ours, theirs in zip(by_torch(region), by_gsplat(region)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("maker", [by_torch, by_gsplat])
def test_where_no_gaussian_is_seen_the_lists_are_empty(maker, played):
    for count in (0, 7):
        region = Region((0, 0), (2, 3), torch.zeros(count, 2, 2, dtype=torch.int32))
        assert listed(region, maker) == [[]] * 6


@pytest.mark.parametrize("most", [1, 7, 40, 10_000])
@pytest.mark.parametrize("name", SHAPES)
def test_regions_are_all_tiles_once_with_few_pairs_each(name, most):
    shape = SHAPES[name]
    boxes = boxes_in(shape)
    found, wanted = np.empty(shape, object), spelt_out(boxes, shape)
    for region in regions(boxes, shape, most):
        assert region.pairs <= most or region.tiles == 1
        for at, tile in zip(np.ndindex(*region.shape), listed(region, by_torch)):
            place = tuple(np.add(region.first, at))
            assert found[place] is None
            found[place] = tile
    assert list(found.reshape(-1)) == wanted


def test_a_box_of_pixels_lies_in_the_tiles_that_hold_its_pixels():
    boxes = torch.tensor([[[0, 16], [15, 17]], [[0, 0], [0, 0]], [[16, 33], [31, 32]]], dtype=torch.int32)
    assert tile_boxes(boxes, 16).tolist() == [[[0, 1], [0, 2]], [[0, 0], [0, 0]], [[1, 3], [1, 2]]]


def test_gsplat_is_tried_before_it_is_trusted(played, monkeypatch):
    assert tile_lists.gsplat_fails("cpu") is None
    honest = played_gsplat.isect_tiles
    monkeypatch.setattr(played_gsplat, "isect_tiles", lambda means, *others: honest(means + 2, *others))
    assert "lists differ" in tile_lists.gsplat_fails("cpu")
    monkeypatch.setattr(played_gsplat, "isect_tiles", lambda means, radii, depths, tile_size: None)
    assert "TypeError" in tile_lists.gsplat_fails("cpu")


def test_without_gsplat_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    assert "gsplat" in tile_lists.gsplat_fails("cpu")


@pytest.mark.parametrize("name", ["isect_tiles", "isect_offset_encode"])
def test_the_played_module_has_gsplat_s_signatures(name):
    real = pytest.importorskip("gsplat.cuda._wrapper", exc_type=ImportError)
    assert list(inspect.signature(getattr(played_gsplat, name)).parameters) == list(inspect.signature(getattr(real, name)).parameters)
