"""A volume that a field or a cloud is drawn to while it learns from the projections."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learners import GRID, MU_WATER, RATES, cloud, cloud_training, field_training, small_ball
from small_scanners import OBLIQUE, cubic

from SparseCTReconLib.fields import attraction as attraction_file
from SparseCTReconLib.fields.attraction import EDGE, Attraction, AttractionBlock
from SparseCTReconLib.fields.rays import UnitCube

LIKENESSES = ("ssim", "l1")


def noise(shape=(12, 13, 11), seed=0):
    """Attenuation of 0 to twice that of water, double precision."""
    return torch.from_numpy(2 * MU_WATER * np.random.default_rng(seed).random(shape))


def drawn_to(reference, weight=0.5, every=1, likeness="ssim", count=0):
    return Attraction(torch.as_tensor(reference), MU_WATER, weight, every, likeness, count)


@pytest.mark.parametrize("likeness", LIKENESSES)
def test_a_volume_that_is_the_reference_costs_nothing_and_any_other_something(likeness):
    drawn = drawn_to(noise(), likeness=likeness)
    assert float(drawn.loss(noise(), (0, 0, 0))) == pytest.approx(0, abs=1e-9)
    assert float(drawn.loss(noise(seed=1), (0, 0, 0))) > 0.05


def test_absolute_differences_are_those_of_hu_in_a_range_of_2000():
    drawn = drawn_to(noise(), weight=3.0, likeness="l1")
    assert float(drawn.loss(noise() + 0.1 * MU_WATER, (0, 0, 0))) == pytest.approx(3 * 100 / 2000)


def test_the_likeness_is_structural_similarity_as_results_are_judged_by_it():
    from SparseCTReconLib.evaluation.metrics import ssim as judged

    one, other = noise(), noise(seed=1)
    in_hu = [1000 * mu.numpy() / MU_WATER - 1000 for mu in (one, other)]
    assert float(drawn_to(one, weight=2.0).loss(other, (0, 0, 0))) == pytest.approx(2 * (1 - judged(*in_hu)), abs=1e-4)


@pytest.mark.parametrize("every, count, wanted", [(1, 0, "1111111"), (3, 0, "1001001"), (3, 2, "0100100"), (10, 1, "0000000")])
def test_it_draws_in_the_first_step_and_in_every_tau_th_from_then_on(every, count, wanted):
    drawn = drawn_to(noise(), every=every, count=count)
    assert "".join(str(int(drawn.due())) for _ in range(7)) == wanted
    assert drawn.count == count + 7


def test_boxes_lie_in_the_grid_and_reach_its_ends(monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", 4)
    drawn, rng = drawn_to(torch.zeros(9, 3, 6)), np.random.default_rng(0)
    assert drawn.shape == (4, 3, 4)
    places = np.array([drawn.place(rng) for _ in range(200)])
    assert places.min(axis=0).tolist() == [0, 0, 0] and places.max(axis=0).tolist() == [5, 0, 2]
    assert drawn_to(torch.zeros(300, 20, 1)).shape == (4, 4, 1) and EDGE == 64


def test_a_box_is_compared_with_its_own_place_of_the_reference(monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", 5)
    drawn, volume = drawn_to(noise()), noise()
    for first in ((0, 0, 0), (7, 3, 6)):
        box = volume[tuple(slice(f, f + 5) for f in first)]
        assert float(drawn.loss(box, first)) == pytest.approx(0, abs=1e-9)
        assert float(drawn.loss(box, (2, 2, 2))) > 0.05


@pytest.mark.parametrize("grid", [cubic(), OBLIQUE])
def test_a_block_s_points_are_the_centres_of_a_box_of_voxels(grid, monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", 5)
    cube = UnitCube(grid)
    drawn = drawn_to(torch.zeros(grid.shape))
    block = AttractionBlock(cube, drawn)
    every = cube.voxel_centres(0, grid.shape[0]).reshape(3, *grid.shape)
    first = drawn.place(np.random.default_rng(5))
    points = block.draw(np.random.default_rng(5)).reshape(3, 5, 5, 5)
    torch.testing.assert_close(points, every[(slice(None), *(slice(f, f + 5) for f in first))])


@pytest.mark.parametrize("likeness", LIKENESSES)
@pytest.mark.parametrize("added", [False, True])
def test_a_block_s_gradient_is_the_slope_of_its_loss(likeness, added, monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", 6)
    base = noise(cubic().shape, 2) if added else None
    drawn = drawn_to(noise(cubic().shape), likeness=likeness)
    block = AttractionBlock(UnitCube(cubic()), drawn, base)
    block.draw(np.random.default_rng(3))
    first = drawn.place(np.random.default_rng(3))
    under = base[tuple(slice(f, f + 6) for f in first)] if added else 0.0
    mu, direction = noise((6, 6, 6), 4), noise((6, 6, 6), 5) - MU_WATER
    step = 1e-6
    ends = [drawn.loss(under + mu + sign * step * direction, first) for sign in (1, -1)]
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert float(block.gradient(mu.reshape(-1)) @ direction.reshape(-1)) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("likeness, most", [("ssim", 1), ("l1", 0)])  # without kinks
def test_a_cloud_s_gradient_is_the_slope_of_its_loss(likeness, most):
    rng, step = np.random.default_rng(6), 1e-3
    longish = cloud()
    longish.raw_scales.add_(torch.from_numpy(rng.standard_normal((20, 3)).astype(np.float32)))
    training = cloud_training(longish)
    training.attraction = drawn_to(most * noise(GRID.shape).float(), 10.0, likeness=likeness)

    def loss(of):
        return training._attracted(of.gaussians(), np.random.default_rng(0))

    leaves = training.optimiser.leaves()
    gradients = torch.autograd.grad(loss(leaves), leaves.parameters().values())
    for (name, tensor), gradient in zip(leaves.parameters().items(), gradients):
        direction = torch.from_numpy(rng.standard_normal(tuple(tensor.shape)).astype(np.float32))
        ends = (replace(training.optimiser.cloud, **{name: tensor.detach() + sign * step * direction}) for sign in (1, -1))
        slope = float(np.subtract(*(loss(end) for end in ends))) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-2)


def shifted(volume):
    """Another volume than the projections show."""
    return np.roll(volume, 2, axis=2)


def field_after(steps, drawn=None, base=None):
    training, rng = field_training("filtered", base), np.random.default_rng(0)
    training.attraction = drawn
    losses = [training.step(rng, 0.02, 0.01) for _ in range(steps)]
    return training, losses


def cloud_after(steps, drawn=None):
    training, rng = cloud_training(cloud()), np.random.default_rng(0)
    training.attraction = drawn
    losses = [training.step([0, 3], rng, RATES, 0.0) for _ in range(steps)]
    return training, losses


@pytest.mark.parametrize("likeness", LIKENESSES)
@pytest.mark.parametrize("added", [False, True])
def test_a_field_that_is_drawn_to_a_volume_comes_nearer_to_it(likeness, added):
    truth = small_ball(cubic())[0].volume(cubic())
    reference = torch.from_numpy(shifted(truth))
    base = 0.5 * truth if added else None
    far, near = (
        torch.from_numpy(field_after(60, drawn, base)[0].volume()) for drawn in (None, drawn_to(reference, weight=20.0, likeness=likeness))
    )
    for likely in LIKENESSES:
        distance = drawn_to(reference, likeness=likely).loss
        assert float(distance(near, (0, 0, 0))) < 0.8 * float(distance(far, (0, 0, 0)))


@pytest.mark.parametrize("likeness", LIKENESSES)
def test_a_cloud_that_is_drawn_to_a_volume_comes_nearer_to_it(likeness):
    reference = torch.from_numpy(shifted(cloud_training(cloud(30, 0.7 * MU_WATER, 2.5)).volume()))
    far, near = (
        torch.from_numpy(cloud_after(60, drawn)[0].volume()) for drawn in (None, drawn_to(reference, weight=20.0, likeness=likeness))
    )
    for likely in LIKENESSES:
        distance = drawn_to(reference, likeness=likely).loss
        assert float(distance(near, (0, 0, 0))) < 0.8 * float(distance(far, (0, 0, 0)))


@pytest.mark.parametrize("after, shape", [(field_after, cubic().shape), (cloud_after, GRID.shape)])
def test_steps_in_which_nothing_draws_are_bit_for_bit_what_they_are_without_an_attraction(after, shape):
    def learned(steps, drawn):
        training, losses = after(steps, drawn)
        return training.volume(), losses

    def second_step_not_yet():
        return drawn_to(noise(shape).float(), 20.0, every=4, count=1)

    for steps, alike in ((3, True), (4, False)):
        (one, ones), (other, others) = learned(steps, None), learned(steps, second_step_not_yet())
        assert np.array_equal(one, other) == alike
        assert ones == others  # the losses before each step, and of the data alone


def test_outside_the_object_s_hull_a_field_is_not_drawn():
    training = field_training("filtered")
    one = torch.full(cubic().shape, MU_WATER)
    other = torch.where(training.outside, 0.3 * MU_WATER, one)
    volumes = [field_after(4, drawn_to(reference, 20.0, likeness="l1"))[0].volume() for reference in (one, other, 0.3 * one)]
    assert 0.1 < training.outside.float().mean() < 0.9
    np.testing.assert_array_equal(volumes[1], volumes[0])
    assert not np.array_equal(volumes[2], volumes[0])


def test_a_field_that_is_the_reference_with_what_it_is_added_to_is_not_drawn():
    """A fresh field adds nothing yet."""
    base = small_ball(cubic())[0].volume(cubic())
    alone, drawn, elsewhere = (
        field_after(1, of, base)[0].field.weights()
        for of in (None, drawn_to(base, 20.0, likeness="l1"), drawn_to(0 * base, 20.0, likeness="l1"))
    )
    torch.testing.assert_close(drawn, alone)
    assert not all(torch.allclose(elsewhere[name], weights) for name, weights in alone.items())


@pytest.mark.parametrize("edge", [6, EDGE])
def test_a_cloud_that_is_the_reference_already_is_not_drawn_wherever_the_box_lies(edge, monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", edge)
    training = cloud_training(cloud())
    training.attraction = drawn_to(training.volume())
    for seed in range(4):
        leaves = training.optimiser.leaves()
        loss = training._attracted(leaves.gaussians(), np.random.default_rng(seed))
        gradients = torch.autograd.grad(loss, leaves.parameters().values())
        assert float(loss.detach()) == pytest.approx(0, abs=1e-5) and max(float(g.abs().max()) for g in gradients) < 1e-4


def test_boxes_of_a_cloud_lie_all_over_the_grid(monkeypatch):
    monkeypatch.setattr(attraction_file, "EDGE", 6)
    training = cloud_training(cloud())
    reference = training.volume()
    reference[8:, 8:, 8:] += MU_WATER
    training.attraction = drawn_to(reference, likeness="l1")
    gaussians = training.optimiser.cloud.gaussians()
    differs = [float(training._attracted(gaussians, np.random.default_rng(seed))) > 1e-3 for seed in range(20)]
    assert any(differs) and not all(differs)
