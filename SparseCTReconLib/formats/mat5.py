"""MATLAB's files of versions 5 to 7 (.mat): arrays of numbers, texts and single structs of them; all else is passed over.

A file is a header of 128 bytes and elements, each with its type and length in 8 bytes. A matrix consists of elements: flags with its class,
dimensions, name, and its numbers, perhaps in a smaller type; a compressed element is a deflated one (MathWorks, "MAT-File Format").
Every length is compared with what is there before it is used. Files of version 7.3 are HDF5 and are refused.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from .arrays import MOST_DEFLATED

_HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2", 18: "u4"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR, _NUMBERS = 2, 4, range(6, 16)
_COMPLEX = 0x0800
_DEEPEST = 4
_MOST_ELEMENTS = 100_000


def is_mat(head: bytes) -> bool:
    """Whether a file that begins like `head` (520 bytes) is one of MATLAB's, also of version 7.3."""
    return (len(head) >= _HEADER and head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")) or (head[512:520] == _HDF5 and head[:6] == b"MATLAB")


def read(path: Path) -> dict:
    """Variables by name: arrays as MATLAB indexes them, texts, and structs as dicts.

    Raises
    ------
    InputError
        Where the file is of version 7.3, damaged or cut short.
    """
    code = path.read_bytes()
    if code[512:520] == _HDF5:
        raise InputError(f"{path} is of MATLAB's version 7.3: save it with -v7", "unreadable")
    try:
        return _Reader("<" if code[126:128] == b"IM" else ">").variables(memoryview(code)[_HEADER:])
    except (ValueError, KeyError, IndexError, zlib.error, OverflowError) as error:
        raise InputError(f"{path} is a damaged or cut file of MATLAB's ({error}): save it again", "unreadable") from None


class _Reader:
    def __init__(self, order: str):
        self._order = order
        self._left = _MOST_ELEMENTS

    def variables(self, code) -> dict:
        found = {}
        while len(code) >= 8:
            kind, body, code = self._element(code)
            if kind == _COMPRESSED:
                kind, body, _ = self._element(self._inflated(body))
            if kind == _MATRIX:
                name, value = self._matrix(body, _DEEPEST)
                if value is not None and name:
                    found[name] = value
        return found

    def _inflated(self, body) -> memoryview:
        stream = zlib.decompressobj()
        head = stream.decompress(body, 8)
        size = int.from_bytes(head[4:8], "little" if self._order == "<" else "big")
        if len(head) < 8 or size > MOST_DEFLATED * len(body):
            raise ValueError(f"{size} bytes in {len(body)} compressed ones")
        return memoryview(head + stream.decompress(stream.unconsumed_tail, size))

    def _element(self, code):
        """Type and bytes of the first element, and what follows it."""
        self._left -= 1
        if len(code) < 8 or self._left < 0:
            raise ValueError("an element is missing" if len(code) < 8 else "more elements than a scan has")
        kind, size = (int(n) for n in np.frombuffer(code[:8], self._order + "u4"))
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError("a small element of more than 4 bytes")
            return kind, code[4 : 4 + size], code[8:]
        if size > len(code) - 8:
            raise ValueError(f"an element of {size} bytes where {len(code) - 8} are left")
        padded = size if kind == _COMPRESSED else (size + 7) // 8 * 8
        return kind, code[8 : 8 + size], code[8 + padded :]

    def _numbers(self, code):
        kind, body, rest = self._element(code)
        dtype = np.dtype(self._order + _TYPES[kind])
        return np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype), rest

    def _matrix(self, code, depth: int):
        """Name and value; a value of None is passed over."""
        if depth < 0 or not len(code):
            return "", None
        flags, code = self._numbers(code)
        dimensions, code = self._numbers(code)
        name, code = self._numbers(code)
        kind, shape = int(flags[0]) & 0xFF, tuple(int(n) for n in dimensions)
        if not 1 <= len(shape) <= 8 or min(shape) < 0:
            raise ValueError(f"an array of dimensions {shape[:8]}")
        name = name.tobytes().decode("latin1")
        if kind == _STRUCT and math.prod(shape) == 1:
            return name, self._struct(code, depth)
        if (kind in _NUMBERS or kind == _CHAR) and not int(flags[0]) & _COMPLEX:
            values, _ = self._numbers(code)
            if math.prod(shape) != len(values):
                raise ValueError(f"{name[:40]!r} has {len(values)} numbers in an array of {shape}")
            if kind == _CHAR:
                if values.dtype.kind == "f":
                    raise ValueError(f"{name[:40]!r} has letters that are no whole numbers")
                return name, "".join(chr(c) for c in values[:4096] if c < 0xD800)
            return name, values.reshape(shape, order="F")
        return name, None

    def _struct(self, code, depth: int) -> dict:
        width, code = self._numbers(code)
        names, code = self._numbers(code)
        width = int(width[0])
        if not 1 <= width <= 256:
            raise ValueError(f"names of {width} letters")
        texts = names.tobytes()
        fields = [texts[i : i + width].split(b"\0")[0].decode("latin1") for i in range(0, len(texts), width)]
        found = {}
        for field in fields:
            kind, body, code = self._element(code)
            value = self._matrix(body, depth - 1)[1] if kind == _MATRIX else None
            if value is not None:
                found[field] = value
        return found
