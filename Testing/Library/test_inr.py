"""Rasterised neural fields: gradients against dense formulas and autograd, losses against each other, and what a user meets."""

from itertools import islice

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import as_matrix, circular, overdetermined

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.classical.cgls import begin, cgls
from SparseCTReconLib.classical.data_terms import DataTerm, Weighted, filtered_metric, plain_metric
from SparseCTReconLib.classical.fdk import fdk_weights
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import raster as raster_module
from SparseCTReconLib.fields.backends import make_field
from SparseCTReconLib.fields.raster import draw
from SparseCTReconLib.fields.rays import UnitCube
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods import inr
from SparseCTReconLib.methods.inr import FINAL_RATE, Descent, INROptions, Splitting
from SparseCTReconLib.operators import projector
from SparseCTReconLib.scan import Scan

HASH = {"levels": 4, "width": 16, "log2_table": 14}
NETWORKS = {
    "hash": HASH,
    "siren": {"width": 16, "depth": 2, "omega": 10.0, "network_rate": 3e-3},
    "relu": {"width": 16, "depth": 2, "frequencies": 3, "bandwidth": 4.0, "network_rate": 1e-2},
}
LOSSES = {
    "ls": {"views_per_subset": 3},
    "fls": {"views_per_subset": 3},
    "admm": {"rho": 0.3, "cg_iterations": 2, "fit_iterations": 3},
}
QUICK = {"ls": 200, "fls": 100, "admm": 60}
"""Passes in which a small body is found."""

ORBITS = {
    "full circle": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0)),
    "short scan": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0), arc_rad=3.8),
    "displaced detector": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0), offset_mm=(14.0, 0.0)),
}
FEW = Grid.centred((6, 5, 4), (4.0, 4.0, 4.0))


def scan_of(phantom, geometry, photons=2e4, seed=0):
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-phantom.line_integrals(geometry, finer=2)))
    return Scan(-np.log(np.maximum(counts, 1) / photons), geometry, photons=photons)


@pytest.fixture(scope="module")
def tiny():
    """A scan of 5 views and a grid for runs of a few steps."""
    return scan_of(Phantom(11.0), circular()), Grid.centred((12, 13, 11), (2.0,) * 3)


@pytest.fixture(scope="module")
def head():
    """A noisy scan of a head, a grid of 32^3 voxels, and the truth in HU."""
    phantom, grid = Phantom(80.0), Grid.centred((32, 32, 32), (5.4,) * 3)
    scan = scan_of(phantom, Geometry.preset("linac", 12, detector_shape=(32, 48), pixel_mm=(8.0, 6.0)), photons=5e3)
    return scan, grid, 50_000 * phantom.volume(grid) - 1000


def psnr(array, truth):
    return 10 * np.log10(3000**2 / np.mean((array - truth) ** 2))


def options(loss="admm", architecture="hash", **values):
    return methods.parse_options(
        methods.get("inr"), {"architecture": architecture, "loss": loss, **NETWORKS[architecture], **LOSSES[loss], **values}
    )


