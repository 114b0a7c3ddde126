"""Tables of a scan's views (CSV): one row for each view, names of columns in the first line.

    angle_deg                                   of the source; with it may stand
    sid_mm, sdd_mm, pixel_u_mm, pixel_v_mm, offset_u_mm, offset_v_mm
    source_x .. v_z                             or ASTRA's cone_vec: source, centre of the detector, step from a column to the next, step
                                                from a row to the next; a table of twelve columns needs no names
    i0, file, dark, flat                        in any table: intensity of the beam, names of the images of the view and of its fields

Separated by commas, semicolons (with decimal commas or points), tabs or blanks; lines that begin with # are passed over.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest_name

VECTORS = tuple(f"{what}_{axis}" for what in ("source", "detector", "u", "v") for axis in "xyz")
NUMBERS = ("angle_deg", "sid_mm", "sdd_mm", "pixel_u_mm", "pixel_v_mm", "offset_u_mm", "offset_v_mm", "i0")
FILE, FIELDS = "file", ("dark", "flat")
LARGEST = 64 << 20


def recognises(head: bytes) -> bool:
    """Whether a file that begins like `head` is such a table."""
    try:
        lines = _lines(head.decode("utf-8-sig", errors="ignore"))
    except ValueError:
        return False
    if len(lines) < 2:
        return False
    names = _split(lines[0], _separator(lines[0]))
    return "angle_deg" in names or set(VECTORS) <= set(names) or (len(names) == len(VECTORS) and all(map(_is_number, names)))


def read(path: Path) -> dict[str, np.ndarray | list[str]]:
    """Columns by name: float64 (views,), and a list of texts for "file" and the fields.

    Raises
    ------
    InputError
        For a table that is empty, has an unknown column, or a row that is too short or holds no number.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} has {path.stat().st_size >> 20} MiB, more than a table of views has", "bad-geometry")
    try:
        lines = _lines(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}): save the table as CSV", "bad-geometry") from None
    if not lines:
        raise InputError(f"{path} is empty: give one row for each view", "bad-geometry")
    separator = _separator(lines[0])
    names = _split(lines[0], separator)
    if len(names) == len(VECTORS) and all(map(_is_number, names)):
        names = list(VECTORS)
    else:
        lines = lines[1:]
    _check_names(names, path)
    rows = [_split(line, separator) for line in lines]
    short = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if short is not None or not rows:
        said = f"row {short + 1} has {len(rows[short])} values and there are {len(names)} columns" if rows else "there are no rows"
        raise InputError(f"{path}: {said}: give one row for each view", "bad-geometry")
    columns = dict(zip(names, zip(*rows)))
    return {
        name: list(column) if name in (FILE, *FIELDS) else _as_numbers(name, column, separator, path) for name, column in columns.items()
    }


def _lines(text: str) -> list[str]:
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _separator(line: str) -> str:
    return next((mark for mark in (";", "\t", ",") if mark in line), " ")


def _split(line: str, separator: str) -> list[str]:
    parts = line.split() if separator == " " else line.split(separator)
    return [part.strip().strip('"') for part in parts]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", text) is not None


def _check_names(names: list[str], path) -> None:
    known = (*NUMBERS, *VECTORS, FILE, *FIELDS)
    for i, name in enumerate(names):
        if name not in known:
            raise InputError(f"{path}: unknown column {name[:40]!r}{nearest_name(name, known)}", "bad-geometry")
        if name in names[:i]:
            raise InputError(f"{path}: the column {name} is there twice: keep one", "bad-geometry")


def _as_numbers(name: str, column, separator: str, path) -> np.ndarray:
    values = np.empty(len(column))
    for i, text in enumerate(column):
        text = text.replace(",", ".") if separator in ";\t" else text
        if not _is_number(text) or not np.isfinite(float(text)):
            raise InputError(f"{path}: row {i + 1}, {name}: {text[:40]!r} is no number", "bad-geometry")
        values[i] = float(text)
    return values
