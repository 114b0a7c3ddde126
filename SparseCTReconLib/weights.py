"""Where pretrained weights are found, by name or by what a scan shows: the user's folders, those that come with the library, fetched ones.

A file is named after its method and what it is for, deepsparse_limb.safetensors; behind an option the method's part may be left out. Its
card says what it is:

    method, anatomies      what it serves
    credit, licence        of what it was trained on
    version, date          of this library, and when it was trained
    range                  of the scans that it has learnt from, see `networks.scan_range`
    held_out               figures on CTs that it has not learnt from, with the command that makes them again

and whatever else its network needs. Its checksum is beside the card (`weight_files`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import resources, weight_files
from .errors import InputError, nearest_name
from .machine import cache_folder
from .weight_files import SUFFIX

AUTO = "auto"
VARIABLE = "SPARSECTRECON_WEIGHTS"
"""Environment variable with folders of the user's own, separated as in PATH."""

PUBLISHED = (".pth", ".pt", ".ckpt", ".pkl", ".bin")
"""Endings of files that torch writes, which may hold code."""


@dataclass(frozen=True)
class Kind:
    """What the files of a method's weights have in common.

    Parameters
    ----------
    prefix : str
        Before their names.
    form : str
        See `weight_files.write`.
    method : str
        Whose they are, for sentences.
    option : str
        The option that they are given by.
    """

    prefix: str
    form: str
    method: str
    option: str = "weights"


@dataclass(frozen=True)
class Found:
    """A file of weights, of which only the card has been read.

    Parameters
    ----------
    path : Path
    form : str
        Empty where the file is no good.
    card : dict
    fault : str
        What is wrong with the file.
    """

    path: Path
    form: str = ""
    card: dict = field(default_factory=dict)
    fault: str = ""

    @property
    def name(self) -> str:
        return self.path.stem

    def called(self, choice: str, kind: Kind) -> bool:
        """Whether a user's word means this file."""
        return choice in (self.name, self.name.removeprefix(f"{kind.prefix}_"))


def folders() -> list[Path]:
    """Where weights are looked for; the first that has a name counts."""
    *named, fetched = own_folders()
    return [*named, *resources.folders("Weights"), fetched]


def own_folders() -> list[Path]:
    """The user's folders, that of fetched weights last."""
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*named, fetched_folder()]


def fetched_folder() -> Path:
    """Of weights that were fetched."""
    return cache_folder() / "weights"


def known(kind: Kind | None = None) -> list[Found]:
    """The weights of all folders, or those of a kind, by name."""
    found: dict[str, Found] = {}
    for folder in folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.stem not in found and not path.name.startswith("."):
                found[path.stem] = _look(path)
    return [each for _, each in sorted(found.items()) if kind is None or each.form == kind.form]


def _look(path: Path) -> Found:
    try:
        form, card = weight_files.read_card(path)
    except InputError as fault:
        return Found(path, fault=str(fault))
    return Found(path, form, card)


def find(choice: str, kind: Kind, words: Iterable[str] = ()) -> Path:
    """The file that a name or a path gives.

    Parameters
    ----------
    choice : str
    kind : Kind
    words : iterable of str
        Other values of the option, which are no files.

    Raises
    ------
    InputError
        Where there is none.
    """
    there = known(kind)
    for each in there:
        if each.called(choice, kind):
            return each.path
    path = Path(choice).expanduser()
    if path.suffix.lower() in PUBLISHED:
        raise InputError(
            f"{kind.option}={choice}: such files may hold code, so they are not loaded: give a {SUFFIX} file; published ones of DeepSparse "
            "are made into one by `sparsectrecon weights convert`",
            "bad-weights",
        )
    if path.is_file():
        return path
    if path.suffix == SUFFIX or path.name != choice:
        raise InputError(f"{kind.option}={choice}: there is no such file", "no-such-file")
    names = [each.name.removeprefix(f"{kind.prefix}_") for each in there]
    raise InputError(f"no weights {choice!r}{nearest_name(choice, [*names, *words])}, or give the path of a file", "unknown-weights")


def choose(choice: str, kind: Kind, views: int, anatomy: Callable[[], str]) -> Path:
    """The file that is asked for; for "auto" one for what a scan shows, of several the one that has learnt from the nearest views.

    Parameters
    ----------
    choice : str
        A name, a path, or "auto".
    kind : Kind
    views : int
        Of the scan.
    anatomy : callable
        Says what it shows.

    Raises
    ------
    InputError
        Where there is none, with what to do.
    """
    if choice != AUTO:
        return find(choice, kind, (AUTO,))
    there = known(kind)
    if not there:
        raise InputError(
            f"there are no weights for {kind.method}: train some on CTs of yours (`sparsectrecon train --help`), fetch or convert some "
            f"(`sparsectrecon weights --help`), or take another method, admm-tv say",
            "no-weights",
        )
    shown = anatomy()
    fitting = [each for each in there if shown in each.card.get("anatomies", ())]
    if not fitting:
        names = ", ".join(each.name.removeprefix(f"{kind.prefix}_") for each in there)
        raise InputError(
            f"there are no weights of {kind.method} for what seems to be a scan of the {shown}: if it is none, name the weights "
            f"({kind.option}={names.split(', ')[0]}; known are {names}), else train some or take another method, admm-tv say",
            "no-weights",
        )
    return min(fitting, key=lambda each: _beyond(each.card, views)).path


def _beyond(card: dict, views: int) -> float:
    """How many views a scan lies outside those that a card tells; far where it tells none."""
    try:
        few, many = card["range"]["numbers"]["views"]
        return max(0.0, few - views, views - many)
    except (KeyError, TypeError, ValueError):
        return float("inf")
