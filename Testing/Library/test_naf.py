"""NAF as a user meets it: better than FDK on few views, the same again with the same seed, and done in the time it is given."""

from itertools import islice

import numpy as np
import pytest
from phantoms import Phantom
from poses import rotation
from small_scanners import circular
from small_scans import psnr, scan_of

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import mci
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods import coarse_to_fine, naf, starting_volume
from SparseCTReconLib.methods.naf import FINAL_RATE, HEADS, NAFOptions, Run
from SparseCTReconLib.methods.reconstruct import prepare
from SparseCTReconLib.methods.starting_volume import StartingVolume
from SparseCTReconLib.networks import restoration
from SparseCTReconLib.scan import Scan

SMALL = {"start": "nothing", "smoothness": 1.0, "levels": 4, "hidden": 16, "rays": 200}


def test_it_is_better_than_fdk_on_few_noisy_views(head):
    scan, grid, truth = head
    fdk, ours = reconstruct(scan, "fdk", grid).array, reconstruct(scan, "naf", grid, start="nothing", iterations=150).array
    assert psnr(ours, truth) > psnr(fdk, truth) + 1.5


def test_recommended_it_is_no_worse_than_the_volume_that_it_starts_from(head):
    scan, grid, truth = head
    tv, ours = (reconstruct(scan, method, grid).array for method in ("admm-tv", "naf"))
    assert psnr(ours, truth) > psnr(tv, truth) - 0.1


def test_the_field_alone_loses_nothing_of_the_volume_it_is_added_to(head):
    scan, grid, truth = head
    errors = []
    for state in prepare(scan, "naf", grid, options={"restoration": "none"}).states():
        if state.stage == "training the field" or state.step == 50:
            errors.append(psnr(50_000 * state.volume() - 1000, truth))
    assert len(errors) >= 10 and min(errors) > errors[0] - 0.1


@pytest.mark.parametrize("loss", ["filtered", "squares", "l1"])
def test_every_loss_teaches_the_field(head, loss):
    scan, grid, truth = head
    ours = reconstruct(scan, "naf", grid, start="nothing", iterations=100, loss=loss, rays=1024).array
    assert psnr(ours, truth) > psnr(np.full_like(truth, -1000), truth) + 3


@pytest.mark.parametrize("network", ["compact", "ni-nerf", "naf"])
def test_every_network_can_be_chosen(tiny, network):
    first, *_, last = prepare(*_naf(tiny), options={"iterations": 100, **SMALL, "network": network}).states()
    assert last.metrics["loss"] < first.metrics["loss"]


def test_no_network_saturates_below_bone():
    phantom = Phantom(11.0, ellipsoids=((0.05, (0.2, -0.3, 0.1), (0.4, 0.5, 0.6), 0.4),))
    scan, grid = scan_of(phantom, circular(views=12), photons=1e6), Grid.centred((12, 8, 16), (2.0, 3.0, 1.5))
    truth = phantom.volume(grid)
    for network in HEADS:
        mu = reconstruct(scan, "naf", grid, iterations=300, unit="1/mm", **{**SMALL, "smoothness": 0.1, "network": network}).array
        assert mu[truth == truth.max()].mean() == pytest.approx(0.05, rel=0.15), network


def test_the_mask_comes_after_its_step(tiny, monkeypatch):
    asked = []

    def mask_none(encode, cube, device):
        asked.append(encode(cube.voxel_centres(0, 1).to(device)).shape)
        return np.repeat([1.0, 0.0], 4)

    monkeypatch.setattr(naf, "channel_mask", mask_none)
    *_, state = prepare(*_naf(tiny), options={"iterations": 40, "mask_step": 20, **SMALL}).states()
    assert len(asked) == 1 and asked[0][0] == 8
    np.testing.assert_array_equal(state.checkpoint()["mask"], [1] * 4 + [0] * 4)


