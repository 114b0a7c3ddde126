"""The parent's side of a job, with a process that is played."""

import json
import sys

import pytest

from SparseCTReconLib.jobs.client import Job, JobState, Poll, SubprocessTransport, worker_environment
from SparseCTReconLib.jobs.events import encode
from SparseCTReconLib.jobs.files import temporary_folder


class PlayedProcess:
    """A transport whose process says what the test tells it to."""

    def __init__(self):
        self.arguments, self.environment, self.killed = None, None, []
        self.exit_code = None
        self._stdout = self._stderr = b""

    def says(self, data=b"", log=b"", exit_code=None):
        self._stdout += data
        self._stderr += log
        self.exit_code = exit_code

    def start(self, arguments, environment):
        self.arguments, self.environment = list(arguments), dict(environment)

    def poll(self):
        said = Poll(self._stdout, self._stderr, self.exit_code)
        self._stdout = self._stderr = b""
        return said

    def kill(self, pid):
        self.killed.append(pid)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def process():
    return PlayedProcess()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def started(process, clock, tmp_path):
    """A job whose worker has said that it started, with the list of events it has told."""
    told = []
    job = Job(process, told.append, clock=clock)
    job.told = told
    (tmp_path / "job.json").write_text(json.dumps({"task": "reconstruct", "output": "volume.nrrd"}))
    job.start(tmp_path / "job.json")
    process.says(encode("started", pid=4242, method="fdk"))
    job.poll()
    return job


def listen(job, clock, seconds):
    """Poll as an event loop would, ten times a second."""
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        job.poll()


def test_a_job_goes_from_idle_through_running_to_done(process, clock, tmp_path):
    job = Job(process, clock=clock)
    assert job.state is JobState.IDLE
    job.start(tmp_path / "job.json", resume=True)
    assert job.state is JobState.RUNNING
    assert process.arguments == ["-u", "-m", "SparseCTReconLib.jobs.worker", str(tmp_path / "job.json"), "--resume"]
    process.says(encode("done", path="volume.nrrd", summary={"seconds": 3}), exit_code=0)
    job.poll()
    assert job.state is JobState.DONE
    assert job.result["path"] == "volume.nrrd"


def test_progress_and_pid_are_what_the_worker_said_last(started, process):
    process.says(encode("progress", step=1, steps=4, fraction=0.25) + encode("progress", step=2, steps=4, fraction=0.5))
    started.poll()
    assert started.progress["fraction"] == 0.5
    assert started.pid == 4242


def test_heartbeats_are_not_told_further(started, process):
    process.says(encode("heartbeat", pid=4242) + encode("stage", name="filtering"))
    started.poll()
    assert [event["event"] for event in started.told] == ["started", "stage"]


def test_an_event_that_arrives_in_pieces_is_told_once_it_is_whole(started, process):
    line = encode("stage", name="filtering")
    for i in range(len(line)):
        process.says(line[i : i + 1])
        started.poll()
    assert [event["event"] for event in started.told] == ["started", "stage"]


def test_a_worker_that_dies_has_failed_and_the_sentence_says_how(started, process):
    process.says(log=b"last words\n", exit_code=-9)
    started.poll()
    assert started.state is JobState.FAILED
    assert "SIGKILL" in started.error["message"] or "exit code" in started.error["message"]
    assert "last words" in started.error["details"]


def test_a_line_cut_off_by_death_is_not_taken_for_an_event(started, process):
    process.says(encode("done", path="volume.nrrd", summary={})[:-20], exit_code=-9)
    started.poll()
    assert started.state is JobState.FAILED


def test_a_silent_worker_is_ended_within_six_seconds_and_said_to_have_failed(started, process, clock):
    listen(started, clock, 4.5)
    assert started.state is JobState.RUNNING
    listen(started, clock, 1.5)
    assert started.state is JobState.FAILED
    assert process.killed == [4242]
    assert "has not answered" in started.error["message"]


def test_a_worker_that_is_done_and_slow_to_leave_has_not_failed(started, process, clock):
    process.says(encode("done", path="volume.nrrd", summary={}))
    listen(started, clock, 7)
    assert started.state is JobState.DONE and process.killed == [4242]


def test_a_worker_that_breathes_is_left_alone_however_long_it_takes(started, process, clock):
    for _ in range(30):
        process.says(encode("heartbeat", pid=4242))
        listen(started, clock, 1.0)
    assert started.state is JobState.RUNNING


