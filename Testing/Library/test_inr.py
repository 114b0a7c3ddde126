"""Rasterised neural fields: losses against each other, ADMM against what it should find, and what a user meets."""

from itertools import islice

import numpy as np
import pytest
import torch
from inr_cases import HASH, LOSSES, NETWORKS, options, relative
from phantoms import Phantom
from small_scanners import as_matrix, circular, overdetermined
from small_scans import psnr, scan_of

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.classical.cgls import begin, cgls
from SparseCTReconLib.classical.data_terms import Weighted
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields.backends import make_field
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods import inr
from SparseCTReconLib.methods.inr import FINAL_RATE, Descent, INROptions, Splitting
from SparseCTReconLib.operators import projector
from SparseCTReconLib.scan import Scan

QUICK = {"ls": 200, "fls": 100, "admm": 60}
"""Passes in which a small body is found."""


@pytest.mark.parametrize("architecture", ["hash", "relu"])
def test_filtered_least_squares_takes_half_the_iterations_of_plain_ones(architecture):
    phantom, grid = Phantom(11.0), Grid.centred((40, 40, 2), (0.6, 0.6, 0.6))
    geometry = Geometry.circular(24, 100.0, 160.0, (2, 80), (1.0, 0.6))
    scan, A, residuals = Scan(phantom.line_integrals(geometry), geometry), projector(geometry, grid, backend="general"), {}
    for loss in ("ls", "fls"):
        chosen = options(loss, architecture, iterations=60, views_per_subset=24, preset="paper", schedule="constant")
        residuals[loss] = [metrics["residual"] for metrics in islice(Descent(scan, grid, chosen, A=A).updates(), 60)]
    assert 0 < np.argmax(np.array(residuals["fls"]) <= residuals["ls"][-1]) <= 30
    assert residuals["ls"][-1] < 0.6 * residuals["ls"][0]


def test_damped_conjugate_gradients_find_what_is_near_the_measurements_and_near_the_centre():
    A, rng = overdetermined(), np.random.default_rng(9)
    dense, y, centre = as_matrix(A), 10 * rng.random(A.projection_shape), A.volume(rng.random(A.volume_shape))
    root = A.projections(rng.uniform(0.2, 1, A.projection_shape))
    weighted, measured = Weighted(A, root), A.projections(y) * root
    *_, state = islice(cgls(weighted, begin(weighted, measured, None, 300.0, centre), 300.0, centre), 60)
    rows = dense * root.numpy().astype(float).reshape(-1, 1)
    right = rows.T @ measured.numpy().astype(float).ravel() + 300 * centre.numpy().astype(float).ravel()
    expected = np.linalg.solve(rows.T @ rows + 300 * np.eye(rows.shape[1]), right)
    assert relative(state.x.numpy().ravel(), expected) < 1e-3
    assert relative(state.r, measured - weighted(state.x)) < 1e-3


def test_admm_stays_at_its_fixed_point(tiny):
    scan, grid = tiny
    training = Splitting(scan, grid, options("admm", smoothness=0))
    wanted = training.A.volume(0.02 + 0.01 * np.random.default_rng(8).random(grid.shape))
    for seed in range(50):
        training.raster.fit(wanted, (0.03, 0.01), 1.0, np.random.default_rng(seed))
    solution = training.raster.volume().clone()
    assert float(solution.min()) > 0.005
    training.y = training.A(solution)
    training.x, training.r, training.done = solution.clone(), torch.zeros_like(training.y), training.cg + training.fit
    for _ in range(training.cg):
        assert training.step()["residual"] < 1e-5
        training.done += 1
    assert relative(training.x, solution) < 1e-5
    assert training.step()["misfit"] < 1e-5


def test_where_a_field_can_be_any_volume_admm_finds_the_least_squares_solution():
    A, rng = overdetermined(), np.random.default_rng(7)
    y = A(A.volume(0.01 + 0.01 * rng.random(A.volume_shape))).numpy() + 0.01 * rng.standard_normal(A.projection_shape)
    expected, *_ = np.linalg.lstsq(as_matrix(A), y.ravel().astype(float), rcond=None)
    chosen = options("admm", preset="paper-admm", iterations=100, cg_iterations=2, fit_iterations=20, schedule="smooth")
    training = Splitting(Scan(y.astype(np.float32), A.geometry), A.grid, chosen)
    for _ in islice(training.updates(), training.steps):
        pass
    assert relative(training.volume().numpy().ravel(), expected) < 0.02
    assert relative(training.x, training.volume()) < 0.02


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_run_goes_on_exactly_from_any_step(tiny, loss, architecture):
    scan, grid = tiny
    chosen = options(loss, architecture, iterations=6, share=0.5)
    straight = list(_volumes(scan, grid, chosen))
    for stop in (1, 3, 4):
        run = methods.get("inr").run(scan, grid, chosen)
        states = [next(run) for _ in range(stop)]
        arrays = {key: np.array(value) for key, value in states[-1].checkpoint().items()}
        resumed = list(_volumes(scan, grid, chosen, arrays))
        assert len(resumed) == len(straight) - stop
        np.testing.assert_array_equal(resumed[-1], straight[-1])


