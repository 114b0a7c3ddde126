"""The files of a job's folder, and how results are written: beside their name, then renamed. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

JOB_FILE = "job.json"
CANCEL_FILE = "cancel"
LOG_FILE = "worker.log"


def temporary_name(path) -> Path:
    """Where a worker writes what will be `path`: beside it, with the same ending, hidden."""
    path = Path(path)
    return path.with_name(f".writing-{path.name}")


def remove_leftovers(folder) -> None:
    """Remove what a killed worker was writing when it ended, from the outputs that the job.json in `folder` names."""
    with contextlib.suppress(OSError, ValueError):
        spec = json.loads((Path(folder) / JOB_FILE).read_text(encoding="utf-8"))
        for key in ("output", "summary"):
            if spec.get(key):
                remove(temporary_name(Path(folder) / spec[key]))


def remove(path) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def written_beside(path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there takes the name `path` at the end, or goes if that failed.

    A file replaces an earlier file; a folder's files replace those of the same name in an earlier folder and leave the others alone.
    """
    path = Path(path)
    beside = temporary_name(path)
    try:
        remove(beside)
        yield beside
        if beside.is_dir() and path.is_dir():
            for item in beside.iterdir():
                os.replace(item, path / item.name)
            beside.rmdir()
        else:
            os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(beside)
        raise
