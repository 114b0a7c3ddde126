"""The classical solvers against dense linear algebra and slow, plain optimisation."""

from itertools import islice

import numpy as np
import pytest
import torch
from small_scanners import as_matrix, circular, overdetermined

from SparseCTReconLib.classical.cgls import begin, cgls
from SparseCTReconLib.classical.os_sart import os_sart, spread_order
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector
from SparseCTReconLib.operators.tv import TotalVariationProx


@pytest.fixture(scope="module")
def A():
    return overdetermined()


@pytest.fixture(scope="module")
def dense(A):
    return as_matrix(A)


@pytest.fixture(scope="module")
def measured(A):
    """Projections that no volume explains."""
    rng = np.random.default_rng(0)
    truth = A.volume(rng.random(A.volume_shape) * 0.02)
    return A(truth) + 0.002 * A.projections(rng.standard_normal(A.projection_shape))


def last(iterates, count):
    return list(islice(iterates, count))[-1]


def test_cgls_finds_the_least_squares_solution(A, dense, measured):
    x, r, *_ = last(cgls(A, begin(A, measured)), 80)
    expected, *_ = np.linalg.lstsq(dense, measured.numpy().ravel().astype(float), rcond=None)
    assert np.linalg.norm(x.numpy().ravel() - expected) < 1e-3 * np.linalg.norm(expected)
    assert float(r.norm()) == pytest.approx(np.linalg.norm(dense @ expected - measured.numpy().ravel()), rel=1e-4)


def test_cgls_is_the_best_of_its_krylov_space(A, dense, measured):
    y = measured.numpy().ravel().astype(float)
    basis = [dense.T @ y]
    for _ in range(2):
        basis.append(dense.T @ (dense @ basis[-1]))
    basis, _ = np.linalg.qr(np.array(basis).T)
    expected = basis @ np.linalg.lstsq(dense @ basis, y, rcond=None)[0]
    x, *_ = last(cgls(A, begin(A, measured)), 3)
    assert np.linalg.norm(x.numpy().ravel() - expected) < 1e-4 * np.linalg.norm(expected)


def test_cgls_starts_where_it_is_told_and_leaves_the_start_alone(A, measured):
    start = A.volume(np.full(A.volume_shape, 0.01))
    before = start.clone()
    x, *_ = last(cgls(A, begin(A, measured, start)), 80)
    assert torch.equal(start, before)
    assert float((x - last(cgls(A, begin(A, measured)), 80).x).norm()) < 1e-3 * float(x.norm())


def test_cgls_says_its_residual_and_it_falls(A, measured):
    residuals = []
    for x, r, *_ in islice(cgls(A, begin(A, measured)), 8):
        assert float((A(x) - measured + r).norm()) < 1e-4 * float(measured.norm())
        residuals.append(float(r.norm()))
    assert all(b < a for a, b in zip(residuals, residuals[1:]))


def test_cgls_gives_air_for_a_scan_of_air(A):
    (only,) = cgls(A, begin(A, torch.zeros(A.projection_shape)))
    assert not only.x.any()


@pytest.mark.parametrize("subsets", [1, 3, 8])
def test_os_sart_reduces_the_residual_and_the_error_and_stays_non_negative(A, subsets):
    rng = np.random.default_rng(1)
    truth = A.volume(rng.random(A.volume_shape) * 0.02 * (rng.random(A.volume_shape) > 0.4))
    y = A(truth)
    residuals, errors = [], []
    for x, residual in islice(os_sart(A, y, subsets), 30):
        assert float(x.min()) >= 0
        residuals.append(residual)
        errors.append(float((x - truth).norm()))
    assert residuals[-1] < 0.1 * residuals[0]
    assert all(b < a * 1.01 for a, b in zip(residuals, residuals[1:]))
    assert errors[-1] < 0.5 * errors[0]


def test_os_sart_leaves_voxels_that_no_ray_meets_at_their_start():
    A = projector(circular(detector_shape=(4, 20)), Grid.centred((6, 6, 40), (3.0,) * 3))
    x, _ = last(os_sart(A, A(A.volume(np.ones(A.volume_shape))), 2), 3)
    assert torch.isfinite(x).all()
    assert float(x[0].abs().max()) == 0 and float(x[20].min()) > 0


def test_os_sart_goes_on_from_where_it_stopped(A, measured):
    through = last(os_sart(A, measured, 4), 6)[0].clone()
    half = last(os_sart(A, measured, 4), 3)[0].clone()
    resumed = last(os_sart(A, measured, 4, x=half, done=3), 3)[0]
    assert torch.equal(resumed, through)