def relative(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def ramp_matrix(columns):
    """The band-limited ramp between the pixels of a row (Kak and Slaney 1988, eq. 61), divided by its kernel's centre."""
    n = np.subtract.outer(np.arange(columns), np.arange(columns))
    return np.where(n == 0, 1.0, np.where(n % 2 == 1, -4 / (np.pi**2 * np.where(n == 0, 1, n) ** 2), 0.0))


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("filtered", [False, True])
def test_the_gradient_is_that_of_the_loss_written_out_in_matrices(orbit, filtered):
    geometry, rng = ORBITS[orbit], np.random.default_rng(0)
    A = projector(geometry, FEW)
    weights = A.projections(rng.uniform(0.1, 1, A.projection_shape))
    x, y = A.volume(rng.random(FEW.shape)), A.projections(10 * rng.random(A.projection_shape))
    metric = filtered_metric(weights, geometry) if filtered else plain_metric(weights)
    dense, root = as_matrix(A), np.sqrt(weights.numpy().astype(float))
    if filtered:
        root = root * np.sqrt(2 * fdk_weights(geometry).numpy())

    def loss(volume):
        r = root * ((dense @ volume.ravel()).reshape(A.projection_shape) - y.numpy())
        return 0.5 * np.sum(r * (r @ ramp_matrix(r.shape[2]) if filtered else r))

    gradient, residual = DataTerm(A, y, metric).gradient(x)
    direction, start = rng.standard_normal(FEW.shape), x.numpy().astype(float)
    slope = (loss(start + 1e-3 * direction) - loss(start - 1e-3 * direction)) / 2e-3
    assert np.sum(gradient.numpy() * direction) == pytest.approx(slope, rel=2e-3)
    assert relative(residual, (A(x) - y).numpy()) < 1e-5


@pytest.mark.parametrize("filtered", [False, True])
def test_the_subsets_gradients_are_on_average_the_whole_one(filtered):
    geometry = circular(views=6, detector_shape=(5, 9), pixel_mm=(8.0, 5.0))
    A, rng = projector(geometry, FEW), np.random.default_rng(1)
    x, y, weights = (
        A.volume(rng.random(FEW.shape)),
        A.projections(10 * rng.random(A.projection_shape)),
        A.projections(rng.random(A.projection_shape)),
    )
    metric = filtered_metric(weights, geometry) if filtered else plain_metric(weights)
    whole, parts = DataTerm(A, y, metric), DataTerm(A, y, metric, subsets=3)
    mean = sum(parts.gradient(x, turn)[0] for turn in range(3)) / 3
    assert relative(mean, whole.gradient(x)[0]) < 1e-5


class Recorder:
    """Takes the place of a field's step: keeps the gradient that was added up and leaves the parameters alone."""

    def __init__(self, field):
        self.field, field.step = field, self

    def __call__(self, encoder_rate, head_rate):
        self.gradient = np.concatenate([tensor.grad.numpy().ravel() for tensor in self.field.module.parameters()])
        self.field.module.zero_grad()


def recorded(scan, grid, chosen):
    training = Descent(scan, grid, chosen)
    return training, Recorder(training.field)


@pytest.mark.parametrize("loss", ["ls", "fls"])
def test_the_parameters_gradient_is_autograd_s_through_projector_filter_and_network(tiny, loss):
    scan, grid = tiny
    training, recorder = recorded(scan, grid, options(loss, "siren", share=1.0, smoothness=0, views_per_subset=5))
    training.step()
    module = training.field.module
    x = training.field.scale * module(UnitCube(grid).voxel_centres(0, grid.size[2])).reshape(grid.shape)
    residual = training.A(x) - training.y
    (0.5 * (residual * training.term.parts[0][2](residual)).sum() / training.scale).backward()
    assert relative(recorder.gradient, torch.cat([p.grad.reshape(-1) for p in module.parameters()])) < 1e-4


def test_smoothness_adds_the_gradient_of_total_variation(tiny):
    scan, grid = tiny
    plain, smooth = (Descent(scan, grid, options("ls", smoothness=s)) for s in (0.0, 2.0))
    x = plain.A.volume(0.02 * np.random.default_rng(2).random(grid.shape))
    added = (smooth.gradient(x)[0] - plain.gradient(x)[0]) * smooth.scale / smooth.tv_weight

    def total_variation(volume):
        differences = [np.diff(volume, axis=axis, append=np.take(volume, [-1], axis)) for axis in range(3)]
        return np.sqrt(sum(d * d for d in differences) + 1e-8).sum()

    start, direction = x.numpy().astype(float), np.random.default_rng(3).standard_normal(grid.shape)
    slope = (total_variation(start + 1e-7 * direction) - total_variation(start - 1e-7 * direction)) / 2e-7
    assert np.sum(added.numpy() * direction) == pytest.approx(slope, rel=1e-2)


def test_every_voxel_is_drawn_as_often_as_any_other():
    rng, counts = np.random.default_rng(4), np.zeros(50)
    for _ in range(4000):
        index = draw(50, 17, rng)
        assert len(index) == 17 and (np.diff(index) >= 0).all()
        np.add.at(counts, index, 1)
    assert np.abs(counts / 4000 / (17 / 50) - 1).max() < 0.1


def test_the_gradient_from_a_share_of_the_voxels_is_unbiased(tiny):
    scan, grid = tiny
    training, recorder = recorded(scan, grid, options("fls", "siren", share=1.0, views_per_subset=5))
    gradient = training.gradient(training.raster.volume())[0]
    rng, estimates = np.random.default_rng(5), []
    training.raster.descend(gradient, (0, 0), 1.0, rng)
    whole = recorder.gradient
    for _ in range(300):
        training.raster.descend(gradient, (0, 0), 0.1, rng)
        estimates.append(recorder.gradient)
    deviation = np.std(estimates, axis=0) / np.sqrt(300)
    assert relative(estimates[0], whole) > 0.05
    assert np.sqrt(np.mean(((np.mean(estimates, axis=0) - whole) / (deviation + 1e-12)) ** 2)) < 1.5


def test_slabs_give_the_volume_and_the_gradient_of_the_whole(tiny, monkeypatch):
    _, grid = tiny
    scan, results = tiny[0], []
    for points in (1 << 19, 400):
        monkeypatch.setattr(raster_module, "POINTS", points)
        training, recorder = recorded(scan, grid, options("fls", "relu"))
        x = training.raster.volume()
        gradients = []
        for share in (1.0, 0.3):
            training.raster.volume(keep=True)
            training.raster.descend(x, (0, 0), share, np.random.default_rng(6))
            gradients.append(recorder.gradient)
        results.append((len(training.raster.slabs), x, *gradients))
    assert results[0][0] == 1 and results[1][0] == 6
    for one, many in zip(results[0][1:], results[1][1:]):
        assert relative(many, one) < 1e-5


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_wide_network_computes_each_voxel_once_even_if_it_cannot_keep_them_all(tiny, share):
    scan, grid = tiny
    raster, counted, gradients = Descent(scan, grid, options("fls", "relu")).raster, [], []
    module, target = raster.field.module, torch.rand(grid.shape, generator=torch.Generator().manual_seed(1))
    recorder = Recorder(raster.field)
    module.register_forward_pre_hook(lambda module, points: counted.append(points[0].shape[1]))
    for step in (raster.fit, raster.descend):
        for raster.field.at_once in (10**6, 500):
            counted.clear()
            step(target, (0, 0), share, np.random.default_rng(0))
            assert sum(counted) == raster.drawn(share) and max(counted) <= raster.field.at_once
            gradients.append(recorder.gradient)
        assert relative(gradients[-1], gradients[-2]) < 1e-5


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
