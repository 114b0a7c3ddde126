"""Where a job stood: a method's arrays as safetensors and a JSON that says which job they belong to, beside job.json."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import write_json, written_beside

INDEX_FILE = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """Arrays from which a method goes on, the step they belong to and the seconds spent until then."""

    arrays: dict[str, np.ndarray]
    step: int
    seconds: float


def exists(folder) -> bool:
    """Whether the job in `folder` has a checkpoint."""
    return (Path(folder) / INDEX_FILE).exists()


def save(folder, checkpoint: Checkpoint, identity: dict) -> None:
    """Write a checkpoint; the earlier one stays valid until this one is whole.

    Parameters
    ----------
    folder : str or Path
        The job's folder.
    checkpoint : Checkpoint
    identity : dict of JSON values
        What the job must have in common with one that goes on from here.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    folder = Path(folder)
    name = f"checkpoint-{checkpoint.step:06d}-{os.getpid()}.safetensors"
    arrays = {key: np.array(value, order="C") for key, value in checkpoint.arrays.items()}
    with written_beside(folder / name) as beside:
        try:
            save_file(arrays, beside)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    write_json(folder / INDEX_FILE, {"file": name, "step": checkpoint.step, "seconds": checkpoint.seconds, "identity": identity})
    _remove_arrays(folder, keep=name)


def load(folder, identity: dict) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none yet.

    Raises
    ------
    InputError
        Where it belongs to another scan, method, grid or other options, or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    if not exists(folder):
        return None
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="ascii"))
        _check_identity(index["identity"], identity)
        return Checkpoint(load_file(folder / index["file"]), int(index["step"]), float(index["seconds"]))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the checkpoint in {folder} cannot be read ({error}): start without --resume", "bad-checkpoint") from None


def remove(folder) -> None:
    """Remove the checkpoint of a job that is done or begins anew."""
    folder = Path(folder)
    (folder / INDEX_FILE).unlink(missing_ok=True)
    _remove_arrays(folder)


def _remove_arrays(folder: Path, keep: str = "") -> None:
    for path in folder.glob("checkpoint-*.safetensors"):
        if path.name != keep:
            with contextlib.suppress(OSError):
                path.unlink()


def _check_identity(saved: dict, wanted: dict) -> None:
    different = [key for key in wanted if saved.get(key) != wanted[key]]
    if different:
        key = different[0]
        raise InputError(
            f"the checkpoint belongs to another job: its {key} was {_short(saved.get(key))}, now it is {_short(wanted[key])}; "
            f"give the same {key} or start without --resume",
            "other-checkpoint",
        )


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "..."
