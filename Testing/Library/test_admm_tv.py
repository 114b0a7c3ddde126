"""ADMM-TV: its fixed point is the minimum, its subsets may disagree, and its weights follow the data."""

import logging
from itertools import islice

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import as_matrix, overdetermined

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.classical.admm_tv import ADMMState, SubsetGradients, admm_tv, edge_weights, penalty
from SparseCTReconLib.classical.weights import TV_PER_VIEW, mean_curvature, measurement_weights, total_variation_weight
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.admm_tv import ADMMTVOptions, remaining
from SparseCTReconLib.operators import projector
from SparseCTReconLib.operators.tv import TotalVariationProx
from SparseCTReconLib.scan import Scan

LAMBDA = 2.0


@pytest.fixture(scope="module")
def A():
    return overdetermined()


@pytest.fixture(scope="module")
def dense(A):
    return as_matrix(A)


@pytest.fixture(scope="module")
def measured(A):
    """A body with an edge and a hole, measured with errors."""
    truth = np.full(A.volume_shape, 0.02)
    truth[:, :, 3:], truth[1:3, 1:3, 1:3] = 0.03, 0
    noise = np.random.default_rng(0).standard_normal(A.projection_shape)
    return A(A.volume(truth)) + 0.01 * A.projections(noise)


@pytest.fixture(scope="module")
def weights(A):
    return A.projections(np.random.default_rng(1).uniform(0.2, 1, A.projection_shape))


def total_variation(x):
    return np.sqrt(sum(np.diff(x, axis=axis, append=np.take(x, [-1], axis)) ** 2 for axis in range(3))).sum()


@pytest.fixture(scope="module")
def objective(A, dense, measured, weights):
    y, w = (tensor.numpy().ravel().astype(float) for tensor in (measured, weights))

    def value(x):
        x = np.asarray(x, dtype=float).reshape(A.volume_shape)
        return 0.5 * np.sum(w * (dense @ x.ravel() - y) ** 2) + LAMBDA * total_variation(x)

    return value


def difference_matrix(shape):
    """Forward differences as a matrix (3 * voxels, voxels), zero rows at the far faces."""
    blocks = []
    for axis, n in enumerate(shape):
        along = np.eye(n, k=1) - np.eye(n)
        along[-1] = 0
        factors = [along if other == axis else np.eye(m) for other, m in enumerate(shape)]
        blocks.append(np.kron(np.kron(factors[0], factors[1]), factors[2]))
    return np.vstack(blocks)


@pytest.fixture(scope="module")
def minimum(A, dense, measured, weights):
    """The minimiser by primal-dual hybrid gradient (Chambolle and Pock 2011) on matrices, in double precision."""
    root = np.sqrt(weights.numpy().ravel().astype(float))
    data, y = root[:, None] * dense, root * measured.numpy().ravel()
    scale = np.linalg.norm(data, 2) / 4
    D = difference_matrix(A.volume_shape) * scale
    K = np.vstack([data, D])
    step = 0.99 / np.linalg.norm(K, 2)
    balance = 0.02 / step
    tau, sigma = step * step * balance, 1 / balance
    x = ahead = np.zeros(K.shape[1])
    p, q = np.zeros(len(y)), np.zeros(len(D))
    for _ in range(15_000):
        p = (p + sigma * (data @ ahead - y)) / (1 + sigma)
        q = (q + sigma * (D @ ahead)).reshape(3, -1)
        q = (q / np.maximum(1, np.linalg.norm(q, axis=0) * scale / LAMBDA)).ravel()
        following = np.maximum(x - tau * (data.T @ p + D.T @ q), 0)
        x, ahead = following, 2 * following - x
    return x.reshape(A.volume_shape)


def run(A, measured, weights, subsets, passes, tv_weight=LAMBDA, iterations=30):
    prox = TotalVariationProx(A.volume_shape, iterations)
    start = ADMMState(A.zeros(), None, None, 0, subsets)
    return list(islice(admm_tv(A, measured, weights, tv_weight, prox, start), passes))


