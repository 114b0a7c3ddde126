"""The command `sparsectrecon`. Exit 0: done; 2: the input is wrong, one sentence says what; 1: it failed, the log's place is said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console

from .commands.flags import PLAIN, place, positive
from .commands.parsing import parse
from .commands.scan_flags import Calibrate, Correct, NovelViews, Simulate
from .commands.train_flags import TrainDiCE, TrainFinetune, TrainMCI, TrainRestoration, TrainSliceFixer, TrainXGRM
from .commands.volume_flags import Compare, Evaluate, Reconstruct, Trust
from .commands.weights_flags import WeightsConvert, WeightsGet, WeightsList
from .errors import InputError

PROGRAM = "sparsectrecon"


@dataclass
class Demo:
    """Simulate a scan of the bundled head, reconstruct it with FDK, ADMM-TV and NAF, and compare."""

    out: Annotated[Path, place("DIR")] = Path("demo")
    """Folder for volumes, metrics.json and demo.png."""
    budget: Annotated[float, place("SECONDS")] = 40.0
    """Seconds for NAF."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.demo import demo

        positive("--budget", self.budget)
        demo(self.out, self.budget, console, report)


@dataclass
class Methods:
    """List the methods with their options, and with --views say which one the evidence recommends."""

    views: Annotated[int | None, place("N")] = None
    """Number of views of the scan that a method is wanted for."""
    budget: Annotated[float | None, place("SECONDS")] = None
    """Seconds that it may take."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is to run."""
    json: bool = False
    """Print JSON: the list of methods, or with --views an object with recommendation, sentence and methods."""

    def run(self, console: Console, report: Console) -> None:
        from .commands import listing

        if self.budget is not None:
            positive("--budget", self.budget)
        advice = listing.advise(self.views, self.device, self.budget)
        if self.json:
            listed = listing.describe_all()
            print(json.dumps(listed if advice is None else advice | {"methods": listed}, indent=1))
            return
        listing.print_methods(report)
        if advice:
            report.print(f"\n{advice['sentence']}", **PLAIN)


@dataclass
class Doctor:
    """Say what this installation and this machine have, and what is missing."""

    json: bool = False
    """Print JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .commands import doctor

        found = doctor.examine()
        if self.json:
            print(json.dumps(found, indent=1))
        else:
            doctor.print_report(found, report)


COMMANDS = {
    "demo": Demo,
    "simulate": Simulate,
    "calibrate": Calibrate,
    "correct": Correct,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "compare": Compare,
    "trust": Trust,
    "train mci": TrainMCI,
    "train restoration": TrainRestoration,
    "train slice-fixer": TrainSliceFixer,
    "train dice": TrainDiCE,
    "train xgrm": TrainXGRM,
    "train finetune": TrainFinetune,
    "weights list": WeightsList,
    "weights get": WeightsGet,
    "weights convert": WeightsConvert,
    "novel-views": NovelViews,
    "methods": Methods,
    "doctor": Doctor,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console, report = Console(stderr=True), Console()
    try:
        with _terminable():
            command = parse(arguments, COMMANDS, PROGRAM)
            if command is not None:
                command.run(console, report)
    except InputError as error:
        _complain(console, f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _complain(console, "stopped")
        return 1
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        _complain(console, _failure(error))
        return 1
    return 0


def _drop_output() -> None:
    """Let what is left for standard output go nowhere: its reader has gone, as behind `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(console: Console, text: str) -> None:
    console.print(text, style="red", **PLAIN)


def _failure(error: Exception) -> str:
    from .commands.running import Failed, Stopped

    if isinstance(error, (Failed, Stopped)):
        return str(error)
    from .jobs.failures import explain

    with tempfile.NamedTemporaryFile("w", prefix="sparsectrecon-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
    failure = explain(error)
    return " ".join(filter(None, [f"failed: {failure.message}.", failure.next_step, f"Log: {log.name}"]))


@contextlib.contextmanager
def _terminable():
    """Let SIGTERM stop a command as Ctrl-C does, so that its worker is not left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