def test_a_parent_that_was_asleep_does_not_blame_the_worker(started, process, clock):
    clock.now += 3600
    started.poll()
    listen(started, clock, 2)
    assert started.state is JobState.RUNNING


def test_slow_imports_before_the_start_are_no_silence(process, clock, tmp_path):
    job = Job(process, clock=clock)
    job.start(tmp_path / "job.json")
    listen(job, clock, 20)
    assert job.state is JobState.RUNNING


def test_cancel_leaves_a_file_and_waits_for_the_worker(started, process, tmp_path):
    started.cancel()
    assert started.state is JobState.CANCELLING
    assert (tmp_path / "cancel").exists()
    assert process.killed == []
    process.says(encode("cancelled", step=3, resumable=True), exit_code=3)
    started.poll()
    assert started.state is JobState.CANCELLED
    assert started.resumable


def test_a_worker_that_ignores_cancel_is_killed_after_five_seconds_with_what_it_was_writing(started, process, clock, tmp_path):
    half = temporary_folder(tmp_path / "volume.nrrd")
    half.mkdir()
    (half / "volume.nrrd").write_bytes(b"half")
    started.cancel()
    for _ in range(48):
        process.says(encode("heartbeat", pid=4242))
        listen(started, clock, 0.1)
    assert started.state is JobState.CANCELLING
    listen(started, clock, 0.5)
    assert started.state is JobState.CANCELLED
    assert process.killed == [4242]
    assert not half.exists()


def test_children_of_a_worker_that_died_die_with_it(started, process):
    process.says(exit_code=1)
    started.poll()
    assert process.killed == [4242]


def test_an_error_event_becomes_the_jobs_error(started, process):
    process.says(encode("error", code="disk-full", message="the disk is full", next_step="Make room.", details="trace"), exit_code=1)
    started.poll()
    assert started.state is JobState.FAILED
    assert started.error == {"code": "disk-full", "message": "the disk is full", "next_step": "Make room.", "details": "trace"}
    assert started.exit_code == 1


def test_a_result_that_cannot_be_imported_is_a_failed_job(process, clock, tmp_path):
    def refuse(event):
        raise RuntimeError("no scene")

    job = Job(process, import_result=refuse, clock=clock)
    job.start(tmp_path / "job.json")
    process.says(encode("done", path="volume.nrrd", summary={}), exit_code=0)
    job.poll()
    assert job.state is JobState.FAILED
    assert "volume.nrrd" in job.error["message"] and "no scene" in job.error["message"]


def test_an_old_cancel_file_does_not_stop_a_new_job(process, clock, tmp_path):
    (tmp_path / "cancel").touch()
    Job(process, clock=clock).start(tmp_path / "job.json")
    assert not (tmp_path / "cancel").exists()


def test_a_job_runs_once(started, tmp_path):
    with pytest.raises(RuntimeError, match="make a new one"):
        started.start(tmp_path / "job.json")


def test_the_log_is_kept_in_the_jobs_folder_whatever_bytes_it_holds(started, process, tmp_path):
    process.says(log=b"caf\xe9 \xff\n")
    started.poll()
    assert (tmp_path / "worker.log").read_bytes() == b"caf\xe9 \xff\n"
    assert len(started.log) == 1


def test_an_interpreter_that_is_not_there_is_a_failed_job(tmp_path):
    job = Job(SubprocessTransport(str(tmp_path / "no-python")))
    job.start(tmp_path / "job.json")
    assert job.state is JobState.FAILED
    assert "did not start" in job.error["message"]


def test_a_process_is_read_to_its_end_and_its_exit_code_told(tmp_path):
    transport = SubprocessTransport(sys.executable)
    transport.start(["-c", "import sys; print('x' * 300000); sys.stderr.write('bad'); sys.exit(7)"], worker_environment())
    out, log = b"", b""
    while True:
        said = transport.poll()
        out, log = out + said.stdout, log + said.stderr
        if said.exit_code is not None:
            break
    assert said.exit_code == 7
    assert len(out.strip()) == 300000
    assert log == b"bad"


def test_a_worker_s_idle_threads_sleep_unless_the_user_has_said_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert worker_environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    assert worker_environment({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "OMP_WAIT_POLICY" not in worker_environment()