def test_the_slow_minimum_is_one(A, minimum, objective):
    rng = np.random.default_rng(2)
    best = objective(minimum)
    for size in (1e-5, 1e-4, 1e-3):
        for _ in range(30):
            assert objective(np.maximum(minimum + size * rng.standard_normal(A.volume_shape), 0)) > best * (1 - 1e-6)


def test_it_converges_to_the_minimum(A, measured, weights, minimum, objective):
    x = run(A, measured, weights, 1, 300)[-1].x.numpy()
    assert objective(x) == pytest.approx(objective(minimum), rel=1e-3)
    assert np.linalg.norm(x - minimum) < 1e-2 * np.linalg.norm(minimum)


def test_the_number_of_subsets_does_not_change_what_it_converges_to(A, measured, weights, minimum):
    for subsets in (2, 4):
        x = run(A, measured, weights, subsets, 60)[-1].x.numpy()
        assert np.linalg.norm(x - minimum) < 1e-2 * np.linalg.norm(minimum)


def test_subsets_are_faster_than_none_at_first(A, measured, weights, minimum):
    errors = [np.linalg.norm(run(A, measured, weights, subsets, 4)[-1].x.numpy() - minimum) for subsets in (1, 4)]
    assert errors[1] < 0.7 * errors[0]


def test_every_iterate_is_non_negative(A, measured, weights):
    assert all(float(state.x.min()) >= 0 for state in run(A, measured - measured.mean(), weights, 4, 5, iterations=2))


def test_the_residual_is_that_of_the_volume(A, measured, weights):
    before, after = run(A, measured, weights, 1, 12)[-2:]
    expected = float(((A(after.x) - measured) ** 2 * weights).sum().sqrt())
    assert after.residual == pytest.approx(expected, rel=1e-5)
    assert after.updates == before.updates + 1 == 12


def test_a_subset_s_gradient_stands_for_all_views(A, measured, weights):
    x = A.volume(np.random.default_rng(3).random(A.volume_shape) * 0.02)
    gradients = SubsetGradients(A, measured, weights, 4)
    parts = [gradients(subset, x) for subset in range(4)]
    whole = A.T((A(x) - measured) * weights)
    torch.testing.assert_close(sum(gradient for gradient, _ in parts) / 4, whole, rtol=1e-4, atol=1e-3)
    assert sum(loss for _, loss in parts) == pytest.approx(float(((A(x) - measured) ** 2 * weights).sum()), rel=1e-4)


def test_subsets_that_disagree_are_halved_until_they_agree_and_the_result_is_right(A, measured, caplog):
    """One view weighs far more than the others: its gradient, scaled to all views, is far too great."""
    one = np.where(np.arange(8) == 3, 1.0, 0.01)[:, None, None]
    weights = A.projections(np.broadcast_to(one, A.projection_shape))
    with caplog.at_level(logging.INFO, "SparseCTReconLib.admm_tv"):
        states = run(A, measured, weights, 8, 60, tv_weight=0.05, iterations=10)
    assert "subsets of the views disagree: going on with 4 instead of 8" in caplog.text
    assert states[-1].subsets < 4
    expected = run(A, measured, weights, 1, 250, tv_weight=0.05, iterations=10)[-1]
    assert states[-1].residual == pytest.approx(expected.residual, rel=0.02)
    assert float((states[-1].x - expected.x).norm()) < 0.02 * float(expected.x.norm())


def test_steps_become_longer_from_update_to_update():
    penalties = [penalty(updates) for updates in range(1, 50)]
    assert penalty(0) == 1 and all(0 < b < a <= 1 for a, b in zip(penalties, penalties[1:]))
    assert penalty(400) == pytest.approx(np.pi / 401, rel=1e-3)


def scan_of(line_integrals=2.0, photons=1e5, electronic_noise=10.0, views=3):
    geometry = Geometry.preset("linac", views, detector_shape=(4, 5))
    projections = np.full((views, 4, 5), line_integrals)
    return Scan(projections, geometry, photons=photons, provenance={"electronic_noise": electronic_noise})


