"""Dead, stuck and flickering pixels: found by statistics over the views, filled from their neighbours.

A pixel's difference from the median of its 3 x 3 neighbours changes sign as noise and edges pass over it. One whose difference stays, or
is usually many times as large as about it, is no measurement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, Acquisition, Correction, parameter
from .fields import field_of

MOST = 0.05
"""Share of a detector's pixels that can be dead before something else is wrong."""

LEAST = 2e-3
"""Difference of neighbours, of the logarithm, that is nothing out of the ordinary on any detector."""


class DeadPixels(Correction):
    """Pixels that say nothing true; on with a given map, or measured. They take the mean of their nearest good neighbours."""

    name: ClassVar[str] = "dead-pixels"
    title: ClassVar[str] = "Dead pixels"
    domain: ClassVar[str] = INTENSITIES

    map: str | np.ndarray | None = parameter(None, "", "image of the detector that is not 0 where a pixel is dead")
    threshold: float = parameter(6.0, "", "how many times as large as usual the differences of a pixel are that is found to be dead", gt=2)

    def measured(self, data: Acquisition):
        return self.model_copy(update={"map": find_dead(data.values, self.threshold)})

    def apply(self, data: Acquisition):
        if self.map is None:
            raise InputError("dead-pixels is on without a map: give dead-pixels.map, or let it be measured", "bad-correction")
        dead = field_of("map of dead pixels", self.map, data.geometry.detector_shape) != 0
        facts = {"dead_pixels": int(dead.sum())}
        if dead.mean() > MOST:
            raise InputError(
                f"{100 * dead.mean():.0f} % of the detector's pixels are dead: check the map, or raise the threshold", "bad-correction"
            )
        return replace(data, values=filled(data.values, dead)), facts


def find_dead(values: np.ndarray, threshold: float) -> np.ndarray:
    """Map (v, u) of the pixels that are far out, of values (views, v, u)."""
    from scipy.ndimage import median_filter, percentile_filter

    # In logarithms a dead pixel is as far from its neighbours in the shadow as in air.
    level = max(float(np.percentile(values, 99)), 1e-30)
    logs = np.log(np.maximum(values / level, 1e-5)).astype(np.float32)
    differences = logs - median_filter(logs, size=(1, 3, 3), mode="nearest")
    usual, large = (np.percentile(np.abs(differences), share, axis=0) for share in (50, 90))
    # An edge that stays, such as the object's upper one, is there for its neighbours too; a dead column is for one in seven.
    scale, largest = (np.maximum(percentile_filter(figure, 80, size=7, mode="nearest"), LEAST) for figure in (usual, large))
    stays = np.abs(np.median(differences, axis=0)) > threshold * scale
    # A stuck pixel differs by as much from its neighbours as these change from view to view.
    return stays | (usual > threshold * scale) | (large > threshold * largest)


def filled(values: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Values (views, v, u) whose dead pixels (v, u) are the mean of the good ones about them, clusters from the rim inwards."""
    from scipy.ndimage import uniform_filter

    good, values = ~dead, np.where(dead, 0, values).astype(np.float32)
    while not good.all() and good.any():
        weight = uniform_filter(good.astype(np.float32), size=3, mode="constant")
        near = ~good & (weight > 1e-3)
        mean = uniform_filter(values, size=(1, 3, 3), mode="constant")[:, near] / weight[near]
        values[:, near] = mean
        good = good | near
    return values
