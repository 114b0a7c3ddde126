"""How a worker drives a method: progress, previews, checkpoints; in this process, with a clock that the test turns."""

import numpy as np
import pytest
from played_method import Played

from SparseCTReconLib import Geometry, Grid, InputError, Scan, formats
from SparseCTReconLib.jobs import checkpoint
from SparseCTReconLib.jobs.spec import ReconstructJob
from SparseCTReconLib.jobs.tasks import Drive
from SparseCTReconLib.jobs.watch import Cancelled
from SparseCTReconLib.methods.reconstruct import Reconstruction

GRID = Grid.centred((4, 5, 6), (20, 20, 20))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Ticking(Played):
    """Takes 5 s for the first step, as one that compiles, and 1 s for each other."""

    def __init__(self, clock):
        self.clock = clock

    def run(self, scan, grid, options, device="cpu", resume=None):
        self.clock.now += 4
        for state in super().run(scan, grid, options, device, resume):
            self.clock.now += 1
            yield state


class Asked:
    """A watch that asks to stop at a step."""

    def __init__(self, at=None):
        self.at, self.step, self.resumable = at, None, False

    def check(self):
        if self.at is not None and self.step >= self.at:
            raise Cancelled


@pytest.fixture
def drive(tmp_path):
    clock, said = Clock(), []

    def make(stop_at=None, before=None, steps=10, **values):
        geometry = Geometry.preset("linac", 4, detector_shape=(6, 8), pixel_mm=(60, 50))
        method = Ticking(clock)
        job = Reconstruction(Scan(np.ones((4, 6, 8)), geometry), method, method.Options(steps=steps), GRID, "cpu")
        spec = ReconstructJob(**{"scan": "s", "output": "o.nrrd", "checkpoint_interval_s": 1000, "preview_interval_s": 0, **values})
        say = lambda event, **of: said.append({"event": event, **of})  # noqa: E731
        return Drive(job, spec, tmp_path, say, Asked(stop_at), before, clock)

    make.said, make.folder = said, tmp_path
    return make


def told(drive, kind):
    return [event for event in drive.said if event["event"] == kind]


def test_the_time_left_follows_the_pace_after_the_first_step(drive):
    drive().run()
    left = [event["remaining_s"] for event in told(drive, "progress")]
    assert left[0] is None
    assert left[1:-1] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    fractions = [event["fraction"] for event in told(drive, "progress")]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_the_time_left_is_no_longer_than_the_budget(drive):
    drive(steps=1000, budget_s=60).run()
    left = {event["elapsed_s"]: event["remaining_s"] for event in told(drive, "progress")}
    assert (left[5], left[20], left[60]) == (55, 40, 0)


def test_metrics_are_told_with_their_step(drive):
    drive(steps=2).run()
    assert [(event["step"], event["values"]["error"]) for event in told(drive, "metric")][:2] == [(1, 0.5), (2, 0.25)]


def test_only_the_newest_previews_are_kept_when_asked(drive):
    drive(previews=str(drive.folder / "seen"), previews_kept=2).run()
    assert len(told(drive, "preview")) == 10
    assert sorted(path.name for path in (drive.folder / "seen").iterdir()) == ["step-000009.nrrd", "step-000010.nrrd"]


def test_an_old_preview_that_someone_still_reads_does_not_end_the_run(drive, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "used by another process", str(path))  # as Windows does

    driving = drive(previews=str(drive.folder / "seen"), previews_kept=2)
    monkeypatch.setattr(type(drive.folder), "unlink", refuse)
    driving.run()
    assert len(told(drive, "preview")) == 10


def test_previews_come_no_oftener_than_asked_but_the_first_at_once(drive):
    drive(previews=str(drive.folder), preview_interval_s=3).run()
    assert [event["step"] for event in told(drive, "preview")] == [1, 4, 7, 10]


def test_slow_previews_become_rare(drive, monkeypatch):
    clock = None

    def slow(volume, path):
        clock.now += 0.5
        path.write_bytes(b"")

    monkeypatch.setattr(formats, "write_volume", slow)
    made = drive(steps=12, previews=str(drive.folder))
    clock = made.clock
    made.run()
    assert [event["step"] for event in told(drive, "preview")] == [1, 6, 11]


def test_a_preview_that_cannot_be_written_is_a_warning_and_the_work_goes_on(drive, monkeypatch):
    def refuse(volume, path):
        raise InputError(f"{path} cannot be written (disk full)")

    monkeypatch.setattr(formats, "write_volume", refuse)
    state, _ = drive(previews=str(drive.folder / "seen")).run()
    (warning,) = told(drive, "warning")
    assert state.step == 10 and str(drive.folder / "seen" / "step-000001.nrrd") in warning["message"]


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_the_work_goes_on(drive, monkeypatch):
    def refuse(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save", refuse)
    state, _ = drive(checkpoint_interval_s=2).run()
    assert state.step == 10 and "disk full" in told(drive, "warning")[0]["message"]


def test_a_stop_leaves_a_checkpoint_of_the_last_step_and_its_seconds_count_on(drive):
    stopped = drive(stop_at=3)
    with pytest.raises(Cancelled):
        stopped.run()
    assert stopped.watch.resumable
    found = checkpoint.load(drive.folder, {})
    assert (found.step, found.seconds) == (3, 7)
    state, seconds = drive(before=found).run()
    assert state.step == 10 and seconds == 7 + 4 + 7
