"""Faults by jobs: each is noticed, said in one sentence, and gone on from or cleanly ended; nothing is lost, and no file is half written.

| fault | where else it is tested |
|---|---|
| worker killed at any stage | `test_jobs_worker`: while stepping; silent ones in `test_jobs_client` |
| disk full | `test_jobs_files`, `test_jobs_drive`: previews and checkpoints that cannot be written |
| output removed | |
| checkpoint cut | `test_jobs_files`: every damage to its files |
| GPU lost, out of memory | `test_jobs_files`: the sentences; `test_memory`: refused before the work |
| clock jump | `test_jobs_client`: a parent that slept |
| two writers in one folder | |
| parent killed | `test_jobs_worker`: a parent that no longer reads |
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from played_worker import PlayedTransport
from rich.console import Console
from test_jobs_worker import follow as follow_for
from test_jobs_worker import group_is_gone, leftovers, place, scan, start, stepping, told, write_job  # noqa: F401

from SparseCTReconLib import InputError, read_volume
from SparseCTReconLib.commands.running import run_job
from SparseCTReconLib.jobs import checkpoint
from SparseCTReconLib.jobs.client import Job, JobState
from SparseCTReconLib.jobs.events import EventWriter
from SparseCTReconLib.jobs.files import CANCEL_FILE, JOB_FILE, LOG_FILE
from SparseCTReconLib.jobs.lock import only_writer
from SparseCTReconLib.jobs.spec import read_spec
from SparseCTReconLib.jobs.watch import Cancelled, Watch

pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks at processes as POSIX shows them")


def follow(job, until=lambda job: False):
    return follow_for(job, until, limit_s=100)


def is_whole(folder):
    """Whether the volume is there as it should be, and nothing beside it that was for a while."""
    np.testing.assert_allclose(read_volume(folder / "volume.nrrd").array, 0, atol=1e-3)
    return not leftovers(folder)


def start_in(environment, job_file, resume=False):
    job = Job(PlayedTransport(), on_event=(told := []).append)
    job.told = told
    job.start(job_file, resume, environment)
    return job


def one_sentence(job):
    message = job.error["message"]
    return job.state is JobState.FAILED and message and "\n" not in message and "Traceback" not in message


STAGES = {
    "loading": lambda job: told(job, "stage"),
    "reading": lambda job: any(event["name"] == "reading the scan" for event in told(job, "stage")),
    "stepping": stepping,
    "writing": lambda job: any(event["name"] == "writing the volume" for event in told(job, "stage")),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_at_any_stage_leaves_what_was_there_and_the_job_can_be_done_again(place, scan, stage):  # noqa: F811
    job_file = write_job(place, scan, steps=20, pause_s=0.02, checkpoint_interval_s=0.1)
    (place / "volume.nrrd").write_bytes(b"earlier")
    job = follow(start(job_file), STAGES[stage])
    os.kill(job.pid, signal.SIGKILL)
    follow(job)
    if job.state is not JobState.DONE:  # the last stage may be over before the signal comes
        assert one_sentence(job) and "the worker ended without a result" in job.error["message"]
        assert (place / "volume.nrrd").read_bytes() == b"earlier" or is_whole(place)
    assert group_is_gone(job.pid) and not leftovers(place)
    again = follow(start(job_file, resume=True))
    assert again.state is JobState.DONE and is_whole(place), again.error


@pytest.mark.usefixtures("quick_workers")
def test_a_full_disk_is_said_and_leaves_the_earlier_volume(place, scan):  # noqa: F811
    (place / "volume.nrrd").write_bytes(b"earlier")
    job = follow(start_in({"PLAYED_FILE_BYTES": "2000"}, write_job(place, scan)))
    assert one_sentence(job) and "volume.nrrd cannot be written" in job.error["message"]
    assert (place / "volume.nrrd").read_bytes() == b"earlier" and not leftovers(place)


@pytest.mark.usefixtures("quick_workers")
def test_an_output_folder_that_is_removed_during_the_work_is_made_again(place, scan):  # noqa: F811
    out = place / "out"
    out.mkdir()
    job = follow(start(write_job(place, scan, steps=20, pause_s=0.05, output=str(out / "volume.nrrd"))), stepping)
    shutil.rmtree(out)
    follow(job)
    assert job.state is JobState.DONE and is_whole(out)


@pytest.mark.usefixtures("quick_workers")
def test_a_scan_that_is_removed_during_the_work_is_no_longer_needed(place, scan):  # noqa: F811
    copy = shutil.copytree(scan, place / "scan")
    job = follow(start(write_job(place, copy, steps=20, pause_s=0.05)), stepping)
    shutil.rmtree(copy)
    assert follow(job).state is JobState.DONE and is_whole(place)


@pytest.mark.usefixtures("quick_workers")
def test_a_checkpoint_that_is_cut_is_refused_and_the_job_begins_anew_without_it(place, scan):  # noqa: F811
    job_file = write_job(place, scan, steps=30, pause_s=0.02)
    job = follow(start(job_file), stepping)
    job.cancel()
    follow(job)
    arrays = next(job_file.parent.glob("checkpoint-*.safetensors"))
    arrays.write_bytes(arrays.read_bytes()[:-3])
    refused = follow(start(job_file, resume=True))
    assert one_sentence(refused) and refused.exit_code == 2 and "start without --resume" in refused.error["message"]
    assert checkpoint.exists(job_file.parent)
    assert follow(start(job_file)).state is JobState.DONE and is_whole(place)


@pytest.mark.parametrize(("steps", "code"), [(15, "out-of-memory"), (16, "gpu-lost")])
@pytest.mark.usefixtures("quick_workers")
def test_memory_that_runs_out_and_a_gpu_that_is_lost_are_said_with_the_way_on(place, scan, steps, code):  # noqa: F811
    job = follow(start(write_job(place, scan, steps=steps)))
    assert one_sentence(job) and job.error["code"] == code and job.error["next_step"]
    assert not (place / "volume.nrrd").exists() and not leftovers(place)


@pytest.mark.usefixtures("quick_workers")
def test_a_clock_that_jumps_neither_ends_nor_delays_a_job(place, scan, monkeypatch):  # noqa: F811
    now = time.time
    job = follow(start(write_job(place, scan, steps=30, pause_s=0.02)), stepping)
    monkeypatch.setattr(time, "time", lambda: now() - 86400.0)
    follow(job, lambda job: job.progress["step"] > 10)
    monkeypatch.setattr(time, "time", lambda: now() + 86400.0)
    assert follow(job).state is JobState.DONE and is_whole(place)


def test_a_cancel_from_before_a_jump_of_the_clock_is_still_one(tmp_path):
    (tmp_path / CANCEL_FILE).touch()
    os.utime(tmp_path / CANCEL_FILE, (time.time() + 86400,) * 2)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with open(os.devnull, "wb", buffering=0) as nowhere:
        watch = Watch(tmp_path, EventWriter(nowhere))
        try:
            watch.start()
            with pytest.raises(Cancelled):
                watch.check()
        finally:
            watch.stop()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)


@pytest.mark.usefixtures("quick_workers")
def test_the_second_of_two_jobs_in_one_folder_is_refused_and_does_not_touch_the_first(place, scan):  # noqa: F811
    job_file = write_job(place, scan, steps=60, pause_s=0.05)
    first = follow(start(job_file), stepping)
    log = (job_file.parent / LOG_FILE).read_bytes()
    second = follow(start(job_file))
    assert one_sentence(second) and second.exit_code == 2 and "written by another job" in second.error["message"]
    assert first.active and log and (job_file.parent / LOG_FILE).read_bytes() == log
    assert follow(first).state is JobState.DONE and is_whole(place)


def test_a_command_into_a_folder_that_is_in_use_leaves_it_as_it_is(place, scan):  # noqa: F811
    folder = write_job(place, scan).parent
    (folder / LOG_FILE).write_text("of the first")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spec = read_spec(folder / JOB_FILE).model_copy(update={"budget_s": 7.0})
    with only_writer(folder), pytest.raises(InputError, match="written by another job"):
        run_job(spec, folder, "played", Console(quiet=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("quick_workers")
def test_two_jobs_do_not_write_one_volume(place, scan):  # noqa: F811
    first = follow(start(write_job(place, scan, steps=60, pause_s=0.05)), stepping)
    shutil.copytree(place / "job", place / "other")
    second = follow(start(place / "other" / "job.json"))
    assert one_sentence(second) and "volume.nrrd is being written by another job" in second.error["message"]
    assert follow(first).state is JobState.DONE and is_whole(place)


def test_a_lock_goes_with_its_holder_and_is_not_asked_twice_of_oneself(tmp_path):
    twice = (tmp_path, tmp_path / "b" / ".." / "a.nrrd", tmp_path / "a.nrrd")
    with only_writer(*twice), pytest.raises(InputError, match="by another job"), only_writer(tmp_path / "a.nrrd"):
        pass
    with only_writer(tmp_path / "a.nrrd"):
        assert list(tmp_path.iterdir()) == []


PARENT = """
import sys, time
sys.path[:0] = {path!r}
from test_jobs_worker import start
job = start({job!r})
while job.pid is None or not job.progress:
    job.poll()
    time.sleep(0.02)
print(job.pid, flush=True)
while True:
    job.poll()
    time.sleep(0.02)
"""


def test_a_killed_parent_leaves_no_process(place, scan):  # noqa: F811
    code = PARENT.format(path=[str(Path(__file__).parent)], job=str(write_job(place, scan, steps=10_000, pause_s=0.02)))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert group_is_gone(worker, limit_s=10), "the worker, or what it has started, outlived its parent"
    assert not (place / "volume.nrrd").exists() and not leftovers(place)