@pytest.mark.parametrize(
    "contradiction",
    [
        {"mci": "head"},
        {"start": "admm-tv", "mci": "auto"},
        {"start": "nothing", "mci": "auto", "layer_norm": False},
        {"start": "nothing", "restoration": "mine.safetensors"},
        {"start": "fdk"},
        {"finest": 15},
    ],
)
def test_options_that_contradict_each_other_are_refused(contradiction):
    with pytest.raises(InputError):
        methods.parse_options(methods.get("naf"), contradiction)


def said(scan, grid, steps, **options):
    """Weights and backend that a volume names after so many steps."""
    job = prepare(scan, "naf", grid, options=options)
    *_, state = islice(job.states(), steps)
    attributes = job.volume(state, 1.0).attributes
    return attributes["SparseCTRecon.weights"], attributes.get("SparseCTRecon.field_backend")


def test_a_volume_names_the_weights_that_have_shaped_it_and_no_others(tiny, tmp_path):
    short = {"iterations": 10, "levels": 4, "hidden": 16}
    network = restoration.load()[1].source
    assert "restoration (sha256 " in network
    turn = StartingVolume(*tiny, lambda mu: mu).unmended
    assert said(*tiny, turn, **short) == ("", None)
    assert said(*tiny, turn + 1, **short) == (network, None)
    assert said(*tiny, None, **short) == (network, "numba")
    assert said(*tiny, None, restoration="none", **short) == ("", "numba")
    own = tmp_path / "mine.safetensors"
    restoration.save(restoration.RestorationNetwork((8, 8, 8)), own, {})
    assert said(*tiny, None, restoration=str(own), **short)[0].startswith("mine (sha256 ")
    alone = {"start": "nothing", "iterations": 10}
    assert said(*tiny, None, **alone) == ("", "numba")
    assert said(*tiny, None, mci="abdomen", **alone) == (mci.load("abdomen", Head(16, 32)).source, "numba")


def test_the_shipped_network_is_not_asked_about_more_views_than_it_has_learnt_from(tiny, tmp_path):
    scan, grid = scan_of(Phantom(11.0), circular(views=50)), tiny[1]
    assert Run(scan, grid, NAFOptions(), "cpu").start.mend is None
    own = tmp_path / "mine.safetensors"
    restoration.save(restoration.RestorationNetwork((8, 8, 8)), own, {})
    assert Run(scan, grid, NAFOptions(restoration=str(own)), "cpu").start.mend.source.startswith("mine")


def test_weights_of_another_network_and_a_backend_that_is_not_there_are_refused_before_the_work(tiny, monkeypatch):
    monkeypatch.setattr(StartingVolume, "states", lambda *a: pytest.fail("the work has begun"))
    wrong = {"start": "nothing", "mci": "abdomen", "hidden": 64}, {"backend": "tinycudann"}
    for options, sentence in zip(wrong, ("abdomen.* holds weights for .* but this network is .*set mci=none", "runs on cuda alone")):
        with pytest.raises(InputError, match=sentence):
            next(prepare(*_naf(tiny), device="cpu", options=options).states())


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("kept_at", [1, 40, 1000])
def test_the_recommended_run_goes_on_exactly_from_any_stage(tiny, few, kept_at):
    geometry = circular(views=1 if few else 8)
    scan, grid = scan_of(Phantom(11.0), geometry), tiny[1]
    method, options = methods.get("naf"), NAFOptions(iterations=30, levels=4, hidden=16)
    kept = None
    for state in method.run(scan, grid, options):
        if state.step == min(kept_at, state.steps - 1):
            kept = {name: np.array(array) for name, array in state.checkpoint().items()}
    resumed = list(method.run(scan, grid, options, resume=kept))
    assert len(resumed) == state.steps - min(kept_at, state.steps - 1)
    np.testing.assert_array_equal(resumed[-1].volume(), state.volume())


