"""The files of a job's folder, and how a result gets its name: written in a hidden folder beside it, then renamed.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

JOB_FILE = "job.json"
CANCEL_FILE = "cancel"
LOG_FILE = "worker.log"


def temporary_folder(path) -> Path:
    """Where a worker keeps what will be `path` until it is whole: a hidden folder beside it."""
    path = Path(path)
    return path.with_name(f".writing-{path.name}")


@contextlib.contextmanager
def written_beside(path) -> Iterator[Path]:
    """Give a temporary path of the same name; the file written there becomes `path` if the block ends well and is gone otherwise."""
    path = Path(path)
    folder = temporary_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder / path.name
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_place(path, suffixes: tuple[str, ...] = (), folder: bool = False) -> None:
    """Refuse, before the work, an output of an unknown kind or in a place that cannot be written; leaves nothing there.

    Parameters
    ----------
    path : str or Path
        What is to be written.
    suffixes : tuple of str
        Endings that it may have; any where there are none.
    folder : bool
        Whether it will be a folder.

    Raises
    ------
    InputError
        With the reason and the way out.
    """
    path = Path(path)
    if suffixes and not path.name.lower().endswith(suffixes):
        raise InputError(f"{path}: a volume is written as {', '.join(suffixes)}; give one of these endings", "bad-output")
    if not folder and path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file", "bad-output")
    trial = temporary_folder(path)
    made = [place for place in (trial, *trial.parents) if not place.exists()]
    try:
        trial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place", "unwritable") from None
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def write_json(path, values) -> None:
    """Write `values` as ASCII JSON; the file appears whole."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(values, indent=1, allow_nan=False), encoding="ascii")


def remove_leftovers(folder) -> None:
    """Remove what a killed worker was writing when it ended: in the job's folder and beside the outputs that its job.json names."""
    folder = Path(folder)
    with contextlib.suppress(OSError, ValueError):
        spec = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        for key in ("output", "summary"):
            if spec.get(key):
                shutil.rmtree(temporary_folder(folder / spec[key]), ignore_errors=True)
        output = folder / spec.get("output", "")
        within = {"compare": output / "labels", "trust": output}.get(spec.get("task"))
        for place in filter(None, [folder, spec.get("previews") and folder / spec["previews"], within]):
            for left in place.glob(".writing-*"):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
