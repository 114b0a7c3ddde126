"""Pickles from elsewhere, read without running what they may hold of code.

A pickle is a program. Here it may build numbers, strings, bytes, lists, tuples, dicts and numpy arrays, and nothing else: each global that
it names is looked up in `_BUILDERS`, where stand the few functions by which numpy's arrays are put together, in versions of ours that make
views of the file's own bytes. Before it runs, its instructions are walked through once: a length or a place in its memory that the file is
too short for is refused before anything is allocated for it.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from ..errors import InputError

MOST_VALUES = 200_000
"""Numbers, strings and containers outside arrays that a pickle may hold."""
MOST_INSTRUCTIONS = 10 * MOST_VALUES
DEEPEST = 12
"""Containers within containers."""

_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LONGEST_LINE = 4096
_DTYPE = re.compile(r"[<>=|]?[biuf](1|2|4|8)")


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins like `head` can be a pickle of a dict: protocols 2 to 5, or the text of 0 and the binary of 1."""
    return (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2) or head[:2] in (b"(d", b"}q")


def names(head: bytes, keys) -> bool:
    """Whether all `keys` stand in the beginning of a pickle; dicts keep their order, so those before the first array do."""
    return all(key.encode() in head for key in keys)


def load(path: Path):
    """What a pickle holds: dicts, lists, tuples, strings, bytes, numbers, booleans, None and arrays (read-only views).

    Raises
    ------
    InputError
        Where it names anything else, which may be code, or is damaged or cut short.
    """
    with open(path, "rb") as file:
        return load_stream(file, path)


def load_stream(file, path):
    """As `load`, from an open file, of which the pickle is the rest; `path` is for the messages."""
    start = file.tell()
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
            _check_instructions(bytes_, start)
        file.seek(start)
        return _plain(_Unpickler(file).load(), DEEPEST, [MOST_VALUES])
    except _Foreign as error:
        raise InputError(
            f"{path} is a pickle that asks for {error}, which may be code and is not run: save it again with arrays, numbers, strings, "
            "lists and dicts only",
            "unsafe-pickle",
        ) from None
    except Exception as error:  # the unpickler has no error of its own
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is a damaged or cut pickle ({why}): copy it again from where it came", "unreadable") from None


class _Foreign(Exception):
    """A global that is none of `_BUILDERS`."""


class _Type:
    """A numpy dtype while a pickle puts it together."""

    def __init__(self, name="", *_):
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise _Foreign(f"an array of {str(name)[:40]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        if state[1] in (">", "<"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A numpy array while a pickle puts it together."""

    def __init__(self, *_):
        self.array = np.empty(0)

    def __setstate__(self, state):
        shape, kind, fortran, raw = state[-4:]
        self.array = _array_of(raw, kind, shape, "F" if fortran else "C").array


def _array_of(raw, kind, shape, order="C") -> _Array:
    if not isinstance(kind, _Type):
        raise _Foreign("an array without a type")
    if not isinstance(raw, (bytes, bytearray)):
        raise _Foreign("an array of objects")
    made = _Array()
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(not isinstance(n, int) or n < 0 for n in shape) or math.prod(shape) * kind.dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {str(shape)[:60]} in {len(raw)} bytes")
    made.array = np.frombuffer(raw, kind.dtype).reshape(shape, order=order)
    return made


def _scalar(kind, raw):
    return _array_of(raw, kind, ()).array.item()


def _encoded(text, encoding):
    if encoding != "latin1":
        raise _Foreign(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(*arguments):
    """Bytes of bytes; a number would be asked for as many."""
    return bytes(*arguments) if arguments and isinstance(arguments[0], (bytes, bytearray)) else b""


_NUMPY = ("numpy.core", "numpy._core")
_BUILDERS = (
    {(f"{core}.multiarray", "_reconstruct"): _Array for core in _NUMPY}
    | {(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY}
    | {(f"{core}.numeric", "_frombuffer"): _array_of for core in _NUMPY}
    | {
        ("numpy", "dtype"): _Type,
        ("numpy", "ndarray"): object,
        ("_codecs", "encode"): _encoded,
        ("builtins", "bytearray"): _bytes,
        ("__builtin__", "bytearray"): _bytes,
        ("__builtin__", "bytes"): _bytes,
        ("collections", "OrderedDict"): dict,
    }
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        builder = _BUILDERS.get((module, name))
        if builder is None:
            raise _Foreign(f"{module}.{name}"[:80])
        return lambda *arguments: builder(*arguments)  # one of its own: a pickle can set attributes of what it is given

    def persistent_load(self, pid):
        raise _Foreign("an object outside the file")


def _plain(value, depth: int, left: list):
    """`value` with its arrays for what stood for them; what is too deep, too many or within itself is refused."""
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        raise ValueError("more values, or deeper within each other, than a scan has")
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {_plain(key, 0, left): _plain(held, depth - 1, left) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(held, depth - 1, left) for held in value)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    raise _Foreign(f"a {type(value).__name__}")


def _check_instructions(code, position: int) -> None:
    """Walk through the instructions without running them: every argument lies within the file."""
    end, seen = len(code), 0
    while position < end:
        opcode = _OPCODES.get(code[position])
        position, seen = position + 1, seen + 1
        if opcode is None or seen > MOST_INSTRUCTIONS:
            raise ValueError(f"byte {position - 1} is no instruction" if opcode is None else "more instructions than a scan needs")
        if opcode.name == "STOP":
            return
        if opcode.arg is None:
            continue
        place = position
        position = _after_argument(code, position, opcode.arg)
        if position > end or (opcode.name == "FRAME" and position + int.from_bytes(code[place:position], "little") > end):
            break
        if opcode.name.endswith("PUT") and _number(code[place:position], opcode.name) > seen:
            raise ValueError(f"byte {place} uses more memory than there are values")
    raise ValueError("the end is missing")


def _after_argument(code, position: int, argument) -> int:
    size = argument.n
    if size == pickletools.UP_TO_NEWLINE:
        for _ in range(2 if argument.name == "stringnl_noescape_pair" else 1):
            longest = len(code) if argument.name == "unicodestringnl" else _LONGEST_LINE
            newline = code.find(b"\n", position, position + longest)
            if newline < 0:
                raise ValueError(f"byte {position} begins a line without an end")
            position = newline + 1
        return position
    if size in _LENGTH_BYTES:
        width = _LENGTH_BYTES[size]
        return position + width + int.from_bytes(code[position : position + width], "little")
    return position + size


def _number(argument: bytes, name: str) -> int:
    return int(argument) if name == "PUT" else int.from_bytes(argument, "little")
