"""Networks that better a first volume: where it is looked up, what they begin as, what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_dice import SMALL, orbit, random_scan

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import restoration
from SparseCTReconLib.networks.dice import begin, reconstruct
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.networks.first_volume import Betterment, First

GRID = Grid.centred((10, 9, 7), (4.0, 4.0, 5.0), (2.0, -1.0, 3.0))
BETTERING = replace(SMALL, plain_output=True, around=3)


def some_volume():
    return np.random.default_rng(0).random(GRID.shape).astype(np.float32)


def test_a_voxel_s_middle_shows_that_voxel():
    volume, box = some_volume(), Box((1.0, 1.0, 1.0), (60.0, 50.0, 70.0))
    first, matrix = First.of(volume, GRID, box), box.voxels(GRID)
    index = torch.tensor([[0, 0, 0], [9, 8, 6], [3, 7, 2]])
    points = index.float() @ matrix[:, :3].T + matrix[:, 3]
    found = first.at(torch.from_numpy(volume)[None], points)[0]
    np.testing.assert_allclose(found, [volume[k, j, i] for i, j, k in index.tolist()], atol=1e-4)


def test_in_mixed_precision_a_point_is_looked_up_where_it_is():
    """A product of matrices in bfloat16 would move it by a tenth of a voxel of 64, by half a one of 256."""
    grid, box = Grid.centred((64, 64, 64), (2.0,) * 3), Box((0.0, 0.0, 0.0), (130.0,) * 3)
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), grid.shape)
    first, points = First.of(ramp, grid, box), torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (200, 3))).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = first.at(first.volume[None], points)[0]
    np.testing.assert_allclose(found, points[:, 0] * 65 / 2 + 31.5, atol=1e-3)


def test_it_begins_as_the_restoring_network_that_ships():
    scan, first = random_scan(), some_volume() * 0.02
    made = reconstruct(begin(BETTERING), scan, GRID, first=first)
    network, _ = restoration.load()
    np.testing.assert_allclose(made, restoration.restore(network, first, scan.mu_water), atol=2e-4 * 0.02)


def test_views_change_what_comes_of_it_once_it_has_learnt():
    network, first = begin(BETTERING), some_volume() * 0.02
    with torch.no_grad():
        network.points.layers[-1].weight.fill_(0.3)
    one, other = (reconstruct(network, random_scan(seed=seed), GRID, first=first) for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-4


def test_volumes_of_different_sizes_can_be_of_one_batch():
    box, model = Box((0.0, 0.0, 0.0), (50.0,) * 3), Betterment(2)
    model.begin()
    grids = [GRID, Grid.centred((6, 6, 6), (4.0, 4.0, 4.0))]
    firsts = [First.of(np.ones(grid.shape, np.float32), grid, box) for grid in grids]
    together, alone = model(firsts), [model([first])[0] for first in firsts]
    for one, other in zip(together, alone):
        torch.testing.assert_close(one, other)
    assert [tuple(known.shape) for known in together] == [(3, *grid.shape) for grid in grids]


def test_a_first_volume_where_none_is_wanted_and_none_where_one_is_are_refused():
    with pytest.raises(InputError, match="shown a first volume of each scan, or none"):
        reconstruct(begin(BETTERING), random_scan(), GRID)
    with pytest.raises(InputError, match="shown a first volume of each scan, or none"):
        reconstruct(begin(SMALL), random_scan(), GRID, first=some_volume())


def test_a_first_volume_of_another_grid_is_refused():
    with pytest.raises(InputError, match="first volume of shape"):
        First.of(np.ones((2, 3, 4), np.float32), GRID, Box.of(orbit()))


def test_what_is_added_must_be_able_to_be_negative():
    with pytest.raises(InputError, match="plain output"):
        replace(SMALL, around=3)
