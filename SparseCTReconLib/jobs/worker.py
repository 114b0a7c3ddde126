"""The background process: ``python -u -m SparseCTReconLib.jobs.worker job.json [--resume]``.

Standard output carries events (see `events`) and nothing else; standard error is the raw log. Exit 0: done, 2: the input is wrong, 1: it
failed, 3: it was cancelled. Heavy libraries are imported only after the first heartbeat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from pathlib import Path

from ..errors import InputError
from .events import EventWriter
from .failures import explain
from .lock import only_writer
from .watch import CANCELLED_EXIT, Cancelled, Watch, end_children


def main(arguments: list[str] | None = None) -> int:
    """Run the job whose job.json is given and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    files = [argument for argument in arguments if argument != "--resume"]
    say = EventWriter(_take_stdout())
    if len(files) != 1:
        print("usage: python -u -m SparseCTReconLib.jobs.worker job.json [--resume]", file=sys.stderr)
        return 2
    _own_session()
    job_file = Path(files[0]).absolute()
    watch = Watch(job_file.parent, say)
    watch.start()
    say("stage", name="loading libraries", pid=os.getpid())
    try:
        _log_to(say)
        _run(job_file, "--resume" in arguments, say, watch)
    except Cancelled:
        say("cancelled", step=watch.step, resumable=watch.resumable)
        return CANCELLED_EXIT
    except Exception as error:
        return _report(error, say)
    finally:
        watch.stop()
        end_children()
    return 0


def _run(job_file: Path, resume: bool, say: EventWriter, watch: Watch) -> None:
    from .spec import read_spec

    spec = read_spec(job_file)
    with only_writer(job_file.parent, *filter(None, [getattr(spec, "output", None)])):
        _do(spec, job_file, resume, say, watch)


def _do(spec, job_file: Path, resume: bool, say: EventWriter, watch: Watch) -> None:
    if spec.task == "compare":
        from .compare_task import compare

        compare(spec, say, watch)
        return
    if spec.task == "trust":
        from .trust_task import trust

        trust(spec, say, watch)
        return
    if spec.task in ("calibrate", "correct"):
        from . import correct_task

        getattr(correct_task, spec.task)(spec, say, watch)
        return
    from . import tasks

    if spec.task == "simulate":
        tasks.simulate(spec, say, watch)
    else:
        tasks.reconstruct(spec, job_file.parent, resume or spec.resume, say, watch)


def _report(error: Exception, say: EventWriter) -> int:
    details = "".join(traceback.format_exception(error))
    print(details, file=sys.stderr, flush=True)
    failure = explain(error)
    say("error", code=failure.code, message=failure.message, next_step=failure.next_step, details=details)
    return 2 if isinstance(error, InputError) else 1


def _take_stdout():
    """Keep standard output for events; whatever else is printed, by any library, goes to standard error."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return events


def _own_session() -> None:
    """Lead a process group, so that the parent can end this process with all it starts."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(PermissionError):
            os.setsid()


class _EventHandler(logging.Handler):
    """Turns the library's log records into events."""

    def __init__(self, say: EventWriter):
        super().__init__(logging.INFO)
        self._say = say
        self._compiling = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            self._say("warning", message=message)
            return
        if message.startswith("compiling") and not self._compiling:
            self._compiling = True
            self._say("stage", name="compiling kernels (first use on this machine)")
        self._say("log", message=message, level=record.levelname)


def _log_to(say: EventWriter) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    log = logging.getLogger("SparseCTReconLib")
    log.setLevel(logging.INFO)
    log.addHandler(_EventHandler(say))


if __name__ == "__main__":
    sys.exit(main())
