"""Files that are nearly right: what a broken copy, a careless program or an attacker makes of a valid one."""

import random
import re
import struct

ODD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
ODD_TEXTS = [
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"inf",
    b"99999999999999999999",
    b"1.5",
    b"",
    b"[]",
    b"{}",
    b"null",
    b'"',
    b"\xff\xfe",
    b"../../x",
]
_TOKEN = re.compile(rb"-?\d+(?:\.\d+)?|[A-Za-z_]{2,}")
_HEADER = 512
"""Bytes in front in which most changes are made: that is where the sizes stand."""


def mutated(code: bytes, rng: random.Random) -> bytes:
    """`code` with one to four changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        code = rng.choice(_CHANGES)(code, rng)
    return code


def noise(code: bytes, rng: random.Random) -> bytes:
    """Random bytes behind the first few of `code`."""
    kept = rng.choice((0, 2, 4, 8, 16, 128))
    return code[:kept] + rng.randbytes(rng.choice((0, 1, 10, 100, 1000)))


def _place(code: bytes, rng: random.Random) -> int:
    near = rng.random() < 0.6
    return rng.randrange(max(1, min(len(code), _HEADER) if near else len(code)))


def _flipped(code, rng):
    changed = bytearray(code)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[_place(code, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _odd_number(code, rng):
    form = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d"))
    value = rng.choice(ODD) if form[1] in "BHIQ" else rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30))
    size = struct.calcsize(form)
    packed = struct.pack(form, value & ((1 << 8 * size) - 1)) if form[1] in "BHIQ" else struct.pack(form, value)
    place = _place(code, rng)
    return code[:place] + packed + code[place + size :]


def _odd_text(code, rng):
    found = list(_TOKEN.finditer(code[: 64 * _HEADER]))
    if not found:
        return code
    token = rng.choice(found)
    return code[: token.start()] + rng.choice(ODD_TEXTS) + code[token.end() :]


def _cut(code, rng):
    return code[: rng.randrange(len(code) + 1)]


def _removed(code, rng):
    place = _place(code, rng)
    return code[:place] + code[place + rng.choice((1, 2, 4, 8, 64)) :]


def _doubled(code, rng):
    place = _place(code, rng)
    piece = code[place : place + rng.choice((1, 8, 64, 512))]
    return code[:place] + piece * rng.choice((2, 2, 50)) + code[place:]


def _inserted(code, rng):
    place = _place(code, rng)
    return code[:place] + rng.randbytes(rng.choice((1, 4, 16))) + code[place:]


_CHANGES = (_flipped, _odd_number, _odd_number, _odd_text, _odd_text, _cut, _removed, _doubled, _inserted)