def _volumes(scan, grid, chosen, resume=None):
    for state in methods.get("inr").run(scan, grid, chosen, resume=resume):
        yield state.volume()


@pytest.mark.parametrize("loss", LOSSES)
def test_torch_alone_as_on_a_gpu_fits_as_the_compiled_kernels_do(tiny, loss, monkeypatch):
    scan, grid = tiny
    figures = []
    for backend in ("numba", "torch"):
        monkeypatch.setattr(inr, "make_field", lambda *a, backend=backend, **k: make_field(*a, backend=backend, **k))
        A = projector(scan.geometry, grid, backend="torch") if backend == "torch" else None
        training = (Splitting if loss == "admm" else Descent)(scan, grid, options(loss), A=A)
        figures.append([value for metrics in islice(training.updates(), 10) for value in metrics.values()])
    np.testing.assert_allclose(*figures, rtol=2e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_seed_gives_the_same_volume_and_another_seed_another(tiny, loss):
    scan, grid = tiny
    once, again, other = (list(_volumes(scan, grid, options(loss, iterations=4, seed=seed)))[-1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-5


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("non_negative", [True, False])
def test_attenuation_is_negative_only_where_it_may_be(architecture, non_negative):
    scan = scan_of(Phantom(8.0), circular(views=12), photons=300)
    grid = Grid.centred((12, 13, 11), (2.0,) * 3)
    chosen = options("fls", architecture, iterations=30, smoothness=0, non_negative=non_negative)
    assert (list(_volumes(scan, grid, chosen))[-1].min() >= 0) == non_negative


@pytest.mark.parametrize("loss", LOSSES)
def test_smoothness_makes_it_smoother(head, loss):
    scan, grid, _ = head
    roughness = []
    for smoothness in (0, 1, 10):
        volume = reconstruct(scan, "inr", grid, loss=loss, iterations=32, smoothness=smoothness, **HASH).array
        roughness.append(sum(np.abs(np.diff(volume, axis=axis)).sum() for axis in range(3)))
    assert np.isfinite(roughness).all() and roughness[0] > roughness[1] > 1.2 * roughness[2]


def rates_of(training, spent=lambda step: None):
    rates = []
    for step, _ in zip(range(training.steps), training.updates()):
        rates.append(training.rates()[1])
        training.heed(spent(step))
    return np.array(rates)


def test_the_learning_rate_follows_its_schedule_and_the_time(tiny):
    def rates(schedule, **told):
        return rates_of(Descent(*tiny, options("fls", iterations=5, schedule=schedule, network_rate=0.01)), **told)

    assert set(rates("constant")) == {0.01}
    np.testing.assert_allclose(rates("step"), np.where(np.arange(1, 11) < 5, 0.01, 0.001))
    np.testing.assert_allclose(rates("smooth"), 0.01 * FINAL_RATE ** (np.arange(1, 11) / 10))
    assert rates("smooth", spent=lambda step: 0.9)[2] == pytest.approx(0.01 * FINAL_RATE**0.9)


def test_admm_that_runs_out_of_time_before_its_first_fit_gives_what_it_has(head):
    scan, grid, truth = head
    first = next(methods.get("inr").run(scan, grid, options("admm", cg_iterations=20)))
    fog = Splitting(scan, grid, options("admm")).raster.volume().numpy()
    assert psnr(50_000 * first.volume() - 1000, truth) > psnr(50_000 * fog - 1000, truth) + 3


def test_a_field_that_diverges_says_so_before_it_spoils_the_volume(tiny, monkeypatch):
    scan, grid = tiny
    for loss in LOSSES:
        run = methods.get("inr").run(scan, grid, options(loss))
        state = next(run)
        monkeypatch.setattr("SparseCTReconLib.operators.Projector.__call__", lambda self, x: torch.full(self.projection_shape, torch.nan))
        with pytest.raises(FloatingPointError, match="diverged in step 2: give a network_rate smaller than 0.01"):
            next(run)
        assert np.isfinite(state.volume()).all()
        monkeypatch.undo()


def test_a_fit_that_is_no_number_leaves_the_field_alone(tiny):
    scan, grid = tiny
    training = Splitting(scan, grid, options("admm"))
    before = training.raster.volume()
    training.done, training.x = training.cg, torch.full(grid.shape, torch.nan)
    with pytest.raises(FloatingPointError, match="diverged in step 3"):
        training.step()
    assert torch.equal(training.raster.volume(), before)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"loss": "fls", "rho": 1}, r"rho means nothing to loss=fls: leave it out \(or the preset that gives it\), or give loss=admm"),
        ({"loss": "ls", "cg_iterations": 3}, "cg_iterations means nothing to loss=ls"),
        ({"loss": "fls", "fit_iterations": 3}, "give loss=admm"),
        ({"loss": "admm", "views_per_subset": 5}, "views_per_subset means nothing to loss=admm"),
        ({"omega": 20}, "omega means nothing to architecture=hash: leave it out .* or give architecture=siren"),
        ({"architecture": "siren", "levels": 4}, "give architecture=hash"),
        ({"architecture": "siren", "encoder_rate": 0.1}, "encoder_rate means nothing to architecture=siren"),
        ({"architecture": "relu", "omega": 20}, "give architecture=siren"),
        ({"architecture": "siren", "bandwidth": 20}, "give architecture=relu"),
        ({"preset": "paper", "rho": 1}, "give loss=admm"),
        ({"preset": "paper", "loss": "admm"}, "views_per_subset means nothing to loss=admm: leave it out .or the preset that gives it"),
        ({"non_negative": False}, "leaves nothing negative: give smoothness=0, or non_negative=True"),
        ({"architecture": "wavelet"}, "option architecture='wavelet'"),
        ({"loss": "l1"}, "option loss='l1'"),
        ({"share": 0}, "option share=0"),
        ({"share": 1.5}, "option share=1.5"),
        ({"iterations": 0}, "option iterations=0"),
        ({"views_per_subset": 0}, "option views_per_subset=0"),
        ({"loss": "admm", "rho": 0}, "option rho=0"),
        ({"loss": "admm", "cg_iterations": 0}, "option cg_iterations=0"),
        ({"loss": "admm", "fit_iterations": 0}, "option fit_iterations=0"),
        ({"smoothness": -1}, "option smoothness=-1"),
        ({"network_rate": 0}, "option network_rate=0"),
        ({"encoder_rate": 2}, "option encoder_rate=2"),
        ({"width": 30}, "option width=30"),
        ({"levels": 3}, "option levels=3"),
        ({"log2_table": 30}, "option log2_table=30"),
        ({"schedule": "never"}, "option schedule='never'"),
        ({"seed": -1}, "option seed=-1"),
        ({"preset": "papre"}, "did you mean"),
    ],
)
def test_options_that_are_wrong_or_contradict_each_other_are_refused_by_name(values, said):
    with pytest.raises(InputError, match=said):
        methods.parse_options(methods.get("inr"), values)


