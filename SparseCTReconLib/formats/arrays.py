"""Arrays in numpy's files, .npy and .npz: numbers only, and nothing allocated that the file is too short for."""

from __future__ import annotations

import ast
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError

MAGIC = b"\x93NUMPY"
ZIP = b"PK\x03\x04"
MOST_DEFLATED = 1032
"""Bytes that one byte of a deflated stream can stand for at most."""

_LONGEST_HEADER = 10_000
_MOST_MEMBERS = 10_000
_TYPE = re.compile(r"[<>|=]?[biuf](1|2|4|8)")


def is_npy(path: Path) -> bool:
    """Whether `path` is a file that begins as numpy's do."""
    return head_of(path, 6) == MAGIC


def head_of(path: Path, count: int) -> bytes:
    """The first bytes of a file; none of what is no file."""
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(count)


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file.

    Raises
    ------
    InputError
        Where it is missing, cut short, longer than its header says, or holds anything but numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: put it back, or take it out of the list", "missing-file")
    with open(path, "rb") as file:
        shape, order, dtype = _header(file, path)
        _check_length(path.stat().st_size - file.tell(), shape, dtype, path)
        return np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order=order)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz archive by name; nothing is unpacked to the disk, so names that point elsewhere do no harm.

    Raises
    ------
    InputError
        Where it is damaged, encrypted, holds a name twice or anything but arrays of numbers, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is a damaged or cut archive ({error}): copy it again from where it came", "unreadable") from None


def _members(archive: zipfile.ZipFile, path) -> dict[str, np.ndarray]:
    found = {}
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise InputError(f"{path} holds {len(infos)} files, more than a scan has: unpack it", "unreadable")
    for info in infos:
        where = f"{path}, {info.filename[:80]!r}"
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise InputError(f"{where} is there twice: keep one", "unreadable")
        if info.file_size > MOST_DEFLATED * info.compress_size + 64:
            raise InputError(
                f"{where} claims {info.file_size} bytes in {info.compress_size}: it is damaged, or made to fill memory", "unreadable"
            )
        with archive.open(info) as file:
            shape, order, dtype = _header(file, where)
            _check_length(info.file_size - file.tell(), shape, dtype, where)
            raw = file.read(math.prod(shape) * dtype.itemsize)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise InputError(f"{where} is cut short: copy the archive again", "unreadable")
        found[name] = np.frombuffer(raw, dtype).reshape(shape, order=order)
    return found


def _header(file, where) -> tuple[tuple[int, ...], str, np.dtype]:
    """Shape, order and type that stand before the numbers."""
    start = file.read(8)
    width = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    try:
        if start[:6] != MAGIC or length > _LONGEST_HEADER:
            raise ValueError("no header of numpy's")
        header = ast.literal_eval(file.read(length).decode("latin1").strip())
        shape, kind = header["shape"], header["descr"]
        if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"shape {str(shape)[:60]}")
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise InputError(f"{where} holds {str(kind)[:40]!r} and not numbers: save it again as an array of numbers", "unreadable")
        return shape, "F" if header["fortran_order"] else "C", np.dtype(kind)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(f"{where} is no array of numpy's, or damaged ({str(error)[:80]}): save it again", "unreadable") from None


def _check_length(there: int, shape, dtype, where) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if there != needed:
        fault = "cut short" if there < needed else "longer than its header says"
        raise InputError(f"{where} is {fault}: {there} bytes for an array of {shape} ({needed}); copy it again", "unreadable")
