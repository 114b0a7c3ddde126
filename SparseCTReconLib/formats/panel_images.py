"""Single projections as clinical scanners write them: Varian's .hnd, .hnc (OBI) and .xim (TrueBeam, ProBeam), Elekta's .his (XVI).

They are decoded here and not by itk-rtk, so that they can be read where that is not installed, and since a damaged file can make its
readers hang or wander beyond their arrays; itk-rtk is what the tests compare with. What a header claims is compared with the file's own
size before anything is allocated. Names and numbers of patients, which lie in the headers, are not looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .difference_coding import decode
from .files import named

_LARGEST_SIDE = 1 << 14
_OBI_HEADER, _HND_PIXELS = 512, 1024
_OBI_KINDS = (b"VARIAN_VA_INTERNAL",)
_XIM, _HIS = b"VMS.XI", struct.pack("<HH", 0x7000, 68)
_XVI_PANEL_MM = 409.6
_HIS_HEADER = 68


@dataclass(frozen=True)
class Projection:
    """One image and what its header says of it; None where it says nothing.

    Parameters
    ----------
    pixels : ndarray [v, u]
        Whole numbers as stored; None where only the header was read or the file has no image.
    shape : tuple of int
        Rows and columns.
    pixel_mm : tuple of float
        Pitch (dv, du).
    angle_deg : float or None
        As the header has it.
    offset_mm : tuple of float
        Displacement of the panel along (u, v).
    monitor : float or None
        Reading of the chamber that monitors the beam.
    """

    pixels: np.ndarray | None
    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    angle_deg: float | None = None
    offset_mm: tuple[float, float] = (0.0, 0.0)
    monitor: float | None = None


def kind_of(path: Path) -> str | None:
    """ "hnd", "hnc", "xim" or "his", told from a file's first bytes and its length; None for any other file."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(_OBI_HEADER)
    if head.startswith(_XIM):
        return "xim"
    if head.startswith(_HIS) and len(head) >= _HIS_HEADER:
        return "his"
    if head.startswith(_OBI_KINDS) and len(head) == _OBI_HEADER:
        if b"HNC" in head[:32] or b"HND" in head[:32]:
            return "hnc" if b"HNC" in head[:32] else "hnd"
        columns, rows = struct.unpack_from("<II", head, 120)
        return "hnc" if path.stat().st_size == _OBI_HEADER + 2 * rows * columns else "hnd"
    return None


def read(path: Path, kind: str) -> Projection:
    """The projection in a file of the given kind.

    Raises
    ------
    InputError
        Where the file is cut short or damaged, or claims a size that it cannot have.
    """
    with named(path):
        data = np.fromfile(path, np.uint8)
        try:
            return {"hnd": _hnd, "hnc": _hnc, "xim": _xim, "his": _his}[kind](data)
        except struct.error:
            raise InputError("is cut short: copy it again from where it came", "unreadable") from None


def _shape(rows: int, columns: int) -> tuple[int, int]:
    if not (2 <= rows <= _LARGEST_SIDE and 2 <= columns <= _LARGEST_SIDE):
        raise InputError(f"claims {columns} x {rows} pixels: it is damaged or no projection; copy it again", "unreadable")
    return rows, columns


def _pitch(dv: float, du: float) -> tuple[float, float]:
    if not (1e-4 < dv < 100 and 1e-4 < du < 100):
        raise InputError(f"claims pixels of {du:g} x {dv:g} mm: it is damaged or no projection; copy it again", "unreadable")
    return float(dv), float(du)


def _plain(data: np.ndarray, start: int, shape: tuple[int, int], kind: str) -> np.ndarray:
    """An image that is not compressed."""
    length = shape[0] * shape[1] * np.dtype(kind).itemsize
    if len(data) < start + length:
        raise InputError(
            f"holds {len(data) - start} bytes of pixels, {shape[1]} x {shape[0]} pixels take {length}: it is cut short; copy it again",
            "unreadable",
        )
    return data[start : start + length].view(kind).reshape(shape)


def _obi_header(data: np.ndarray) -> Projection:
    header = data[:_OBI_HEADER].tobytes()
    columns, rows = struct.unpack_from("<II", header, 120)
    du, dv = struct.unpack_from("<2d", header, 352)
    angle, monitor = struct.unpack_from("<2d", header, 432)
    return Projection(None, _shape(rows, columns), _pitch(dv, du), angle, (0.0, 0.0), monitor)


