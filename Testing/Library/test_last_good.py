"""What a user gets when a method's numbers cease to be finite, or when its time is too short: the last good volume, and a word about it."""

import logging
import time
from dataclasses import replace

import numpy as np
import pytest
from played_method import Played

from SparseCTReconLib import Geometry, Grid, Scan, methods, reconstruct
from SparseCTReconLib.methods.last_good import LastGood
from SparseCTReconLib.methods.reconstruct import Reconstruction

GRID = Grid.centred((8, 9, 10), (12, 12, 12))


class Diverging(Played):
    """Its volume, which all its states share, is spoiled at the fourth step; it tells by `telling`."""

    name, telling = "diverging", "metric"
    full, memory_error = 100, MemoryError()

    def run(self, scan, grid, options, device="cpu", resume=None):
        mu = np.zeros(grid.shape, np.float32)
        for state in super().run(scan, grid, options, device, resume):
            spoiled = state.step >= 4
            if spoiled and self.telling == "raising before":
                raise FloatingPointError("its loss became nan")
            if state.step >= self.full:
                raise self.memory_error
            mu[...] = np.nan if spoiled else 0.001 * state.step
            if spoiled and self.telling == "raising after":
                raise FloatingPointError("its loss became nan")
            said = {"loss": np.nan} if spoiled and self.telling == "metric" else {"loss": 1.0}
            yield replace(state, volume=lambda: mu, metrics=said)


@pytest.fixture
def method(monkeypatch):
    diverging, known = Diverging(), methods.get
    monkeypatch.setattr(methods, "get", lambda name: diverging if name == "diverging" else known(name))
    return diverging


@pytest.fixture
def scan():
    geometry = Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25))
    projections = np.zeros((6, 12, 16))
    projections[:, 3:9, 4:12] = 0.5  # the shadow of the grid
    return Scan(projections, geometry, photons=1e5, mu_water=0.02)


def looked_at(state):
    """A user's look, as for a preview."""
    state.volume()


@pytest.mark.parametrize("telling, volume_of", [("metric", 3), ("raising after", 3), ("nothing", 3), ("raising before", 3)])
def test_a_run_that_diverges_ends_with_its_last_good_volume_and_says_so(scan, method, caplog, telling, volume_of):
    method.telling = telling
    with caplog.at_level(logging.WARNING, "SparseCTReconLib"):
        volume = reconstruct(scan, "diverging", GRID, unit="1/mm", progress=looked_at)
    np.testing.assert_allclose(volume.array, 0.001 * volume_of, rtol=1e-6)
    assert volume.attributes["SparseCTRecon.steps"] == f"{volume_of} of 8"
    said = volume.attributes["SparseCTRecon.warnings"]
    assert said.startswith("stopped because its ") and said.endswith(f"the volume is that of step {volume_of} of 8")
    assert f"diverging: {said}" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_a_run_that_runs_out_of_memory_keeps_its_volume_and_says_what_to_lower(scan, method, error):
    method.full, method.memory_error = 3, error
    method.memory_options = ("steps",)
    volume = reconstruct(scan, "diverging", GRID, unit="1/mm")
    np.testing.assert_allclose(volume.array, 0.002, rtol=1e-6)
    said = volume.attributes["SparseCTRecon.warnings"]
    assert said.startswith("stopped because the machine ran out of memory (give --set steps=4, or a coarser grid)"), said


def test_out_of_memory_before_the_first_step_is_an_error_and_other_errors_stay_errors(scan, method):
    method.full, method.memory_error = 1, MemoryError()
    with pytest.raises(MemoryError):
        reconstruct(scan, "diverging", GRID)
    method.full, method.memory_error = 3, RuntimeError("a fault of ours")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        reconstruct(scan, "diverging", GRID)


def test_a_method_that_stops_before_it_spoils_its_volume_needs_nobody_to_have_looked(scan, method):
    method.telling = "raising before"
    np.testing.assert_allclose(reconstruct(scan, "diverging", GRID, unit="1/mm").array, 0.003, rtol=1e-6)


@pytest.mark.parametrize("telling", ["metric", "raising after", "nothing"])
def test_a_run_that_diverges_before_anyone_has_a_good_volume_fails_in_one_sentence(scan, method, telling):
    method.telling = telling
    with pytest.raises(FloatingPointError, match="^diverging diverged before it had a good volume: its (loss|volume)") as failed:
        reconstruct(scan, "diverging", GRID)
    assert "\n" not in str(failed.value)


def test_a_finite_volume_that_explains_the_data_worse_than_nothing_is_no_good_one(scan, method, monkeypatch):
    method.telling = "raising before"
    states = method.run(scan, GRID, method.Options())
    monkeypatch.setattr(
        method, "run", lambda scan, grid, *more: (replace(state, volume=lambda: np.full(grid.shape, 1e6, np.float32)) for state in states)
    )
    with pytest.raises(FloatingPointError, match="before it had a good volume"):
        reconstruct(scan, "diverging", GRID)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_its_own_looks_take_a_fiftieth_of_the_time_at_most(scan):
    clock, looks = Clock(), []

    class Slow(Played):
        def _volume(self, grid, error):
            def volume():
                looks.append(clock.now)
                clock.now += 0.5
                return np.zeros(grid.shape, np.float32)

            return volume

    kept = LastGood(lambda mu: True, clock)
    for state in Slow().run(scan, GRID, Slow.Options(steps=1000)):
        kept.guard(state)
        clock.now += 0.1
        kept.look_if_due()
    assert len(looks) == pytest.approx(100 / 25, abs=1) and looks[0] == pytest.approx(10, abs=0.2)


def test_a_copy_is_kept_not_the_memory_that_the_method_goes_on_with(scan):
    mu = np.ones(GRID.shape, np.float32)
    kept = LastGood(lambda mu: True)
    first, second = (state for state in Played().run(scan, GRID, Played.Options(steps=2)))
    kept.guard(replace(first, volume=lambda: mu)).volume()
    mu[...] = 7
    kept.guard(replace(second, volume=lambda: mu * np.nan))
    found = kept.state("a test asks")
    assert found.step == 1 and found.volume().max() == 1


def test_a_budget_too_short_for_one_step_gives_the_first_volume_and_says_so(scan, monkeypatch, caplog):
    known = methods.get
    monkeypatch.setattr(methods, "get", lambda name: Played() if name == "played" else known(name))
    seen = []
    with caplog.at_level(logging.WARNING, "SparseCTReconLib"):
        volume = reconstruct(scan, "played", GRID, budget_s=0.01, progress=seen.append, pause_s=0.02)
    assert len(seen) == 1
    said = volume.attributes["SparseCTRecon.warnings"]
    assert "more than the budget of 0.01 s: the volume is that of step 1 of 8; give more time or a coarser grid" in said
    assert [record.getMessage() for record in caplog.records] == [f"played: {said}"]


def test_a_method_of_one_step_that_takes_longer_than_its_budget_has_done_all_it_can(scan):
    assert reconstruct(scan, "fdk", GRID, budget_s=1e-6).attributes["SparseCTRecon.warnings"] == ""


def test_the_steps_after_the_first_are_not_said_to_be_over_the_budget(scan):
    job = Reconstruction(scan, Played(), Played.Options(pause_s=0.03), GRID, "cpu")
    states = []
    for state in job.states(0.1):
        states.append(state)
        time.sleep(0.1 if state.step == 2 else 0)
    assert [state.note for state in states] == [""] * len(states) and len(states) == 2
