"""I0, the intensity of the unattenuated beam: given, or found where rays pass the object by."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, Acquisition, Correction, parameter

NEAR = 0.1
"""Air is sought among pixels that differ from the brightest, their 99.5th percentile, by no more than this share."""

LEAST_AIR = 0.01
"""Share of a view's pixels that must show air."""

PEAKED = 0.5
"""Share of the pixels within `NEAR` of the peak that lie within a quarter of that."""


class UnattenuatedBeam(Correction):
    """The beam's intensity without an object, for the whole scan or, since tubes flicker, for each view."""

    name: ClassVar[str] = "i0"
    title: ClassVar[str] = "Unattenuated beam (I0)"
    domain: ClassVar[str] = INTENSITIES

    value: float | None = parameter(
        None, "", "I0 in the unit of the intensities (1 for a scan of line integrals)", gt=0, allow_inf_nan=False
    )
    source: Literal["air", "percentile"] = parameter("air", "", "measured where the views show air, or at a percentile of all pixels")
    percentile: float = parameter(99.5, "%", "of the pixels, where it is measured there", gt=0, le=100)
    each_view: bool = parameter(True, "", "measure each view by itself")

    def apply(self, data: Acquisition):
        if self.mode == "on":
            if self.value is None:
                raise InputError("i0 is on without a value: give i0.value, or let it be measured", "bad-correction")
            return replace(data, i0=self.value), {}
        found = _levels(data.values, self)
        values = data.values / found[:, None, None].astype(np.float32)
        facts = {"i0_mean": float(found.mean()), "i0_lowest": float(found.min()), "i0_highest": float(found.max())}
        return replace(data, values=values, i0=1.0, floor=data.floor and data.floor / found.mean()), facts


def _levels(intensities: np.ndarray, asked: UnattenuatedBeam) -> np.ndarray:
    level = air_level if asked.source == "air" else lambda image: np.percentile(image, asked.percentile)
    images = intensities if asked.each_view else [intensities]
    found = np.array([level(image) for image in images], dtype=np.float64)
    if not (np.isfinite(found) & (found > 0)).all():
        raise InputError(f"view {int(np.argmin(found))} is dark everywhere: take it out, or give i0.value", "bad-intensity")
    return np.broadcast_to(found, len(intensities)).copy()


def air_level(image: np.ndarray) -> float:
    """Intensity of the rays that pass the object by: the most frequent one among the brightest.

    Parameters
    ----------
    image : ndarray
        Intensities of one view or more.

    Raises
    ------
    InputError
        Where no more than a handful of pixels are alike: the object covers the detector.
    """
    brightest = np.percentile(image, 99.5)
    near = image[np.abs(image - brightest) <= NEAR * brightest]
    counts, edges = np.histogram(near, bins=32)
    peak = (edges[counts.argmax()] + edges[counts.argmax() + 1]) / 2
    alike = near[np.abs(near - peak) <= NEAR / 4 * brightest]
    # Noise and all, air is a peak; a shadow's brightest pixels are a slope, which has about as many on each side of any level.
    broad = np.abs(image - peak) <= NEAR * brightest
    if brightest <= 0 or alike.size < LEAST_AIR * image.size or alike.size < PEAKED * np.count_nonzero(broad):
        raise InputError("the views show no air, from which I0 could be measured: give i0.value, or i0.source=percentile", "bad-intensity")
    return float(np.median(near[np.abs(near - np.median(alike)) <= NEAR / 2 * brightest]))