@pytest.mark.parametrize("few", [False, True])
def test_mending_goes_on_exactly_from_every_pass(tiny, few):
    scan, grid = scan_of(Phantom(11.0), circular(views=1 if few else 8)), tiny[1]
    through = StartingVolume(scan, grid, lambda mu: 1.02 * mu)
    kept = []
    for step, state in enumerate(through.states(), start=1):
        kept.append({name: np.array(array) for name, array in (through.arrays(state) | {"step": step}).items()})
    assert len(kept) == through.passes == through.unmended + (4 if few else 2) * 10
    for step in range(through.unmended - 1, through.passes, 7):
        resumed = StartingVolume(scan, grid, lambda mu: 1.02 * mu)
        assert len(list(resumed.states(resumed.resume(kept[step - 1])))) == through.passes - step
        np.testing.assert_array_equal(resumed.solver.state.x, through.solver.state.x)


def test_a_large_grid_with_few_views_begins_on_a_coarser_one_and_goes_on_exactly(tiny, monkeypatch):
    monkeypatch.setattr(coarse_to_fine, "LEAST", max(tiny[1].size) // 2)
    monkeypatch.setattr(starting_volume, "REFINING", 3)
    scan, grid, shapes = scan_of(Phantom(11.0), circular(views=1)), tiny[1], []

    def mend(mu):
        shapes.append(mu.shape)
        return 1.02 * mu

    through = StartingVolume(scan, grid, mend, coarser=True)
    kept = []
    for step, state in enumerate(through.states(), start=1):
        kept.append({name: np.array(array) for name, array in (through.arrays(state) | {"step": step}).items()})
        assert through.means(state).shape == grid.shape and 0 < through.residual(state) < 1.1
    coarse = through.coarse
    assert shapes == 4 * [coarse.shape] + 3 * [grid.shape] and coarse.shape == tuple(n // 2 for n in grid.shape)
    assert len(kept) == through.passes == coarse.passes + 3 + 3 * 10 and through.unmended == coarse.unmended
    assert kept[coarse.passes]["x"].shape == grid.shape
    for step in (1, coarse.unmended + 3, coarse.passes - 1, coarse.passes, coarse.passes + 2, coarse.passes + 3, coarse.passes + 17):
        resumed = StartingVolume(scan, grid, mend, coarser=True)
        assert len(list(resumed.states(resumed.resume(kept[step - 1])))) == through.passes - step
        np.testing.assert_array_equal(resumed.solver.state.x, through.solver.state.x)
    assert StartingVolume(scan, grid, mend).coarse is None and StartingVolume(scan, grid, coarser=True).coarse is None


def test_the_start_is_mended_in_every_round_and_the_data_agree_again(tiny):
    scan, grid = tiny
    seen, more = [], 0.2 * scan.mu_water

    def mend(mu):
        seen.append(np.array(mu))
        return mu + np.float32(more)

    start = StartingVolume(scan, grid, mend)
    *_, last = start.states()
    assert len(seen) == start.rounds == 2
    for before, after in ((seen[0], seen[1]), (seen[1], start.means(last))):
        assert abs((after - before).mean()) < 0.3 * more and np.abs(after - before).max() > 0
    assert StartingVolume(scan, grid).passes == start.unmended


@pytest.mark.parametrize("few", [False, True])
def test_a_run_stopped_where_the_field_begins_goes_on_from_there(tiny, few):
    scan, grid = scan_of(Phantom(11.0), circular(views=1 if few else 8)), tiny[1]
    method, options = methods.get("naf"), NAFOptions(iterations=30, levels=4, hidden=16)
    states, kept = method.run(scan, grid, options), None
    for state in states:
        if state.stage == "training the field":
            break
        kept = {name: np.array(array) for name, array in state.checkpoint().items()}
    resumed = list(method.run(scan, grid, options, resume=kept))
    assert [of.step for of in resumed] == [state.step, state.step + 1, state.step + 2]
    *_, last = states
    np.testing.assert_array_equal(resumed[-1].volume(), last.volume())


@pytest.mark.parametrize("start", ["admm-tv", "nothing"])
def test_a_run_that_is_done_has_nothing_to_go_on_with(tiny, start):
    method, options = methods.get("naf"), NAFOptions(iterations=10, start=start, levels=4, hidden=16)
    *_, last = method.run(*tiny, options)
    with pytest.raises(InputError, match="ask for more iterations"):
        next(method.run(*tiny, options, resume=last.checkpoint()))


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


def train(tiny, iterations, states=None, spent=lambda state: None, **options):
    run = Run(*tiny, NAFOptions(iterations=iterations, **SMALL, **options), "cpu")
    training = run.training(None)
    rates = Rates(training)
    for state in range(states or iterations // 10):
        run.ten_steps(training)
        run.spent = spent(state) or 0.0
    return rates


def test_the_learning_rates_fall_to_a_twentieth_over_the_steps(tiny):
    rates = train(tiny, 40, table_rate=0.02, head_rate=0.004)
    assert rates.table[0] == 0.02 and rates.head[0] == 0.004
    assert rates.table[-1] == pytest.approx(0.02 * FINAL_RATE ** (39 / 40)) and FINAL_RATE == 1 / 20
    np.testing.assert_allclose(np.diff(np.log(rates.head)), np.log(FINAL_RATE) / 40, rtol=1e-6)


def test_where_time_runs_out_first_the_rates_fall_with_it(tiny):
    rates = train(tiny, 1000, 10, lambda state: (state + 1) / 5)
    assert rates.table[49] == pytest.approx(0.03 * FINAL_RATE**0.8)
    assert rates.table[99] == pytest.approx(0.03 * FINAL_RATE)


def test_a_run_heeds_what_it_is_told_of_the_budget(tiny, monkeypatch):
    told = []
    ten_steps = Run.ten_steps
    monkeypatch.setattr(Run, "ten_steps", lambda self, training: told.append(self.spent) or ten_steps(self, training))
    run = methods.get("naf").run(*tiny, NAFOptions(**SMALL))
    next(run)
    run.send(0.25)
    run.send(None)
    assert told == [0.0, 0.25, 0.0]


def test_no_fewer_steps_are_done_than_asked(tiny):
    training_ends = [state.steps for state in prepare(*_naf(tiny), options={"iterations": 15, **SMALL}).states()]
    assert training_ends == [2, 2]


def test_smoothness_makes_it_smoother_and_may_be_left_out(tiny):
    roughness = []
    for smoothness in (0, 1, 30):
        volume = reconstruct(*_naf(tiny), iterations=100, **{**SMALL, "smoothness": smoothness}).array
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
        mu = reconstruct(scan, "naf", where, iterations=300, unit="1/mm", **{**SMALL, "rays": 80, "smoothness": 0.1}).array
        assert np.corrcoef(mu.ravel(), truth.ravel())[0, 1] > 0.93
        assert mu[truth == truth.max()].mean() == pytest.approx(0.03, rel=0.15)


def test_a_scan_that_does_not_know_its_photons_is_fitted_too(tiny):
    scan, grid = tiny
    volume = reconstruct(Scan(scan.projections, scan.geometry), "naf", grid, iterations=30, **SMALL).array
    assert np.isfinite(volume).all() and volume.std() > 10


@pytest.mark.parametrize(
    "name, value",
    [("levels", 5), ("levels", 18), ("hidden", 30), ("hidden", 256), ("rays", 1), ("iterations", 9), ("smoothness", -1), ("seed", -1)]
    + [("log2_table", 9), ("table_rate", 0), ("head_rate", 2)],
)
def test_options_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"option {name}={value}"):
        methods.parse_options(methods.get("naf"), {name: value})


@pytest.mark.parametrize("options", [{"levels": 2, "hidden": 8, "log2_table": 10, "rays": 16}, {"levels": 16, "hidden": 64, "rays": 1500}])
def test_options_at_their_ends_work(tiny, options):
    assert np.isfinite(reconstruct(*_naf(tiny), start="nothing", iterations=10, **options).array).all()
