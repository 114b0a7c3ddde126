"""The parent's side of a job: starts a worker, follows its events, cancels it, notices when it dies. Standard library only.

A `Job` knows nothing of threads or event loops: whoever owns it calls `poll` now and then (a QTimer, a loop with a short sleep). How the
process is run is the transport's matter: `SubprocessTransport` here, a QProcess in the Slicer panel, a fake in tests.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import InputError
from .events import Event, EventStream
from .files import CANCEL_FILE, LOG_FILE, remove_leftovers
from .lock import IN_USE, only_writer
from .transport import Poll, SubprocessTransport, Transport, kill_tree

SILENCE_LIMIT_S = 5.0
STARTUP_LIMIT_S = 120.0
CANCEL_LIMIT_S = 5.0


class JobState(enum.Enum):
    """Where a job stands; the values are for people."""

    IDLE = "Idle"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    IMPORTING = "Importing"
    DONE = "Done"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def active(self) -> bool:
        """Whether there is still something to wait for."""
        return self in (JobState.RUNNING, JobState.CANCELLING, JobState.IMPORTING)


class Job:
    """One run of a worker, from Idle to Done, Failed or Cancelled.

    Parameters
    ----------
    transport : Transport
        Runs the process; fresh for each job.
    on_event : callable, optional
        Called in `poll` with every event but heartbeats.
    import_result : callable, optional
        Called in `poll`, state Importing, with the "done" event once the worker has ended well; if it raises, the job has failed.
    clock : callable
        Seconds that only grow.

    Attributes
    ----------
    state : JobState
    progress : dict or None
        The last "progress" event.
    result : dict or None
        The "done" event.
    error : dict or None
        code, message (one sentence), next_step, details of a failed job.
    exit_code : int or None
        Of the worker, once it has ended by itself: 0 done, 2 the input was wrong (also where it was not started for that), 1 it failed,
        3 cancelled.
    log : collections.deque of str
        The newest lines of the worker's log; all of them are in worker.log in the job's folder.
    """

    def __init__(
        self,
        transport: Transport,
        on_event: Callable[[Event], None] | None = None,
        import_result: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.state = JobState.IDLE
        self.progress: Event | None = None
        self.result: Event | None = None
        self.error: Event | None = None
        self.resumable = False
        self.exit_code: int | None = None
        self.log: deque[str] = deque(maxlen=2000)
        self.folder: Path | None = None
        self.pid: int | None = None
        self._transport = transport
        self._on_event = on_event or (lambda event: None)
        self._import_result = import_result or (lambda event: None)
        self._clock = clock
        self._stream = EventStream()
        self._started = self._said_cancelled = False
        self._last_word = self._last_poll = self._cancelled_at = 0.0

    @property
    def active(self) -> bool:
        return self.state.active

    def start(self, job_file, resume: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Start the worker on `job_file` (a job.json); `resume` goes on from the checkpoint beside it.

        Where another job holds the folder, this one has failed at once, and nothing of the other's is touched.
        """
        if self.state is not JobState.IDLE:
            raise RuntimeError("a Job runs once: make a new one")
        job_file = Path(job_file).resolve()
        self.folder = job_file.parent
        try:
            with only_writer(self.folder):
                (self.folder / CANCEL_FILE).unlink(missing_ok=True)
                (self.folder / LOG_FILE).write_bytes(b"")
        except InputError as error:
            self.exit_code = 2
            self._fail(error.code, str(error), "")
            return
        arguments = ["-u", "-m", "SparseCTReconLib.jobs.worker", str(job_file), *(["--resume"] if resume else [])]
        self._last_word = self._last_poll = self._clock()
        self.state = JobState.RUNNING
        try:
            self._transport.start(arguments, worker_environment(environment))
        except OSError as error:
            self._fail("no-worker", f"the worker did not start: {error}", "Check the Python installation.")

    def poll(self) -> list[Event]:
        """Take what the worker has said, move to the state that follows from it, and return the events (heartbeats too)."""
        if not self.active:
            return []
        said = self._transport.poll()
        events = self._stream.feed(said.stdout)
        if said.exit_code is not None:
            events += self._stream.close()
        self._note_log(said.stderr)
        self._note_silence(bool(said.stdout or said.stderr))
        for event in events:
            self._take(event)
        if said.exit_code is not None:
            self._ended(said.exit_code)
        else:
            self._watch()
        return events

    def cancel(self) -> None:
        """Ask the worker to stop; `poll` ends it if it does not within 5 s."""
        if self.state is not JobState.RUNNING:
            return
        self.state = JobState.CANCELLING
        self._cancelled_at = self._clock()
        with contextlib.suppress(OSError):
            (self.folder / CANCEL_FILE).touch()

    def kill(self) -> None:
        """End the worker now, for a parent that is about to go itself."""
        if self.active:
            self._end_process()
            self.state = JobState.CANCELLED

    def wait(self, interval_s: float = 0.05, timeout_s: float | None = None) -> JobState:
        """Poll until the job has ended (or `timeout_s` is over) and return its state; for scripts without an event loop."""
        end = None if timeout_s is None else self._clock() + timeout_s
        while self.active and (end is None or self._clock() < end):
            self.poll()
            if self.active:
                time.sleep(interval_s)
        return self.state

    def _take(self, event: Event) -> None:
        self.pid = event.get("pid") or self.pid
        kind = event["event"]
        if kind == "started":
            self._started = True
        elif kind == "progress":
            self.progress = event
        elif kind == "done":
            self.result = event
        elif kind == "error":
            self.error = {key: event.get(key) or "" for key in ("code", "message", "next_step", "details")}
        elif kind == "cancelled":
            self._said_cancelled = True
            self.resumable = bool(event.get("resumable"))
        if kind != "heartbeat":
            self._on_event(event)

    def _note_log(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError), open(self.folder / LOG_FILE, "ab") as file:
                file.write(data)
            self.log.extend(data.decode("utf-8", errors="replace").splitlines())

    def _note_silence(self, heard: bool) -> None:
        # A parent that slept (a closed laptop, a modal dialogue) has not listened: its worker is not to blame.
        now = self._clock()
        if heard or now - self._last_poll > SILENCE_LIMIT_S / 2:
            self._last_word = now
        self._last_poll = now

    def _watch(self) -> None:
        now = self._clock()
        if self.state is JobState.CANCELLING and now - self._cancelled_at > CANCEL_LIMIT_S:
            self._end_process()
            self.state = JobState.CANCELLED
            return
        limit = SILENCE_LIMIT_S if self._started else STARTUP_LIMIT_S
        if self.state is JobState.RUNNING and now - self._last_word > limit:
            self._end_process()
            if self.result:  # it is done, and only slow to leave
                self._import()
                return
            self._fail(
                "worker-silent",
                f"the worker has not answered for {limit:.0f} s and was stopped",
                "Start it again; with resume it goes on from its last checkpoint.",
            )

    def _ended(self, exit_code: int) -> None:
        self.exit_code = exit_code
        if not self.result:
            self._end_process()
        if self.error:
            self.state = JobState.FAILED
        elif self.result:
            self._import()
        elif self._said_cancelled or self.state is JobState.CANCELLING:
            self.state = JobState.CANCELLED
        else:
            self._fail(
                "worker-died",
                f"the worker ended without a result ({_why(exit_code)})",
                "See the log; with resume it goes on from its last checkpoint.",
            )

    def _import(self) -> None:
        self.state = JobState.IMPORTING
        try:
            self._import_result(self.result)
        except Exception as error:
            self._fail("import", f"the result {self.result.get('path')} could not be taken over: {error}", "The file is kept.")
        else:
            self.state = JobState.DONE

    def _fail(self, code: str, message: str, next_step: str) -> None:
        self.error = {"code": code, "message": message, "next_step": next_step, "details": "\n".join(self.log)}
        self.state = JobState.FAILED

    def _end_process(self) -> None:
        self._transport.kill(self.pid)
        if (self.error or {}).get("code") != IN_USE:  # what lies there is another job's
            remove_leftovers(self.folder)


def _why(exit_code: int) -> str:
    if exit_code >= 0 or os.name == "nt":
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-exit_code).name
        return f"{name}: the system is out of memory, or someone stopped it" if name == "SIGKILL" else name
    return f"signal {-exit_code}"


def worker_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables a worker needs on top of the parent's: UTF-8 everywhere, this library's folder on its path, threads that sleep."""
    library = str(Path(__file__).resolve().parents[2])
    variables = {"PYTHONUTF8": "1"}
    # Torch's idle threads would spin, on cores that the kernels' threads, or other programs, need.
    if "OMP_WAIT_POLICY" not in os.environ:
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
    variables |= extra or {}
    # An installed library is found anyway, and its folder in front would hide parts of the standard library.
    if not library.endswith(("site-packages", "dist-packages")):
        present = variables.get("PYTHONPATH") or os.environ.get("PYTHONPATH")
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [library, present]))
    return variables


__all__ = ["Job", "JobState", "Poll", "SubprocessTransport", "Transport", "kill_tree", "worker_environment"]