@pytest.mark.parametrize("count", [1, 2, 5, 10, 50])
def test_subsets_come_once_each_and_far_from_the_one_before(count):
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    if count >= 10:
        assert min(abs(a - b) for a, b in zip(order, order[1:])) > 1


def differences(z):
    """Forward differences (3, z, y, x), zero at the far faces."""
    return np.stack([np.diff(z, axis=axis, append=np.take(z, [-1], axis)) for axis in range(3)])


def divergence(p):
    """Minus the transpose of `differences`."""
    out = np.zeros(p.shape[1:])
    for axis in range(3):
        inner = np.moveaxis(p[axis], axis, 0)[:-1]
        into = np.moveaxis(out, axis, 0)
        into[:-1] += inner
        into[1:] -= inner
    return out


def objective(z, b, weight):
    return 0.5 * np.sum((z - b) ** 2) + weight * np.sum(np.sqrt(np.sum(differences(z) ** 2, axis=0)))


def slow_prox(b, weight, iterations=4000):
    """`weight` is a number or one for each voxel. Primal-dual hybrid gradient (Chambolle and Pock 2011) in double precision."""
    z = ahead = np.maximum(b, 0)
    p = np.zeros((3, *b.shape))
    step = 1 / np.sqrt(12)
    for _ in range(iterations):
        p = p + step * differences(ahead)
        p /= np.maximum(1, np.sqrt(np.sum(p**2, axis=0)) / weight)
        following = np.maximum((z + step * divergence(p) + step * b) / (1 + step), 0)
        z, ahead = following, 2 * following - z
    return z


def rough(shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + (np.indices(shape)[2] > shape[2] / 2)).astype(np.float32)


def prox(b, weight, iterations=600):
    return TotalVariationProx(b.shape, iterations)(torch.from_numpy(b), weight).numpy()


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 7, 5), (6, 1, 1), (5, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize("weight", [0.05, 0.4, 3.0])
def test_the_total_variation_prox_is_the_minimum(shape, weight):
    b = rough(shape)
    expected = slow_prox(b.astype(float), weight)
    z = prox(b, weight)
    np.testing.assert_allclose(z, expected, atol=2e-3)
    assert objective(z, b, weight) <= objective(expected, b, weight) + 1e-4 * abs(objective(expected, b, weight)) + 1e-6


def test_the_prox_with_a_weight_for_each_voxel_is_the_minimum():
    b, weights = rough((5, 6, 7)), np.random.default_rng(3).uniform(0.1, 1, (5, 6, 7)).astype(np.float32)
    step = TotalVariationProx(b.shape, 800)
    step.weigh(weights)
    z = step(torch.from_numpy(b), 0.4).numpy()
    np.testing.assert_array_equal(step.weights, weights)
    np.testing.assert_allclose(z, slow_prox(b.astype(float), 0.4 * weights.astype(float)), atol=2e-3)
    assert np.abs(z - prox(b, 0.4)).max() > 0.05


def test_the_prox_is_never_negative_and_keeps_the_mean_of_what_is_positive():
    assert prox(rough((6, 7, 8)) - 1, 0.3, iterations=5).min() >= 0
    b = 5 + rough((6, 7, 8))
    assert prox(b, 0.3).mean() == pytest.approx(b.mean(), rel=1e-5)


def test_without_weight_the_prox_only_clips():
    b = rough((4, 5, 6))
    np.testing.assert_array_equal(prox(b, 0.0, 3), np.maximum(b, 0))


def test_a_great_weight_leaves_the_mean():
    b = 5 + rough((5, 5, 5))
    np.testing.assert_allclose(prox(b, 1e3, 2000), b.mean(), rtol=1e-3)


def test_an_even_volume_stays_as_it_is():
    np.testing.assert_allclose(prox(np.full((4, 4, 4), 0.02, np.float32), 0.5, 20), 0.02, rtol=1e-6)


def test_few_iterations_suffice_when_the_same_is_asked_again():
    b = torch.from_numpy(rough((8, 9, 10)))
    expected = torch.from_numpy(slow_prox(b.numpy().astype(float), 0.4))
    step = TotalVariationProx(b.shape, 5)
    errors = [float((step(b, 0.4) - expected).norm()) for _ in range(12)]
    assert errors[-1] < 0.1 * errors[0]


def test_the_prox_takes_any_memory_order_leaves_its_input_and_needs_no_special_threads():
    b = torch.from_numpy(rough((6, 7, 8)))
    before, threads, results = b.clone(), torch.get_num_threads(), []
    try:
        for count, given in ((1, b), (2, b.permute(2, 1, 0).contiguous().permute(2, 1, 0))):
            torch.set_num_threads(count)
            results.append(TotalVariationProx(b.shape, 10)(given, 0.2).numpy())
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*results)
    assert torch.equal(b, before)
