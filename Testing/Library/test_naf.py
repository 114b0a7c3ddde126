"""NAF as a user meets it: better than FDK on few views, the same again with the same seed, and done in the time it is given."""

import numpy as np
import pytest
from phantoms import Phantom
from poses import rotation
from small_scanners import circular

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.naf import FINAL_RATE, NAFOptions, Training
from SparseCTReconLib.methods.reconstruct import prepare
from SparseCTReconLib.scan import Scan

SMALL = {"levels": 4, "hidden": 16, "rows": 4}


def scan_of(phantom, geometry, photons=2e4, seed=0):
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-phantom.line_integrals(geometry, finer=2)))
    return Scan(-np.log(np.maximum(counts, 1) / photons), geometry, photons=photons)


@pytest.fixture(scope="module")
def head():
    """A noisy scan of a head, a grid of 32^3 voxels, and the truth in HU."""
    phantom, grid = Phantom(80.0), Grid.centred((32, 32, 32), (5.4,) * 3)
    scan = scan_of(phantom, Geometry.preset("linac", 12, detector_shape=(32, 48), pixel_mm=(8.0, 6.0)), photons=5e3)
    return scan, grid, 50_000 * phantom.volume(grid) - 1000


@pytest.fixture(scope="module")
def tiny():
    """A scan and a grid for runs of a few steps."""
    return scan_of(Phantom(11.0), circular()), Grid.centred((12, 13, 11), (2.0,) * 3)


def psnr(array, truth):
    return 10 * np.log10(3000**2 / np.mean((array - truth) ** 2))


def test_it_is_better_than_fdk_on_few_noisy_views(head):
    scan, grid, truth = head
    fdk, ours = reconstruct(scan, "fdk", grid).array, reconstruct(scan, "naf", grid, iterations=150).array
    assert psnr(ours, truth) > psnr(fdk, truth) + 1.5


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(tiny):
    once, again, other = (reconstruct(*_naf(tiny), iterations=30, seed=seed, **SMALL).array for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1


def _naf(tiny):
    scan, grid = tiny
    return scan, "naf", grid


def test_the_loss_falls(tiny):
    losses = [state.metrics["loss"] for state in prepare(*_naf(tiny), options={"iterations": 200, **SMALL}).states()]
    assert len(losses) == 20 and losses[-1] < 0.1 * losses[0]


class Rates:
    """Notes the learning rates of each step."""

    def __init__(self, training):
        self.table, self.head = [], []
        self._descend = training.field.descend
        training.field.descend = self

    def __call__(self, points, features, gradient, table_rate, head_rate):
        self.table.append(table_rate)
        self.head.append(head_rate)
        self._descend(points, features, gradient, table_rate, head_rate)


def train(tiny, iterations, spent=lambda state: None, **options):
    training = Training(*tiny, NAFOptions(iterations=iterations, **SMALL, **options))
    rates = Rates(training)
    for state, _ in zip(range(iterations // 10), training.losses()):
        training.heed(spent(state))
    return rates


def test_the_learning_rates_fall_to_a_twentieth_over_the_steps(tiny):
    rates = train(tiny, 40, table_rate=0.02, head_rate=0.004)
    assert rates.table[0] == 0.02 and rates.head[0] == 0.004
    assert rates.table[-1] == pytest.approx(0.02 * FINAL_RATE ** (39 / 40)) and FINAL_RATE == 1 / 20
    np.testing.assert_allclose(np.diff(np.log(rates.head)), np.log(FINAL_RATE) / 40, rtol=1e-6)


def test_where_time_runs_out_first_the_rates_fall_with_it(tiny):
    rates = train(tiny, 1000, spent=lambda state: (state + 1) / 5)
    assert rates.table[49] == pytest.approx(0.03 * FINAL_RATE**0.8)
    assert rates.table[99] == pytest.approx(0.03 * FINAL_RATE)


def test_a_run_hands_on_what_it_is_told_of_the_budget(tiny, monkeypatch):
    told = []
    monkeypatch.setattr(Training, "heed", lambda self, spent: told.append(spent))
    scan, grid = tiny
    run = methods.get("naf").run(scan, grid, NAFOptions(**SMALL))
    next(run)
    run.send(0.25)
    run.send(None)
    assert told == [0.25, None]


def test_no_fewer_steps_are_done_than_asked(tiny):
    training_ends = [state.steps for state in prepare(*_naf(tiny), options={"iterations": 15, **SMALL}).states()]
    assert training_ends == [2, 2]


def test_smoothness_makes_it_smoother_and_may_be_left_out(tiny):
    roughness = []
    for smoothness in (0, 1, 30):
        volume = reconstruct(*_naf(tiny), iterations=100, smoothness=smoothness, **SMALL).array
        roughness.append(sum(np.abs(np.diff(volume, axis=axis)).sum() for axis in range(3)))
    assert np.isfinite(roughness).all() and roughness[0] > roughness[1] > 1.2 * roughness[2]


def test_an_oblique_anisotropic_grid_shows_the_same_body():
    phantom = Phantom(11.0, ellipsoids=((0.03, (0.2, -0.3, 0.1), (0.4, 0.5, 0.6), 0.4),))
    grid = Grid.centred((12, 8, 16), (2.0, 3.0, 1.5))
    turn = rotation((1, -2, 0.5), 0.6)
    oblique = Grid(grid.size, grid.spacing_mm, tuple(turn @ grid.origin_mm), turn)
    scan = scan_of(phantom, circular(views=12), photons=1e6)
    for where in (grid, oblique):
        truth = phantom.volume(where)
        mu = reconstruct(scan, "naf", where, iterations=300, unit="1/mm", **SMALL).array
        assert np.corrcoef(mu.ravel(), truth.ravel())[0, 1] > 0.93
        assert mu[truth == truth.max()].mean() == pytest.approx(0.03, rel=0.15)


def test_a_scan_that_does_not_know_its_photons_is_fitted_too(tiny):
    scan, grid = tiny
    volume = reconstruct(Scan(scan.projections, scan.geometry), "naf", grid, iterations=30, **SMALL).array
    assert np.isfinite(volume).all() and volume.std() > 10


@pytest.mark.parametrize(
    "name, value",
    [("levels", 5), ("levels", 18), ("hidden", 30), ("hidden", 256), ("rows", 0), ("iterations", 9), ("smoothness", -1), ("seed", -1)]
    + [("log2_table", 9), ("table_rate", 0), ("head_rate", 2)],
)
def test_options_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"option {name}={value}"):
        methods.parse_options(methods.get("naf"), {name: value})


@pytest.mark.parametrize("options", [{"levels": 2, "hidden": 8, "log2_table": 10, "rows": 1}, {"levels": 16, "hidden": 64, "rows": 30}])
def test_options_at_their_ends_work(tiny, options):
    assert np.isfinite(reconstruct(*_naf(tiny), iterations=10, **options).array).all()
