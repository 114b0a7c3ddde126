"""Runs a job's worker from the command line: a progress bar with the time left on a terminal, plain lines elsewhere, Ctrl-C cancels."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from ..errors import InputError
from ..jobs import checkpoint
from ..jobs.client import Job, JobState, SubprocessTransport
from ..jobs.events import Event
from ..jobs.files import LOG_FILE
from ..jobs.lock import IN_USE, only_writer
from ..jobs.spec import AnyJob, write_spec

_POLL_S = 0.05
_LINE_EVERY_S = 5.0


class Failed(Exception):
    """A job failed: one sentence, the next step and the place of the log."""


class Stopped(Exception):
    """The user stopped a job: one sentence."""


def run_job(spec: AnyJob, folder: Path, title: str, console: Console, resume: bool = False) -> dict:
    """Run `spec` in a worker and return the summary of its "done" event.

    The job's folder goes when the job is done or its input was wrong; a failed job leaves its log there, a stopped one its checkpoint. A
    folder that another job holds stays as it is.

    Raises
    ------
    InputError
        Where the input is wrong, or another job holds the folder or an output.
    Failed, Stopped
        Where the job failed or was stopped.
    """
    view = view_of(title, console)
    job = Job(SubprocessTransport(), on_event=view.take)
    with only_writer(folder):
        job_file = write_spec(spec, folder)
    with view:
        job.start(job_file, resume)
        _follow(job)
    resumable = checkpoint.exists(folder)
    if job.state is JobState.DONE:
        shutil.rmtree(folder, ignore_errors=True)
        return job.result["summary"]
    if job.state is JobState.CANCELLED:
        if not resumable:
            shutil.rmtree(folder, ignore_errors=True)
        raise Stopped(f"{title} was stopped" + ("; the same command with --resume goes on" if resumable else ""))
    if job.exit_code == 2:
        if not resumable and job.error["code"] != IN_USE:
            shutil.rmtree(folder, ignore_errors=True)
        raise InputError(job.error["message"], job.error["code"])
    said = " ".join(filter(None, [job.error["message"] + ".", job.error["next_step"]]))
    raise Failed(f"{title}: {said} Log: {folder / LOG_FILE}")


def _follow(job: Job) -> None:
    try:
        while job.active:
            try:
                job.poll()
                time.sleep(_POLL_S if job.active else 0)
            except KeyboardInterrupt:
                if job.state is not JobState.RUNNING:
                    raise
                job.cancel()
    except BaseException:
        job.kill()
        raise


def view_of(title: str, console: Console) -> _View:
    """What shows the events of a job of this title that its `take` is given: a bar on a terminal, lines elsewhere."""
    return _Bar(title, console) if console.is_terminal else _Lines(title, console)


class _View(AbstractContextManager):
    """Shows what a worker says."""

    def __init__(self, title: str, console: Console):
        self._title, self._console = title, console

    def take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "stage":
            self._stage(event["name"])
        elif kind == "progress":
            self._progress(event)
        elif kind == "warning":
            self._console.print(f"warning: {event['message']}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def __exit__(self, *exception):
        return None

    def _stage(self, name: str) -> None:
        raise NotImplementedError

    def _progress(self, event: Event) -> None:
        raise NotImplementedError


class _Lines(_View):
    """A line for each stage and, every few seconds, for the progress."""

    _last = float("-inf")

    def _stage(self, name: str) -> None:
        self._print(name)

    def _progress(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._print(f"{event['stage']}: {event['step']} of {event['steps']} ({100 * event['fraction']:.0f} %){_left(event, ', ')}")

    def _print(self, text: str) -> None:
        self._console.print(f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True)


class _Bar(_View):
    """One bar that fills, with the stage and the time left."""

    def __init__(self, title: str, console: Console):
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        super().__init__(title, console)
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[stage]}"),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task(title, total=1.0, left="", stage="")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.update(self._task, left="")
        self._bar.stop()

    def _stage(self, name: str) -> None:
        self._bar.update(self._task, stage=name)

    def _progress(self, event: Event) -> None:
        stage = f"{event['stage']} {event['step']} of {event['steps']}"
        self._bar.update(self._task, completed=event["fraction"], left=_left(event), stage=stage)


def _left(event: Event, before: str = "") -> str:
    seconds = event.get("remaining_s")
    if seconds is None or event["fraction"] >= 1:
        return ""
    return f"{before}{int(seconds) // 60}:{int(seconds) % 60:02d} left"
