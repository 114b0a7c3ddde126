"""Rings: pixels whose gain is a little wrong draw the same stripe in every view, and a ring in the volume.

What a pixel has in excess of the median of the columns about it, in the median of all views, is its stripe (after Raven 1998 and Boin and
Haibel 2006): an object's own detail moves over the detector as the gantry turns, a stripe stays. Detail near the axis moves little; it is
told from a pixel's fault by its rows, since it goes on from one to the next, and from a column's fault since it ends before the rows do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import LINE_INTEGRALS, Acquisition, Correction, parameter

FEWEST_VIEWS = 12
"""Of which a median can tell what stays from what moves."""


class Rings(Correction):
    """Subtract from each pixel what it has in excess in most views; measured: from those alone whose excess stands out of the noise."""

    name: ClassVar[str] = "rings"
    title: ClassVar[str] = "Rings"
    domain: ClassVar[str] = LINE_INTEGRALS

    width: int = parameter(9, "pixels", "a stripe is narrower than half of this", ge=3, le=101)
    threshold: float = parameter(
        0.0, "sigma", "only stripes that stand out of the noise by this much; measured takes 4 where it is 0", ge=0
    )

    def measured(self, data: Acquisition):
        return self.model_copy(update={"threshold": self.threshold or 4.0})

    def apply(self, data: Acquisition):
        views = len(data.values)
        if views < FEWEST_VIEWS:
            raise InputError(f"rings cannot be told from the object with {views} views: it takes {FEWEST_VIEWS} or more", "bad-correction")
        found = stripes(data.values, self.width, self.threshold)
        return replace(data, values=data.values - found), {"pixels": int((found != 0).sum()), "largest": float(np.abs(found).max())}


def stripes(line_integrals: np.ndarray, width: int, threshold: float = 0.0) -> np.ndarray:
    """What each pixel (v, u) says too much, of line integrals (views, v, u): its column's fault and its own."""
    from scipy.ndimage import median_filter

    views, nv, nu = line_integrals.shape
    differences = line_integrals - median_filter(line_integrals, size=(1, 1, min(width | 1, nu)), mode="mirror")
    stays = np.median(differences, axis=0)
    # Of a median of so many views.
    sigma = 1.25 * 1.4826 * np.median(np.abs(differences - stays), axis=0) / np.sqrt(views)
    column = np.median(stays, axis=0, keepdims=True)
    own = stays - column
    own -= median_filter(own, size=(min(5, nv), 1), mode="mirror")
    column = np.where(np.abs(column) > threshold * np.median(sigma, axis=0) / np.sqrt(nv), column, 0)
    return (column + np.where(np.abs(own) > threshold * sigma, own, 0)).astype(np.float32)
