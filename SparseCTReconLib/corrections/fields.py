"""Dark and flat field as a correction; the arithmetic is `formats.fields`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..formats import fields
from .base import INTENSITIES, SMALLEST, Acquisition, Correction, parameter

_DIMMEST = 0.01
"""Share of the flat field that the brightest pixels of a scan reach at least."""

_LOOKED_AT = 16
"""Views that the brightest pixels are sought in."""


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
        dark = field_of("dark field", self.dark, shape) if self.dark is not None else np.zeros(shape, np.float32)
        if self.flat is None:
            gain, after = np.ones(shape, np.float32), None if data.i0 is None else data.i0 - float(dark.mean())
        else:
            gain, after = fields.gain_of(dark, field_of("flat field", self.flat, shape)), 1.0
        _check_unit(data, dark, gain)
        values, negative = np.empty(data.values.shape, np.float32), 0
        for view, image in enumerate(data.values):
            corrected = fields.transmissions(image, dark, gain)
            negative += int((corrected < 0).sum())
            values[view] = np.maximum(corrected, 0)
        facts = {"pixels_without_gain": int((gain == 0).sum()), "below_dark": round(negative / values.size, 6)}
        return replace(data, values=values, i0=after), facts


def _check_unit(data: Acquisition, dark: np.ndarray, gain: np.ndarray) -> None:
    """Refuse fields in counts for a scan that was divided by its I0 already: all of it would be dark."""
    brightest = float(np.percentile(data.values[:: max(1, len(data.values) // _LOOKED_AT)], 99.5))
    if data.floor == SMALLEST and (brightest <= np.median(dark) or brightest < _DIMMEST * np.median(gain)):
        raise InputError(
            f"dark-flat: the scan was divided by I0 already and is {brightest:.3g} where it is brightest, the fields are in counts (median "
            f"{float(np.median(dark + gain)):.4g}): name them where the scanner is described (dark and flat), or divide them by I0",
            "bad-correction",
        )


def field_of(what: str, given: str | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A field (v, u) from an array or a file; see `formats.fields.field_of`."""
    return fields.field_of(_read(given) if isinstance(given, str) else given, shape, what)


def _read(path: str) -> np.ndarray:
    from ..formats.scan_folder import read_stack

    return read_stack(Path(path).expanduser())[0]