GRID = Grid.centred((64, 64, 64), (3.0, 3.0, 3.0))


def test_a_measurement_weighs_more_with_the_dose_and_less_behind_bone():
    doses = [float(measurement_weights(scan_of(photons=photons), GRID)[0, 0, 0]) for photons in (1e2, 1e3, 1e4, 1e6)]
    depths = [float(measurement_weights(scan_of(depth), GRID)[0, 0, 0]) for depth in (0, 2, 5, 8, 11)]
    assert all(0 < a < b <= 1 for a, b in zip(doses, doses[1:]))
    assert all(1 >= a > b > 0 for a, b in zip(depths, depths[1:]))


def test_the_weight_is_the_share_of_the_model_s_variance():
    count, model = 1e4 * np.exp(-3), (3 * 0.02 * 3.0) ** 2
    photon = 1 / count + (25 / count) ** 2
    weights = measurement_weights(scan_of(3.0, 1e4, 25.0), GRID)
    assert weights.shape == (3, 4, 5) and weights.dtype == torch.float32
    np.testing.assert_allclose(weights, model / (model + photon), rtol=1e-4)


def test_clean_data_weigh_one_and_data_of_unknown_photons_are_not_weighed():
    assert measurement_weights(scan_of(photons=None), GRID) is None
    np.testing.assert_allclose(measurement_weights(scan_of(photons=1e9), GRID), 1, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("electronic_noise", [0.0, 10.0, 1e4])
def test_a_ray_through_metal_without_end_weighs_nearly_nothing_but_a_number(electronic_noise):
    weights = measurement_weights(scan_of(200.0, electronic_noise=electronic_noise), GRID)
    assert (weights > 0).all() and (weights < 1e-6).all()


def test_negative_line_integrals_weigh_no_more_than_air():
    assert torch.equal(measurement_weights(scan_of(-1.0), GRID), measurement_weights(scan_of(0.0), GRID))


@pytest.fixture(scope="module")
def orbit():
    """Operators for numbers of views and voxel sizes of one body."""

    def make(views=10, voxels=16):
        geometry = Geometry.preset("linac", views, detector_shape=(24, 32), pixel_mm=(14, 14))
        return projector(geometry, Grid.centred((voxels,) * 3, (160 / voxels,) * 3))

    return make


def test_the_mean_curvature_is_the_mean_of_the_diagonal(A, dense):
    exact = np.mean(np.sum(dense**2, axis=0))
    estimates = [mean_curvature(A, seed) for seed in range(60)]
    assert np.mean(estimates) == pytest.approx(exact, rel=0.05)
    assert mean_curvature(A) == mean_curvature(A)


def test_total_variation_s_weight_does_not_depend_on_the_number_of_views(orbit):
    few, many = (total_variation_weight(orbit(views)) for views in (10, 40))
    assert few == pytest.approx(many, rel=0.05)


def test_total_variation_s_weight_is_in_proportion_to_a_view_s_curvature(orbit):
    for voxels in (12, 24):
        A = orbit(voxels=voxels)
        assert total_variation_weight(A) == pytest.approx(TV_PER_VIEW * mean_curvature(A) / 10)


def test_total_variation_s_weight_follows_the_fourth_power_of_the_voxel_s_edge(orbit):
    """The rays that meet a voxel, and the square of their length in it, both grow with the square of its edge."""
    coarse, fine = (total_variation_weight(orbit(voxels=voxels)) for voxels in (10, 20))
    assert coarse / fine == pytest.approx(2**4, rel=0.25)


@pytest.fixture(scope="module")
def head():
    """A noisy scan of a head, its grid and truth in HU."""
    geometry = Geometry.preset("linac", 24, detector_shape=(32, 48), pixel_mm=(8.0, 6.0))
    phantom, grid = Phantom(80.0), Grid.centred((36, 36, 36), (5.0,) * 3)
    clean = phantom.line_integrals(geometry, finer=2)
    counts = np.random.default_rng(4).poisson(1e4 * np.exp(-clean))
    return Scan(-np.log(np.maximum(counts, 1) / 1e4), geometry, photons=1e4), grid, 50_000 * phantom.volume(grid) - 1000


def psnr(array, truth):
    return 10 * np.log10(3000**2 / np.mean((array - truth) ** 2))


def test_it_is_far_better_than_fdk_on_few_noisy_views(head):
    scan, grid, truth = head
    fdk, ours = (reconstruct(scan, method, grid).array for method in ("fdk", "admm-tv"))
    assert psnr(ours, truth) > psnr(fdk, truth) + 3


def test_strength_makes_it_smoother(head):
    scan, grid, _ = head
    roughness = [total_variation(reconstruct(scan, "admm-tv", grid, iterations=12, strength=s).array) for s in (0.1, 1, 5)]
    assert roughness[0] > 1.05 * roughness[1] > 1.1 * roughness[2]


def test_edges_weigh_less_than_what_is_flat():
    x = np.zeros((3, 4, 5), np.float32)
    x[:, :, 3:] = 0.02
    weights = edge_weights(x, 0.005)
    np.testing.assert_allclose(weights[:, :, 2], 0.2, rtol=1e-5)
    assert (np.delete(weights, 2, axis=2) == 1).all()


def test_reweighting_keeps_the_contrast_that_total_variation_takes_where_views_are_few():
    phantom, grid = Phantom(80.0), Grid.centred((36, 36, 36), (5.0,) * 3)
    truth = phantom.volume(grid)
    A = projector(Geometry.preset("linac", 6, detector_shape=(32, 48), pixel_mm=(8.0, 6.0)), grid)
    scan = Scan(A(A.volume(truth)).numpy(), A.geometry)
    errors = {}
    for times in (0, 3):
        *_, state = methods.get("admm-tv").run(scan, grid, ADMMTVOptions(reweightings=times, strength=0.3))
        errors[times] = psnr(50_000 * state.volume(), 50_000 * truth)
    assert errors[3] > errors[0] + 0.3


def test_passes_are_shared_out_between_the_turns():
    assert ADMMTVOptions().turns(20) == [50] and ADMMTVOptions().turns(10) == [100] and ADMMTVOptions().turns(50) == [40]
    assert ADMMTVOptions(reweightings=2).turns(10) == [100, 20, 20]
    assert ADMMTVOptions(reweightings=2, iterations=7).turns(10) == [5, 1, 1]
    assert all(sum(ADMMTVOptions(reweightings=3, iterations=n).turns(20)) == n for n in range(1, 30))


@pytest.mark.parametrize("done, left", [(0, [5, 3, 2]), (2, [3, 3, 2]), (5, [0, 3, 2]), (7, [1, 2]), (10, [0]), (12, [0])])
def test_what_is_left_of_the_turns(done, left):
    assert remaining([5, 3, 2], done) == left


@pytest.mark.parametrize("kept_at", [2, 4, 5, 6])
def test_a_reweighted_run_goes_on_exactly_from_any_pass(head, kept_at):
    scan, grid, _ = head
    method, options = methods.get("admm-tv"), ADMMTVOptions(reweightings=2, iterations=7)
    assert options.turns(scan.views)[:2] == [5, 1]
    kept = None
    for state in method.run(scan, grid, options):
        if state.step == kept_at:
            kept = {name: np.array(array) for name, array in state.checkpoint().items()}
    *_, resumed = method.run(scan, grid, options, resume=kept)
    np.testing.assert_array_equal(resumed.volume(), state.volume())


def test_its_options_are_bounded():
    for name, value in (("strength", 0), ("iterations", 0), ("views_per_subset", 0), ("prox_iterations", 1000)):
        with pytest.raises(InputError, match=f"option {name}={value}"):
            methods.parse_options(methods.get("admm-tv"), {name: value})
