"""The object's hull, the samples that are kept in it, and the gradient of each loss on rays."""

import numpy as np
import pytest
import torch
from small_learners import MU_WATER, field_training, small_ball
from small_scanners import OBLIQUE, cubic

from SparseCTReconLib.fields.occupancy import Occupancy, silhouette_hull
from SparseCTReconLib.fields.ray_training import LOSSES
from SparseCTReconLib.fields.rays import UnitCube


@pytest.mark.parametrize("grid", [cubic(), OBLIQUE])
def test_the_hull_holds_the_whole_object_and_little_else(grid):
    phantom, A, projections = small_ball(grid)
    hull, truth = silhouette_hull(A, projections, MU_WATER, None), phantom.volume(grid)
    assert hull[truth > 0].all()
    assert hull.mean() < 0.75


def test_noise_does_not_fill_the_air():
    _, A, projections = small_ball(cubic())
    noise = 0.01 * np.random.default_rng(0).standard_normal(projections.shape).astype(np.float32)
    clean, noisy = silhouette_hull(A, projections, MU_WATER, None), silhouette_hull(A, projections + noise, MU_WATER, 1e4)
    assert noisy.mean() < 1.3 * clean.mean()


def test_where_no_ray_sees_air_anything_may_be_everywhere():
    _, A, projections = small_ball(cubic())
    assert silhouette_hull(A, projections + 1, MU_WATER, None).all()


def test_a_scan_of_air_leaves_the_field_somewhere_to_be():
    _, A, projections = small_ball(cubic())
    assert silhouette_hull(A, 0 * projections, MU_WATER, None).all()


def test_the_samples_that_are_kept_are_those_in_the_hull_ray_by_ray():
    cube, rng = UnitCube(OBLIQUE), np.random.default_rng(1)
    hull = rng.random(OBLIQUE.shape) < 0.4
    points = torch.from_numpy((rng.uniform(-0.01, 1.01, (3, 30 * 20)) * cube.upper[:, None]).astype(np.float32))
    occupancy = Occupancy(cube, hull)
    kept, counts = occupancy.compact(points, 30)
    index = np.floor(points.numpy() * cube.edge_mm / np.array(OBLIQUE.spacing_mm)[:, None]).astype(int)
    x, y, z = np.clip(index, 0, np.array(OBLIQUE.size)[:, None] - 1)
    np.testing.assert_array_equal(occupancy.contains(points), hull[z, y, x])
    np.testing.assert_array_equal(kept, points[:, hull[z, y, x]])
    np.testing.assert_array_equal(counts, hull[z, y, x].reshape(30, 20).sum(axis=1))
    for ours, elsewhere in zip((kept, counts), occupancy._compact_elsewhere(points, 30)):
        np.testing.assert_array_equal(ours, elsewhere)


@pytest.mark.parametrize("loss", ["squares", "l1"])
def test_the_data_term_s_gradient_is_its_slope(loss):
    learner, rng = field_training(loss), np.random.default_rng(3)
    pixels = learner._draw(rng)
    points, lengths = learner.sampler(pixels, rng)
    points, counts = learner.occupancy.compact(points, len(pixels))
    mu = learner.field(points).double()
    lengths, learner.measured, learner.weights = lengths.double(), learner.measured.double(), learner.weights.double()
    if loss == "l1":
        learner.weights = None  # the loss that is shown is unweighted

    def term(mu):
        return learner._data_term(pixels, lengths, counts, mu)

    gradient = torch.repeat_interleave(term(mu)[0], counts)
    direction = torch.from_numpy(rng.standard_normal(len(mu)))
    step = 1e-7
    slope = (term(mu + step * direction)[1] - term(mu - step * direction)[1]) / (2 * step)
    assert slope == pytest.approx(float(gradient @ direction), rel=1e-4)


def test_the_filtered_gradient_is_that_of_squares_through_the_ramp():
    filtered, plain = field_training("filtered"), field_training("squares")
    rng = np.random.default_rng(4)
    pixels = filtered._draw(rng)
    assert (np.diff(pixels[:, 2].reshape(filtered.rows, -1)) == 1).all()
    points, lengths = filtered.sampler(pixels, rng)
    points, counts = filtered.occupancy.compact(points, len(pixels))
    mu, columns = filtered.field(points), filtered.sampler.shape[2]
    hit = lengths > 0
    ours, squares = (learner._data_term(pixels, torch.where(hit, lengths, 1.0), counts, mu)[0] for learner in (filtered, plain))
    lengths = torch.where(hit, lengths, 1.0)
    expected = filtered.ramp((squares / lengths).reshape(-1, columns)).reshape(-1) * filtered.ramp_scale * lengths
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("added", [False, True])
def test_every_loss_falls_from_nothing_and_on_a_volume(loss, added):
    base = 0.5 * small_ball(cubic())[0].volume(cubic()).astype(np.float32) if added else None
    learner = field_training(loss, base, tv_weight=1e-3)
    rng = np.random.default_rng(5)
    losses = [learner.step(rng, 0.02, 0.01) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:3])
    assert (learner.volume() >= 0).all()


def test_a_fresh_field_changes_nothing_of_the_volume_it_is_added_to():
    base = np.random.default_rng(6).random(cubic().shape).astype(np.float32) * 0.02
    np.testing.assert_allclose(field_training("filtered", base).volume(), base, atol=1e-7)


def test_a_loss_that_is_no_number_stops_before_the_field_changes():
    learner = field_training("squares")
    learner.measured[...] = torch.nan
    before = learner.field.table.copy()
    with pytest.raises(FloatingPointError, match="learning rates"):
        learner.step(np.random.default_rng(7), 0.02, 0.01)
    np.testing.assert_array_equal(learner.field.table, before)
