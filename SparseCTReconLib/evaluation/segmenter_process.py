"""The segmenter's process: run, watched, ended, and what its last words mean. Standard library only."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

_POLL_S, _PATIENCE_S = 0.1, 2.0
_PART = re.compile(r"Predicting part (\d+) of (\d+)")
_STAGES = ("Resampling", "Predicting", "Generating rough", "Downloading model", "Saving segmentations", "Splitting")
_NO_GPU = ("No GPU detected", "Invalid GPU config")

log = logging.getLogger(__name__)


class SegmenterError(Exception):
    """The segmenter is not there or did not do it.

    Parameters
    ----------
    code : str
        Short machine-readable name.
    message : str
        One sentence.
    next_step : str
        What to do.
    """

    def __init__(self, code: str, message: str, next_step: str):
        super().__init__(message)
        self.code, self.message, self.next_step = code, message, next_step


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    tell: Callable[[str, float | None], None],
    gpu_or_nothing: bool = False,
    own_group: bool = True,
) -> None:
    """Run `command` to its end; what it prints goes to the log.

    Parameters
    ----------
    tell : callable
        Called with a stage and the fraction done, ten times a second; what it raises ends the process.
    gpu_or_nothing : bool
        Whether to end it when it says that it goes on without a GPU.
    own_group : bool
        Whether it leads a process group (POSIX), so that its children end with it.

    Raises
    ------
    SegmenterError
        Where it could not be started or failed.
    """
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=own_group and os.name != "nt",
        )
    except OSError as error:
        raise SegmenterError("segmenter-missing", f"{command[0]} cannot be started: {error.strerror}", "Install it again.") from error
    said: deque[str] = deque(maxlen=400)
    try:
        _follow(process, said, tell, gpu_or_nothing)
    except BaseException:
        _end(process, own_group)
        raise
    if process.returncode:
        raise diagnose(list(said), process.returncode)


def _follow(process: subprocess.Popen, said: deque[str], tell: Callable, gpu_or_nothing: bool) -> None:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    stage, fraction = "starting TotalSegmentator", None
    while True:
        tell(stage, fraction)
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            if process.poll() is None:
                continue
            line = None  # a child of it may hold the pipe open
        if line is None:
            process.wait()
            return
        if not line:
            continue
        said.append(line)
        log.info("%s", line)
        if any(text in line for text in _NO_GPU):
            if gpu_or_nothing:
                raise SegmenterError("no-gpu", "TotalSegmentator finds no GPU that it can use", "Take the device cpu, with quality fast.")
            log.warning("TotalSegmentator finds no GPU and runs on the CPU, which can take long")
        if line.startswith(_STAGES):
            stage = line.rstrip(". ")
        if part := _PART.search(line):
            fraction = (int(part[1]) - 1) / int(part[2])


def _read(stream, lines: queue.SimpleQueue) -> None:
    with stream:
        for data in iter(stream.readline, b""):
            for text in data.decode("utf-8", errors="replace").replace("\r", "\n").splitlines():
                lines.put(text.strip())
    lines.put(None)


def _end(process: subprocess.Popen, own_group: bool) -> None:
    """End the process, and its children where it leads a group."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL) if own_group else process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_S)


def diagnose(said: Sequence[str], exit_code: int) -> SegmenterError:
    """What a failed run's words mean: a sentence and the next step."""
    text = "\n".join(said)
    for words, error in _KNOWN:
        if found := re.search(words, text):
            message = error[1].format(*(found.groups() or ("",)))
            return SegmenterError(error[0], message, error[2])
    if exit_code == -signal.SIGTERM or exit_code == -9:
        return SegmenterError(*_OUT_OF_MEMORY)
    last = next((line for line in reversed(said) if line), "it said nothing")
    return SegmenterError("segmenter-failed", f"TotalSegmentator failed (exit code {exit_code}): {last[:200]}", "See the log.")


_OUT_OF_MEMORY = (
    "out-of-memory",
    "TotalSegmentator ran out of memory, or someone stopped it",
    "Take the quality fast, fewer organs, or the device cpu.",
)
_KNOWN = (
    (
        r"requires a license|[Ii]nvalid license|missing_license|KeyError: 'license_number'",
        (
            "needs-licence",
            "this task of TotalSegmentator needs a licence number",
            "Get one at backend.totalsegmentator.com/license-academic and set it with totalseg_set_license, or take the task total.",
        ),
    ),
    (
        r"ConnectionError|NameResolutionError|Max retries exceeded|Failed to (?:resolve|establish)|ProxyError|SSLError|ConnectTimeout",
        (
            "no-network",
            "the weights of TotalSegmentator are not on this machine and could not be downloaded: there is no network",
            "Connect once, or copy nnunet/results of another machine's TotalSegmentator and name it in TOTALSEG_WEIGHTS_PATH.",
        ),
    ),
    (
        r"HTTPError|BadZipFile|IncompleteRead|ChunkedEncodingError|Could not find a dataset with the ID|(?:plans|dataset)\.json'|"
        r"checkpoint_final\.pth'|PytorchStreamReader failed",
        (
            "weights-missing",
            "the weights of TotalSegmentator for this task are missing or damaged",
            "Delete their folder (Dataset...) below nnunet/results and run it again with a network.",
        ),
    ),
    (r"CUDA out of memory|MemoryError|Unable to allocate|can't allocate memory|CUDA error: out of memory", _OUT_OF_MEMORY),
    (
        r"No space left on device",
        ("disk-full", "the disk is full, so that TotalSegmentator could not write", "Make room and run it again."),
    ),
    (
        r"invalid choice: '([^']*)'",
        ("bad-segmenter-task", "this TotalSegmentator has no task {0!r}", "TotalSegmentator --list-tasks lists them."),
    ),
    (
        r"KeyError: '([\w -]+)'",
        ("bad-segmenter-task", "TotalSegmentator knows no organ {0!r}", "TotalSegmentator --list-classes lists them."),
    ),
    (
        r"(?:ModuleNotFoundError|ImportError): ([^\n]*)",
        ("segmenter-missing", "TotalSegmentator is not wholly installed: {0}", "Install it again: pip install TotalSegmentator."),
    ),
    (
        r"unrecognized arguments: ([^\n]*)",
        ("segmenter-missing", "this TotalSegmentator is too old to know {0}", "Update it: pip install -U TotalSegmentator."),
    ),
)
