"""From a scan to a volume: what is refused before the work, how it is driven, and what the volume says of itself."""

import json

import numpy as np
import pytest
from played_method import Played

from SparseCTReconLib import Geometry, Grid, InputError, Scan, methods, reconstruct
from SparseCTReconLib.methods.reconstruct import choose_device, prepare

ISOCENTRE = (10.0, -20.0, 300.0)


@pytest.fixture
def scan():
    geometry = Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25), isocentre_mm=ISOCENTRE)
    return Scan(np.full((6, 12, 16), 0.5), geometry, photons=1e5, mu_water=0.02)


@pytest.fixture
def grid():
    return Grid.centred((8, 9, 10), (12, 12, 12), ISOCENTRE)


@pytest.fixture
def played(monkeypatch):
    method = Played()
    known = methods.get
    monkeypatch.setattr(methods, "get", lambda name: method if name == "played" else known(name))
    return method


def test_a_scan_becomes_a_volume_in_hu_on_the_grid(scan, grid, played):
    volume = reconstruct(scan, "played", grid)
    assert volume.grid.matches(grid) and volume.unit == "HU" and volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, -1000 * 2.0**-8, atol=1e-3)


def test_attenuation_comes_in_1_per_mm_when_asked(scan, grid, played):
    volume = reconstruct(scan, "played", grid, unit="1/mm")
    assert volume.unit == "1/mm"
    np.testing.assert_allclose(volume.array, 0.02 * (1 - 2.0**-8), rtol=1e-6)


def test_without_a_grid_the_field_of_view_about_the_isocentre_is_taken(scan, played):
    np.testing.assert_allclose(reconstruct(scan, "played").grid.centre_mm, ISOCENTRE, atol=1e-6)


def test_the_volume_is_looked_at_once(scan, grid, played):
    reconstruct(scan, "played", grid)
    assert played.looks == 1


def test_a_volume_says_how_it_was_made(scan, grid, played):
    said = reconstruct(scan, "played", grid, steps=5).attributes
    assert all(key.startswith("SparseCTRecon.") and isinstance(value, str) for key, value in said.items())
    said = {key.removeprefix("SparseCTRecon."): value for key, value in said.items()}
    assert said["method"] == "played" and said["seed"] == "3" and said["steps"] == "5 of 5" and said["device"] == "cpu"
    assert json.loads(said["options"]) == {"steps": 5, "pause_s": 0.0, "seed": 3}
    assert set(json.loads(said["versions"])) >= {"SparseCTReconLib", "torch", "numba", "numpy"}
    assert said["scan_sha256"] == scan.content_hash()
    assert "research use only" in said["disclaimer"]
    assert "6 views" in said["geometry"] and "SID 1000.0 mm" in said["geometry"]
    assert float(said["seconds"]) >= 0 and said["backend"] and said["date"]


@pytest.mark.parametrize("name", methods.names())
def test_the_first_preset_of_a_method_is_its_defaults_and_every_other_one_fits_its_options(name):
    method = methods.get(name)
    assert "preset" not in method.Options.model_fields
    first, *others = method.presets
    assert methods.parse_options(method, {"preset": first}) == methods.parse_options(method, {}) == method.Options()
    for other in others:
        parsed = methods.parse_options(method, {"preset": other})
        assert {key: getattr(parsed, key) for key in method.presets[other]} == method.presets[other]


def test_a_preset_lies_below_the_options_that_are_given_and_the_volume_names_it(scan, grid, played):
    said = reconstruct(scan, "played", grid, preset="short", seed=9).attributes
    assert said["SparseCTRecon.preset"] == "short" and said["SparseCTRecon.steps"] == "2 of 2"
    assert json.loads(said["SparseCTRecon.options"]) == {"steps": 2, "pause_s": 0.0, "seed": 9}
    assert reconstruct(scan, "played", grid).attributes["SparseCTRecon.preset"] == "recommended"


