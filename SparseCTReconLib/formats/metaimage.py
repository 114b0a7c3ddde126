"""Projection stacks in plain MetaImage files (.mha: one file, not compressed, identity direction), with numpy alone.

What is written here any reader of MetaImage reads. Reading is for such files only; SimpleITK reads all others.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError

_TYPES = {
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
}
_IDENTITY = np.eye(3).ravel().tolist()
_LONGEST_HEADER = 100
_HEAD = 1 << 16
_DIMENSIONS = re.compile(rb"NDims\s*=?([^\r\n]*)")


def read_plain(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A stack of a plain file: array [view, v, u], spacing and origin (u, v, view); None where the file is no such file or cut short."""
    try:
        with open(path, "rb") as file:
            header = _header(file)
            start = file.tell()
        if header is None or not _is_plain(header):
            return None
        dtype = np.dtype(("<" if header.get("BinaryDataByteOrderMSB", "False") == "False" else ">") + _TYPES[header["ElementType"]])
        shape = tuple(int(n) for n in reversed(header["DimSize"].split()))
        if path.stat().st_size != start + int(np.prod(shape, dtype=object)) * dtype.itemsize:
            return None
        spacing, origin = (np.array(_numbers(header[key])) for key in ("ElementSpacing", "Offset"))
        return np.fromfile(path, dtype, offset=start).reshape(shape), spacing, origin
    except (KeyError, ValueError, OSError):
        return None


def check_dimensions(path: Path) -> None:
    """Refuse a MetaImage of other than 2 to 4 dimensions: MetaIO, which SimpleITK reads it with, crashes on absurd numbers of them.

    Raises
    ------
    InputError
        Where the header says another number.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if b"DimSize" not in head:
        return
    for count in _DIMENSIONS.findall(head):
        if count.strip() not in (b"2", b"3", b"4"):
            raise InputError(
                f"{path} says that it has {count[:30].decode('latin1')} dimensions: it is damaged; copy it again", "unreadable"
            )


def _header(file) -> dict[str, str] | None:
    header = {}
    for _ in range(_LONGEST_HEADER):
        key, separator, value = file.readline(4096).decode("ascii").partition("=")
        if not separator:
            return None
        header[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return header
    return None


def _is_plain(header: dict[str, str]) -> bool:
    return (
        header["ElementDataFile"] == "LOCAL"
        and header["NDims"] == "3"
        and header.get("BinaryData", "True") == "True"
        and header.get("CompressedData", "False") == "False"
        and header.get("ElementNumberOfChannels", "1") == "1"
        and "HeaderSize" not in header
        and _numbers(header["TransformMatrix"]) == _IDENTITY
    )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split()]


def write_plain(array: np.ndarray, spacing, origin, path: Path) -> None:
    """Write `array` [view, v, u] as float32; spacing and origin are (u, v, view)."""
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": _text(_IDENTITY),
        "Offset": _text(origin),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _text(spacing),
        "DimSize": " ".join(str(n) for n in reversed(array.shape)),
        "AnatomicalOrientation": "RAI",
        "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }
    with open(path, "wb") as file:
        file.write("".join(f"{key} = {value}\n" for key, value in header.items()).encode("ascii"))
        np.ascontiguousarray(array, "<f4").tofile(file)


def _text(numbers) -> str:
    return " ".join(f"{float(number):.17g}" for number in numbers)