def _with_pixels(header: Projection, pixels: np.ndarray) -> Projection:
    return Projection(pixels, header.shape, header.pixel_mm, header.angle_deg, header.offset_mm, header.monitor)


def _hnc(data: np.ndarray) -> Projection:
    header = _obi_header(data)
    return _with_pixels(header, _plain(data, _OBI_HEADER, header.shape, "<u2"))


def _hnd(data: np.ndarray) -> Projection:
    header = _obi_header(data)
    table = (header.shape[0] - 1) * header.shape[1] // 4
    pixels = decode(data[_HND_PIXELS : _HND_PIXELS + table], data[_HND_PIXELS + table :], header.shape)
    return _with_pixels(header, pixels)


def _his(data: np.ndarray) -> Projection:
    header = data[:_HIS_HEADER].tobytes()
    extra, left, top, right, bottom, frames = struct.unpack_from("<6H", header, 10)
    if frames > 1:
        raise InputError(f"holds {frames} frames: write one file for each projection", "bad-stack")
    shape = _shape(bottom - top + 1, right - left + 1)
    if shape[0] != shape[1]:
        raise InputError(f"has {shape[1]} x {shape[0]} pixels: XVI's panel is square; give files of XVI", "bad-stack")
    pitch = _XVI_PANEL_MM / shape[0]
    return Projection(_plain(data, _HIS_HEADER + extra, shape, "<u2"), shape, (pitch, pitch))


def _xim(data: np.ndarray) -> Projection:
    columns, rows, _, width, compressed = struct.unpack_from("<5i", data, 12)
    if columns == rows == 0:
        return Projection(None, (0, 0), (1.0, 1.0))
    shape = _shape(rows, columns)
    cursor = _Cursor(data, 32)
    if compressed:
        table, coded = cursor.block(), cursor.block()
        cursor.number("<i")
        pixels = decode(table, coded, shape)
    else:
        if width not in (1, 2, 4):
            raise InputError(f"has {width} bytes a pixel: known are 1, 2 and 4; write it again", "unreadable")
        pixels = _plain(cursor.block(), 0, shape, f"<i{width}")
    cursor.skip(4 * cursor.count(4))
    said = _xim_properties(cursor)
    pitch = _pitch(10 * said.get("PixelHeight", np.nan), 10 * said.get("PixelWidth", np.nan))
    offset = tuple(10 * said.get(key, 0.0) for key in ("KVDetectorLat", "KVDetectorLng"))
    return Projection(pixels, shape, pitch, said.get("KVSourceRtn"), offset, said.get("KVNormChamber"))


def _xim_properties(cursor: _Cursor) -> dict[str, float]:
    """The properties that are single numbers."""
    said = {}
    for _ in range(cursor.count(8)):
        name, kind = cursor.block().tobytes().decode("latin-1"), cursor.number("<i")
        if kind in (0, 1):
            said[name] = float(cursor.number("<d" if kind else "<i"))
        elif kind in (2, 4, 5):
            cursor.block()
        else:
            raise InputError(f"has a property of an unknown kind ({kind}): it is damaged; copy it again", "unreadable")
    return said


class _Cursor:
    """Where reading stands in the bytes of a file; no step leaves them."""

    def __init__(self, data: np.ndarray, at: int):
        self.data, self.at = data, at

    def skip(self, length: int) -> np.ndarray:
        """The next `length` bytes."""
        if length < 0 or self.at + length > len(self.data):
            raise InputError("is cut short or damaged: copy it again from where it came", "unreadable")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, code: str):
        """The next number, of the given kind."""
        return struct.unpack(code, self.skip(struct.calcsize(code)).tobytes())[0]

    def block(self) -> np.ndarray:
        """The bytes behind their number."""
        return self.skip(self.number("<i"))

    def count(self, bytes_each: int) -> int:
        """How many things follow, of at least so many bytes each."""
        count = self.number("<i")
        if count < 0 or count * bytes_each > len(self.data) - self.at:
            raise InputError("is cut short or damaged: copy it again from where it came", "unreadable")
        return count