def test_the_residual_is_that_of_the_volume_on_the_scan(scan, grid, played):
    from SparseCTReconLib.operators import projector

    A = projector(scan.geometry, grid)
    mu = np.full(grid.shape, 0.02 * (1 - 2.0**-8), np.float32)
    expected = np.linalg.norm(A(A.volume(mu)).numpy() - scan.projections) / np.linalg.norm(scan.projections)
    job = prepare(scan, "played", grid, extended=False)
    *_, last = job.states()
    said = job.volume(last, 0.0).attributes["SparseCTRecon.reprojection_residual"]
    assert float(said) == pytest.approx(expected, rel=1e-4)


def test_a_budget_stops_after_a_step_with_what_there_is(scan, grid, played):
    seen = []
    volume = reconstruct(scan, "played", grid, budget_s=0.05, progress=seen.append, steps=10_000, pause_s=0.01)
    assert 1 <= len(seen) <= 6
    assert volume.attributes["SparseCTRecon.steps"] == f"{len(seen)} of 10000"


def test_a_method_learns_how_much_of_the_budget_is_spent(scan, grid, played):
    reconstruct(scan, "played", grid)
    assert played.spent is None
    reconstruct(scan, "played", grid, budget_s=0.2, steps=10_000, pause_s=0.01)
    assert 0.7 < played.spent <= 1


def test_a_run_that_is_stopped_and_resumed_ends_where_one_without_a_stop_does(scan, grid, played):
    job = prepare(scan, "played", grid)
    run = job.states()
    third = [next(run) for _ in range(3)][-1]
    resumed = list(job.states(resume=third.checkpoint()))
    assert [state.step for state in resumed] == [4, 5, 6, 7, 8]
    np.testing.assert_array_equal(resumed[-1].volume(), list(job.states())[-1].volume())


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"method": "plaid"}, "did you mean 'played'|no method"),
        ({"method": "played", "step": 3}, "did you mean 'steps'"),
        ({"method": "played", "steps": 0}, "steps=0"),
        ({"method": "played", "preset": "shot"}, "played has no preset 'shot'; did you mean 'short'"),
        ({"method": "played", "unit": "kHU"}, "unit 'kHU'"),
        ({"method": "played", "budget_s": 0}, "positive number of seconds"),
        ({"method": "played", "device": "tpu"}, "auto, cpu or cuda"),
        ({"method": "played", "grid": Grid.centred((4, 4, 4), (1, 1, 1), (0, 0, 2000))}, "no ray of the scan meets the grid"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(scan, played, arguments, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        reconstruct(scan, **arguments)
    assert "\n" not in str(refused.value)


def test_cuda_is_never_replaced_by_the_cpu_in_silence(played, monkeypatch):
    with pytest.raises(InputError, match="fdk runs on cpu"):
        choose_device("cuda", methods.get("fdk"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        choose_device("cuda", played)
    assert choose_device("auto", played) == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto", played) == choose_device("cuda", played) == "cuda"


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.usefixtures("tiny_weights")
def test_every_method_counts_its_steps_and_gives_a_finite_volume_on_the_grid(scan, grid, name):
    states = list(prepare(scan, name, grid).states(budget_s=2))
    assert [state.step for state in states] == list(range(states[0].step, states[0].step + len(states)))
    assert all(0 <= state.step <= state.steps and state.stage for state in states)
    volume = states[-1].volume()
    assert volume.shape == grid.shape and volume.dtype == np.float32 and np.isfinite(volume).all()


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.usefixtures("tiny_weights")
def test_every_method_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(scan, grid, name):
    job = prepare(scan, name, grid)
    run = job.states()
    first = next(run)
    if first.checkpoint is None:
        pytest.skip("starting again is as quick")
    arrays = {key: np.array(value) for key, value in next(run).checkpoint().items()}
    straight, resumed = next(run), next(job.states(resume=arrays))
    assert (resumed.step, resumed.steps) == (straight.step, straight.steps)
    expected = straight.volume()
    np.testing.assert_allclose(resumed.volume(), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in methods.names() if not hasattr(methods.get(name), "kind")])
def test_a_scan_of_air_gives_air(scan, grid, name):
    air = Scan(np.zeros_like(scan.projections), scan.geometry, photons=1e5)
    assert np.abs(reconstruct(air, name, grid, budget_s=1).array + 1000).max() < 20
