"""Folders of single projections: which files belong together, in which order, and all of them as one stack."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from .panel_images import Projection, kind_of, read

_PEEKED = 16
_DEPTH = 2
_NOT_SCANS = "calibrations"

log = logging.getLogger(__name__)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder in the order of the numbers in their names, hidden ones left out."""
    files = (each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    return sorted(files, key=lambda path: natural(path.name))


def natural(name: str) -> list:
    """A key by which "Proj_10" comes behind "Proj_9"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d{1,18})", name.lower()) if part]


def holds(folder: Path, kinds: set[str]) -> bool:
    """Whether one of the first files of a folder is a projection of one of `kinds`."""
    files = files_in(folder)
    likely = [path for path in files if path.suffix.lower().lstrip(".") in kinds][:_PEEKED]
    return any(kind_of(path) in kinds for path in likely + files[:_PEEKED])


def folders_with(folder: Path, kinds: set[str], depth: int = _DEPTH) -> list[Path]:
    """`folder`, or else the folders not far below it, that hold projections; calibrations are left aside."""
    if holds(folder, kinds):
        return [folder]
    if depth == 0:
        return []
    below = sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink() and each.name.lower() != _NOT_SCANS)
    return [found for each in below for found in folders_with(each, kinds, depth - 1)]


def projections_of(folder: Path, kinds: set[str]) -> tuple[list[Path], str]:
    """The projections of a scan in their order, and their kind.

    Raises
    ------
    InputError
        Where there are none, those of several scans, or of several kinds.
    """
    folders = folders_with(folder, kinds)
    if not folders:
        raise InputError(f"{folder} holds no projections (.{', .'.join(sorted(kinds))}): add the missing files", "missing-file")
    if len(folders) > 1:
        names = ", ".join(str(each.relative_to(folder)) for each in folders[:5])
        raise InputError(f"{folder} holds {len(folders)} scans ({names}): give the folder of one", "which-series")
    found = [(path, kind_of(path)) for path in files_in(folders[0])]
    files = [(path, kind) for path, kind in found if kind in kinds]
    other = next((path for path, kind in files if kind != files[0][1]), None)
    if other is not None:
        raise InputError(
            f"{folders[0]} holds projections of several formats ({files[0][0].name}, {other.name}): keep those of one scan", "which-series"
        )
    _check_nothing_is_missing([path for path, _ in files], found, folders[0])
    return [path for path, _ in files], files[0][1]


def _check_nothing_is_missing(files: list[Path], found: list, folder: Path):
    """Refuse damaged files among projections, warn of numbers that are missing between the first and the last."""
    endings = {path.suffix.lower() for path in files}
    damaged = [path for path, kind in found if kind is None and path.suffix.lower() in endings]
    if damaged:
        raise InputError(f"{damaged[0]} is damaged or empty ({len(damaged)} such files): copy it again or take it away", "unreadable")
    numbers = [number_of(path) for path in files]
    if None in numbers or len(set(numbers)) < len(numbers):
        return
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if 0 < missing < len(numbers):
        log.warning("%s: %d projections are missing between %s and %s", folder, missing, files[0].name, files[-1].name)


def number_of(path: Path) -> int | None:
    """The first number in a file's name."""
    found = re.search(r"\d{1,18}", path.name)
    return int(found[0]) if found else None


def read_all(files: list[Path], kind: str) -> tuple[np.ndarray, list[Projection], list[int]]:
    """All projections as one stack.

    Returns
    -------
    stack : ndarray [view, v, u] of float32
    headers : list of Projection
        Of each view, without its pixels.
    kept : list of int
        Which of the files the views are: scanners also write files without an image.

    Raises
    ------
    InputError
        Where a file is damaged, or sizes differ.
    """
    stack, headers, kept = None, [], []
    for k, path in enumerate(files):
        image = read(path, kind)
        if image.pixels is None:
            continue
        if stack is None:
            stack = np.empty((len(files), *image.shape), np.float32)
        if image.shape != stack.shape[1:] or not np.allclose(image.pixel_mm, (headers or [image])[0].pixel_mm):
            raise InputError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels of {image.pixel_mm[1]:g} x {image.pixel_mm[0]:g} mm, other than "
                f"{files[kept[0]].name}: it is of another scan; take it away",
                "which-series",
            )
        stack[len(kept)] = image.pixels
        headers.append(Projection(None, image.shape, image.pixel_mm, image.angle_deg, image.offset_mm, image.monitor))
        kept.append(k)
    if stack is None:
        raise InputError(f"{files[0].parent}: no file holds an image: copy the scan again", "bad-stack")
    if len(kept) < len(files):
        log.info("%s: %d files hold no image", files[0].parent, len(files) - len(kept))
    return stack[: len(kept)], headers, kept