def test_options_survive_being_written_down_and_read_again():
    for values in ({}, {"loss": "ls"}, {"loss": "admm", "rho": 2.0}, {"architecture": "siren", "omega": 10}, {"preset": "paper-admm"}):
        chosen = methods.parse_options(methods.get("inr"), values)
        assert INROptions(**chosen.model_dump()) == chosen


@pytest.mark.parametrize("preset", methods.get("inr").presets)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_preset_runs_with_every_architecture(tiny, preset, architecture):
    values = {"preset": preset, "architecture": architecture, "iterations": 1, "width": 16}
    volume = reconstruct(*tiny[:1], "inr", tiny[1], **values).array
    assert np.isfinite(volume).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("orbit", ["short scan", "displaced detector"])
def test_a_partial_orbit_and_a_displaced_detector_are_reconstructed(loss, orbit):
    phantom = Phantom(11.0, ellipsoids=((0.03, (0.2, -0.3, 0.1), (0.4, 0.5, 0.6), 0.4),))
    changes = {"arc_rad": 3.8} if orbit == "short scan" else {"offset_mm": (14.0, 0.0)}
    scan = scan_of(phantom, circular(views=12, **changes), photons=1e6)
    grid = Grid.centred((12, 8, 16), (2.0, 3.0, 1.5))
    mu, truth = reconstruct(scan, "inr", grid, unit="1/mm", loss=loss, iterations=QUICK[loss], **HASH).array, phantom.volume(grid)
    assert np.corrcoef(mu.ravel(), truth.ravel())[0, 1] > 0.9
    assert mu[truth == truth.max()].mean() == pytest.approx(0.03, rel=0.15)


def test_it_is_better_than_fdk_on_few_noisy_views(head):
    scan, grid, truth = head
    fdk, ours = (reconstruct(scan, name, grid).array for name in ("fdk", "inr"))
    assert psnr(ours, truth) > psnr(fdk, truth) + 3
