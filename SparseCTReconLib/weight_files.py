"""Files of pretrained weights: safetensors, with a card of JSON values that says what they are, and a checksum of both."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Parameters
    ----------
    name : str
        Stem of the file's name.
    card : dict
        JSON values.
    arrays : dict of str to ndarray
        The weights by name.
    sha256 : str
        Of card and weights.
    form : str
        Kind of weights and its version.
    """

    name: str
    card: dict
    arrays: dict[str, np.ndarray]
    sha256: str
    form: str

    @property
    def source(self) -> str:
        """Name and checksum, for a result's provenance."""
        return source(self.name, self.sha256)


def source(name: str, sha256: str) -> str:
    """How a result's provenance names the weights that shaped it."""
    return f"{name} (sha256 {sha256})"


def write(path, form: str, card: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` with their `card`; `form` names the kind of weights and its version."""
    from safetensors.numpy import save

    text = json.dumps(card, sort_keys=True)
    Path(path).write_bytes(save(arrays, metadata={"format": form, "card": text, "sha256": checksum(text, arrays)}))


def read(path, form: str | tuple[str, ...], called: str) -> WeightFile:
    """Read a file that `write` wrote.

    Parameters
    ----------
    path : str or Path
    form : str or tuple of str
        Kind and version that it must be of, one of several.
    called : str
        What such weights are called in a sentence that says that the file holds none: "weights for MCI".

    Raises
    ------
    InputError
        Where it is missing or damaged, is of another kind, or its checksum is wrong.
    """
    path = Path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        found = metadata.get("format")
        if found not in ((form,) if isinstance(form, str) else form):
            raise InputError(f"{path} holds no {called}: give a file that `sparsectrecon train` wrote", "bad-weights")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _, card = _told(metadata, path)
    if metadata.get("sha256") != checksum(metadata["card"], arrays):
        raise InputError(f"{path}: the checksum is wrong, so the file was changed or damaged: copy it anew", "bad-checksum")
    return WeightFile(path.stem, card, arrays, metadata["sha256"], found)


def read_card(path) -> tuple[str, dict]:
    """Kind and version of a file that `write` wrote, and its card; the weights themselves are not read, nor is the checksum tried.

    Raises
    ------
    InputError
        Where it is missing or damaged, or is none of `write`'s.
    """
    path = Path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
    return _told(metadata, path)


def _told(metadata: dict[str, str], path: Path) -> tuple[str, dict]:
    """Kind and version, and the card, of what `write` puts before the weights."""
    try:
        form, card = metadata["format"], json.loads(metadata["card"])
    except (KeyError, ValueError):
        raise InputError(f"{path} has no card: give a file that `sparsectrecon train` wrote", "bad-weights") from None
    return form, card if isinstance(card, dict) else {}


@contextmanager
def _opened(path: Path):
    """A file of safetensors, whose faults become the user's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "no-such-file") from None
    except (SafetensorError, OSError, TypeError) as error:  # numpy has no bfloat16
        raise InputError(f"{path} cannot be read as safetensors ({error}): copy it anew or train it again", "bad-weights") from None


def checksum(card: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of a card's text and of the arrays, with their names, in the order of these, little-endian."""
    digest = hashlib.sha256(card.encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
