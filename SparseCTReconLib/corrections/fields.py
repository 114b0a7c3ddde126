"""Dark and flat field: what the detector says without a beam, and what each pixel makes of the beam without an object.

T = (I - dark) / (flat - dark)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, Acquisition, Correction, parameter


class DarkFlat(Correction):
    """Offset and gain of each pixel; afterwards the unattenuated beam is 1. A pixel without gain is left at 0, for `dead-pixels`."""

    name: ClassVar[str] = "dark-flat"
    title: ClassVar[str] = "Dark and flat field"
    domain: ClassVar[str] = INTENSITIES
    unmeasurable: ClassVar[str] = "it takes images without a beam and without an object; give dark-flat.dark and dark-flat.flat"

    dark: str | np.ndarray | None = parameter(None, "", "image or stack without a beam; none = 0")
    flat: str | np.ndarray | None = parameter(None, "", "image or stack of the beam without an object; none = the same everywhere")

    def apply(self, data: Acquisition):
        if self.dark is None and self.flat is None:
            raise InputError("dark-flat has neither a dark nor a flat field: give dark-flat.dark or dark-flat.flat", "bad-correction")
        shape = data.geometry.detector_shape
        dark = 0.0 if self.dark is None else field_of(self.dark, shape, "dark field")
        i0 = data.i0
        if self.flat is None:
            gain, after = 1.0, None if i0 is None else i0 - float(np.mean(dark))
        else:
            gain, after = field_of(self.flat, shape, "flat field") - dark, 1.0
        dead = np.broadcast_to(np.asarray(gain) <= 0, shape)
        if dead.mean() > 0.5:
            raise InputError("the flat field is no brighter than the dark field: the two may be exchanged", "bad-correction")
        values = (data.values - dark) / np.where(dead, np.inf, gain)
        negative = float((values < 0).mean())
        values = np.maximum(values, 0).astype(np.float32)
        return replace(data, values=values, i0=after), {"pixels_without_gain": int(dead.sum()), "below_dark": round(negative, 6)}


def field_of(given: str | np.ndarray, shape: tuple[int, int], what: str) -> np.ndarray:
    """A field (v, u) from an array or file; several frames are averaged.

    Raises
    ------
    InputError
        Where the file cannot be read, or the field has other pixels than the detector or values that are not finite.
    """
    values = np.asarray(_read(given) if isinstance(given, str) else given)
    if values.ndim not in (2, 3) or values.shape[-2:] != tuple(shape):
        raise InputError(
            f"the {what} has {values.shape} pixels, the detector {tuple(shape)} (v, u): give one image of the detector", "bad-stack"
        )
    if not np.isfinite(values).all():
        raise InputError(f"the {what} has values that are not finite: take another image", "not-finite")
    return values.reshape(-1, *shape).mean(axis=0, dtype=np.float64)


def _read(path: str) -> np.ndarray:
    from ..formats.scan_folder import read_stack

    return read_stack(Path(path).expanduser())[0]
