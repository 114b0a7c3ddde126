"""Varian's compression of .hnd and .xim images, in numpy.

The first row and the first pixel of the second are plain 32-bit numbers. Every later pixel p, counted through the rows with w columns, is
kept as what its three neighbours do not foretell,

    d[k] = p[k] - p[k-1] - p[k-w] + p[k-w-1],

in one, two or four bytes, which two bits of a table say. So d is a mixed difference, and two running sums bring the pixels back: first
q[k] = p[k] - p[k-w] along the numbering, which goes on from the end of a row to the start of the next, then p along the columns.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError

_BYTES = np.array([1, 2, 4, 0])


def decode(table: np.ndarray, coded: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image of a table of sizes and the bytes behind it.

    Parameters
    ----------
    table : ndarray of uint8
        Four pixels a byte, the lowest two bits first; what lies behind the last pixel's bits is passed over.
    coded : ndarray of uint8
        The plain numbers and the differences, low bytes first.
    shape : tuple of int
        Rows and columns; at least two rows.

    Returns
    -------
    ndarray [v, u] of int32
        Sums beyond 32 bits wrap around, as they do where the files were written.

    Raises
    ------
    InputError
        Where table or bytes are too short for the image, or the table has a size that does not exist.
    """
    rows, columns = shape
    kept = (rows - 1) * columns - 1
    if rows < 2 or 4 * len(table) < kept or len(coded) < 4 * (columns + 1) + kept:
        raise InputError("is cut short: copy it again from where it came", "unreadable")
    sizes = ((table[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).ravel()[:kept]
    if (sizes == 3).any():
        raise InputError("is damaged: its table of sizes holds a size that does not exist; copy it again", "unreadable")
    plain = coded[: 4 * (columns + 1)].copy().view("<i4")
    differences = _differences(sizes, coded[4 * (columns + 1) :])
    steps = np.concatenate([plain[columns:] - plain[:1], differences])
    np.cumsum(steps, dtype=np.int32, out=steps)
    image = np.concatenate([plain[:columns], steps]).reshape(shape)
    return np.cumsum(image, axis=0, dtype=np.int32)


def _differences(sizes: np.ndarray, coded: np.ndarray) -> np.ndarray:
    """int32 of numbers that take 1, 2 or 4 bytes each, one behind the other."""
    ends = np.cumsum(_BYTES[sizes])
    if len(sizes) and ends[-1] > len(coded):
        raise InputError("is cut short: copy it again from where it came", "unreadable")
    out = np.empty(len(sizes), np.int32)
    for code, kind in enumerate(("i1", "<i2", "<i4")):
        which = np.flatnonzero(sizes == code)
        width = _BYTES[code]
        at = ends[which, None] + np.arange(-width, 0)
        out[which] = np.ascontiguousarray(coded[at]).view(kind)[:, 0] if len(which) else 0
    return out
