"""A cloud that learns: from a volume, from projections, with Gaussians that come and go."""

import numpy as np
import pytest
import torch
from small_learners import GRID, MU_WATER, RATES, cloud, cloud_training

from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.gaussians.density_control import BEGIN, END, EVERY, DensityControl
from SparseCTReconLib.gaussians.initialise import from_volume, resembling
from SparseCTReconLib.gaussians.optimiser import CloudOptimiser
from SparseCTReconLib.gaussians.voxeliser import Voxeliser


def ball():
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in GRID.shape), indexing="ij")
    return (MU_WATER * (x**2 + y**2 + z**2 < 30)).astype(np.float32)


def test_the_first_gaussians_lie_where_the_volume_holds_something():
    made = from_volume(ball(), GRID, MU_WATER, 100, np.random.default_rng(0))
    assert len(made) == 100
    x, y, z = (made.centres / 2).round().long().unbind(1)
    assert (torch.from_numpy(ball())[z, y, x] > 0).all()


def test_there_are_no_more_gaussians_than_voxels_that_hold_something():
    assert len(from_volume(ball(), GRID, MU_WATER, 10_000, np.random.default_rng(0))) == int((ball() > 0).sum())


@pytest.mark.parametrize(
    "volume", [np.zeros((14, 15, 16), np.float32), np.pad(np.full((1, 1, 1), MU_WATER, np.float32), ((5, 8), (5, 9), (5, 10)))]
)
def test_an_empty_volume_and_a_single_voxel_give_a_cloud_too(volume):
    made = from_volume(volume, GRID, MU_WATER, 50, np.random.default_rng(0))
    assert len(made) >= 1 and torch.isfinite(made.scales()).all()


def test_a_cloud_that_resembles_a_volume_is_near_it_at_once():
    made = resembling(ball(), GRID, MU_WATER, 10_000, np.random.default_rng(0))
    there = Voxeliser(GRID)(*made.gaussians()).numpy()
    assert np.linalg.norm(there - ball()) < 0.3 * np.linalg.norm(ball())


def test_steps_towards_a_volume_come_nearer_to_it():
    training = cloud_training(resembling(ball(), GRID, MU_WATER, 200, np.random.default_rng(0)))
    losses = [training.fit(torch.from_numpy(ball()), RATES, 0.0) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("loss", ["squares", "l1-ssim"])
def test_steps_towards_the_projections_come_nearer_to_them(loss):
    training, rng = cloud_training(cloud(), loss), np.random.default_rng(0)
    losses = [training.step([0, 3], rng, RATES, 0.0) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_total_variation_makes_the_volume_smoother():
    def rough(weight):
        training, rng = cloud_training(cloud(), tv_weight=weight), np.random.default_rng(0)
        for _ in range(30):
            training.step([1, 4], rng, RATES, 0.0)
        return sum(float(np.abs(np.diff(training.volume(), axis=axis)).sum()) for axis in range(3))

    assert rough(2000.0) < 0.9 * rough(0.0)


def test_a_gradient_that_is_no_number_stops_before_the_cloud_is_changed():
    projections = torch.full((6, 18, 20), float("nan"))
    training = cloud_training(cloud(), projections=projections)
    before = training.volume()
    with pytest.raises(FloatingPointError):
        training.step([0], np.random.default_rng(0), RATES, 0.0)
    np.testing.assert_array_equal(training.volume(), before)


def control_of(of: Cloud, pull, most=1000):
    control = DensityControl(GRID, 3000, most)
    control.observe(torch.as_tensor(pull, dtype=torch.float32)[:, None] * torch.tensor([1.0, 0, 0]))
    return control


def test_a_small_gaussian_that_is_pulled_at_is_cloned_with_half_the_density():
    before = cloud(3, scale=1.0)
    after, origin = control_of(before, [0, 1, 0]).apply(before, np.random.default_rng(0))
    assert sorted(origin.tolist()) == [-1, 0, 1, 2]
    twins = after.centres[[n for n, o in enumerate(origin.tolist()) if o in (1, -1)]]
    assert torch.equal(twins[0], twins[1])
    assert float(after.density().sum()) == pytest.approx(3 * MU_WATER, rel=1e-4)


def test_a_large_gaussian_that_is_pulled_at_is_split_into_smaller_ones():
    before = cloud(2, scale=8.0)
    after, origin = control_of(before, [1, 0]).apply(before, np.random.default_rng(0))
    new = origin < 0
    assert int(new.sum()) == 2 and torch.allclose(after.scales()[new], torch.tensor(8.0 / 1.6), rtol=1e-3)
    assert float(after.density()[new].sum()) == pytest.approx(MU_WATER, rel=1e-4)


def test_gaussians_without_density_or_outside_the_grid_are_pruned():
    before = cloud(4)
    before.raw_density[0] = -40
    before.centres[2, 1] = 500
    after, origin = control_of(before, [0] * 4).apply(before, np.random.default_rng(0))
    assert origin.tolist() == [1, 3] and len(after) == 2


def test_where_all_gaussians_have_died_it_stops_with_a_reason():
    before = cloud(3)
    before.raw_density[:] = -40
    with pytest.raises(FloatingPointError, match="lost their density"):
        control_of(before, [0] * 3).apply(before, np.random.default_rng(0))


def test_there_are_never_more_gaussians_than_asked_for():
    before = cloud(10, scale=1.0)
    after, _ = control_of(before, [1] * 10, most=13).apply(before, np.random.default_rng(0))
    assert len(after) == 13


def test_density_control_works_in_its_part_of_the_run_alone():
    control = DensityControl(GRID, 3000, 100)
    due = [step for step in range(3001) if control.due(step)]
    assert due[0] == BEGIN * 3000 and due[-1] == END * 3000 and due[1] - due[0] == EVERY * 3000


def test_moments_follow_the_gaussians():
    optimiser = CloudOptimiser(cloud(3))
    optimiser.step({name: torch.ones_like(tensor) for name, tensor in optimiser.cloud.parameters().items()}, RATES.at(0, 2.0))
    optimiser.replace(optimiser.cloud.chosen([2, 0, 0]), torch.tensor([2, 0, -1]))
    first = optimiser.moments["centres"][0]
    assert torch.equal(first[0], first[1]) and float(first[2].abs().max()) == 0


def test_a_restored_optimiser_takes_the_same_step():
    def stepped(optimiser):
        optimiser.step({name: 0.5 * torch.ones_like(tensor) for name, tensor in optimiser.cloud.parameters().items()}, RATES.at(0, 2.0))
        return optimiser

    one = stepped(CloudOptimiser(cloud(3)))
    other = CloudOptimiser(cloud(5))
    other.restore(one.arrays())
    for a, b in zip(stepped(one).cloud.parameters().values(), stepped(other).cloud.parameters().values()):
        assert torch.equal(a, b)
