"""The background process itself: a real one, with a method that is played and one that is not."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from played_worker import PlayedTransport

from SparseCTReconLib import Geometry, Grid, Scan, read_volume, write_scan
from SparseCTReconLib.jobs import checkpoint
from SparseCTReconLib.jobs.client import Job, JobState, worker_environment
from SparseCTReconLib.jobs.events import EventStream
from SparseCTReconLib.jobs.spec import ReconstructJob, write_spec

GRID = Grid.centred((8, 9, 10), (12, 12, 12))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks at processes as POSIX shows them")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans") / "ein Scan für ψ"
    geometry = Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25))
    write_scan(Scan(np.full((6, 12, 16), 0.5), geometry, photons=1e5), folder)
    return folder


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "röntgen bilder"
    folder.mkdir()
    return folder


def write_job(place, scan_folder, **values):
    options = {"steps": values.pop("steps", 8), "pause_s": values.pop("pause_s", 0.0)}
    spec = {"scan": str(scan_folder), "output": str(place / "volume.nrrd"), "method": "played", "options": options, "grid": GRID.to_dict()}
    return write_spec(ReconstructJob(**(spec | values)), place / "job")


def start(job_file, resume=False):
    job = Job(PlayedTransport(), on_event=(told := []).append)
    job.told = told
    job.start(job_file, resume)
    return job


def follow(job, until=lambda job: False, limit_s=30):
    end = time.monotonic() + limit_s
    while job.active and not until(job) and time.monotonic() < end:
        job.poll()
        time.sleep(0.02)
    return job


def told(job, kind):
    return [event for event in job.told if event["event"] == kind]


def group_is_gone(pid, limit_s=5):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def leftovers(place):
    return [str(path) for path in place.rglob("*") if path.name.startswith(".") or ".tmp" in path.name]


def stepping(job):
    return job.progress is not None and job.progress["step"] >= 3


def test_a_job_ends_with_its_volume_its_summary_and_nothing_else(place, scan):
    job = start(write_job(place, scan, summary=str(place / "summary.json"), previews=str(place / "previews"), preview_interval_s=0))
    follow(job)
    assert job.state is JobState.DONE, job.error
    volume = read_volume(place / "volume.nrrd")
    assert volume.grid.matches(GRID)
    np.testing.assert_allclose(volume.array, -1000 * 2.0**-8, atol=1e-3)
    assert volume.attributes["SparseCTRecon.method"] == "played"
    summary = json.loads((place / "summary.json").read_text())
    assert summary == job.result["summary"]
    assert {"method", "backend", "seconds", "peak_memory_mb", "reprojection_residual", "options"} <= set(summary)
    assert 50 < summary["peak_memory_mb"] < 4000
    assert not checkpoint.exists(place / "job") and not leftovers(place)
    assert [event["event"] for event in job.told if event["event"] in ("started", "done")] == ["started", "done"]
    assert told(job, "progress")[-1]["fraction"] == 1.0
    assert {path.name for path in (place / "previews").iterdir()} == {os.path.basename(event["path"]) for event in told(job, "preview")}
    header = next((place / "previews").iterdir()).read_bytes()[:2000].split(b"\n\n")[0]
    assert b"type: float" in header and b"encoding: raw" in header
    printed = [event for event in told(job, "log") if not event["message"].startswith("played works on")]
    assert not printed, "what a library prints must not come in between the events"
    assert any("a line on standard output" in line for line in job.log)


def test_a_killed_worker_is_noticed_within_five_seconds_and_resume_goes_on(place, scan):
    job_file = write_job(place, scan, steps=40, pause_s=0.05, checkpoint_interval_s=0.1)
    job = follow(start(job_file), lambda job: checkpoint.exists(job_file.parent) and stepping(job))
    os.kill(job.pid, signal.SIGKILL)
    killed = time.monotonic()
    follow(job, limit_s=5)
    assert job.state is JobState.FAILED and time.monotonic() - killed < 5
    assert "the worker ended without a result" in job.error["message"]
    assert group_is_gone(job.pid)
    resumed = follow(start(job_file, resume=True))
    assert resumed.state is JobState.DONE, resumed.error
    assert told(resumed, "progress")[0]["step"] > 2
    np.testing.assert_allclose(read_volume(place / "volume.nrrd").array, 0, atol=1e-3)


def test_cancel_ends_every_process_and_leaves_only_what_resume_needs(place, scan):
    job_file = write_job(place, scan, steps=1000, pause_s=0.02)
    job = follow(start(job_file), stepping)
    job.cancel()
    follow(job, limit_s=6)
    assert job.state is JobState.CANCELLED and job.resumable
    assert group_is_gone(job.pid)
    assert not (place / "volume.nrrd").exists() and not leftovers(place)
    assert checkpoint.exists(job_file.parent)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_workers")
def test_a_method_that_hangs_is_cancelled_all_the_same(place, scan):
    job = follow(start(write_job(place, scan, pause_s=600)), lambda job: told(job, "started"))
    asked = time.monotonic()
    job.cancel()
    follow(job, limit_s=10)
    assert job.state is JobState.CANCELLED and time.monotonic() - asked < 7
    assert group_is_gone(job.pid) and not leftovers(place)


def test_sigterm_is_a_cancel(place, scan):
    job = follow(start(write_job(place, scan, steps=1000, pause_s=0.02)), stepping)
    os.kill(job.pid, signal.SIGTERM)
    follow(job, limit_s=6)
    assert job.state is JobState.CANCELLED and job.exit_code == 3
    assert not (place / "volume.nrrd").exists() and not leftovers(place)


def test_a_worker_whose_parent_has_gone_does_not_stay(place, scan):
    job_file = write_job(place, scan, steps=100_00, pause_s=0.02)
    transport = [sys.executable, "-u", PlayedTransport.start.__code__.co_filename, str(job_file)]
    worker = subprocess.Popen(transport, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **worker_environment()})
    stream = EventStream()
    while not any(event["event"] == "progress" for event in stream.feed(worker.stdout.readline())):
        pass
    worker.stdout.close()
    assert worker.wait(timeout=10) == 3


@pytest.mark.usefixtures("quick_workers")
def test_a_failure_says_one_sentence_and_leaves_the_earlier_volume(place, scan):
    (place / "volume.nrrd").write_bytes(b"earlier")
    job = follow(start(write_job(place, scan, steps=13)))
    assert job.state is JobState.FAILED and job.exit_code == 1
    assert job.error["message"] == "RuntimeError: thirteen is an unlucky number"
    assert "Traceback" in job.error["details"] and any("Traceback" in line for line in job.log)
    assert (place / "volume.nrrd").read_bytes() == b"earlier" and not leftovers(place)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"scan": "nowhere"}, "does not exist"),
        ({"steps": 0}, "steps=0"),
        ({"output": "volume.png"}, "give one of these endings"),
        ({"like": "volume.nrrd"}, "the grid is said twice"),
    ],
)
@pytest.mark.usefixtures("quick_workers")
def test_a_wrong_input_is_said_and_leaves_nothing(place, scan, wrong, sentence):
    wrong = {key: str(place / value) if isinstance(value, str) else value for key, value in wrong.items()}
    job = follow(start(write_job(place, scan, **wrong)))
    assert job.state is JobState.FAILED and job.exit_code == 2
    assert sentence in job.error["message"] and "\n" not in job.error["message"]
    assert [path.name for path in place.iterdir()] == ["job"]


@pytest.mark.usefixtures("quick_workers")
def test_resume_refuses_a_checkpoint_of_other_options(place, scan):
    job_file = write_job(place, scan, steps=1000, pause_s=0.02)
    job = follow(start(job_file), stepping)
    job.cancel()
    follow(job)
    other = follow(start(write_job(place, scan, steps=999, pause_s=0.02), resume=True))
    assert other.exit_code == 2 and "its options was" in other.error["message"]
    assert checkpoint.exists(job_file.parent)
