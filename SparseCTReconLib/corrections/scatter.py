"""Scatter: photons that did not come straight from the source.

Constant in each view, by its share of what arrives in the object's shadow (Boellaard et al. 1997), or with the shape of what scatters,

    S = amplitude (T (-ln T)) * g,     M = T + S

where every ray scatters in proportion to the primary and to its line integral, and g spreads that over the detector (Ohnesorge et al.
1999). What a collimator shadows at the detector's edge gets nothing but scatter, which is where it can be measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, Acquisition, Correction, parameter

SHADOW = 0.9
"""Intensity over I0 below which a pixel lies in the object's shadow."""

KEPT = 0.05
"""Share of the measured intensity that is primary at least, however much scatter is said to be there."""

COLLIMATED = 0.3
"""Intensity over I0 that no pixel behind the collimator exceeds."""


class Scatter(Correction):
    """Subtract scatter: a constant of each view, or one with the object's shape; measured in the shadow of a collimator."""

    name: ClassVar[str] = "scatter"
    title: ClassVar[str] = "Scatter"
    domain: ClassVar[str] = INTENSITIES

    model: Literal["constant", "kernel"] = parameter("constant", "", "the same over each view, or spread from where it arises")
    fraction: float = parameter(0.1, "", "constant: scatter over all intensity in the object's shadow", ge=0, lt=1)
    of: Literal["mean", "minimum"] = parameter("mean", "", "constant: share of the shadow's mean, or of its minimum")
    amplitude: float = parameter(0.1, "", "kernel: scatter over primary where a wide object has a line integral of 1", ge=0, le=5)
    width_mm: float = parameter(60.0, "mm", "kernel: standard deviation of its spread on the detector", gt=0)

    def measured(self, data: Acquisition):
        edge = collimated_edge(_transmissions(data))
        level = edge.mean()
        shadow = _shadow_mean(_transmissions(data)).mean()
        if self.model == "constant":
            return self.model_copy(update={"fraction": float(np.clip(level / shadow, 0, 0.99)), "of": "mean"})
        return self.model_copy(update={"amplitude": _amplitude(self, data, level)})

    def apply(self, data: Acquisition):
        transmissions = _transmissions(data)
        scatter = _constant(transmissions, self) if self.model == "constant" else _spread(transmissions, self, data)
        scatter = np.minimum(scatter, (1 - KEPT) * np.maximum(transmissions, 0))
        facts = {"scatter_over_i0": float(scatter.mean())}
        return replace(data, values=((transmissions - scatter) * (data.i0 or 1.0)).astype(np.float32)), facts


def _transmissions(data: Acquisition) -> np.ndarray:
    if data.i0 is None:
        raise InputError(
            "scatter needs the intensity of the unattenuated beam: give i0.value, or let i0 be measured before", "bad-correction"
        )
    return data.values / np.float32(data.i0)


def _shadow_mean(transmissions: np.ndarray) -> np.ndarray:
    """Mean (views,) over the object's shadow; 0 where there is none."""
    shadow = transmissions < SHADOW
    counts = shadow.sum(axis=(1, 2))
    return np.where(counts > 0, (transmissions * shadow).sum(axis=(1, 2)) / np.maximum(counts, 1), 0.0)


def _constant(transmissions: np.ndarray, asked: Scatter) -> np.ndarray:
    level = _shadow_mean(transmissions) if asked.of == "mean" else np.percentile(transmissions, 1, axis=(1, 2))
    return (asked.fraction * level).astype(np.float32)[:, None, None]


def _spread(measured: np.ndarray, asked: Scatter, data: Acquisition, rounds: int = 6) -> np.ndarray:
    """The kernel's scatter (views, v, u), from the primary that is left when it is subtracted."""
    scatter = np.zeros_like(measured)
    for view, image in zip(scatter, measured):
        for _ in range(rounds):
            primary = np.maximum(image - view, KEPT * np.maximum(image, 1e-6))
            view[...] = asked.amplitude * _unit_scatter(primary, asked.width_mm, data.geometry.pixel_mm)
    return scatter


def _unit_scatter(primary: np.ndarray, width_mm: float, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Of one view (v, u)."""
    from scipy.ndimage import gaussian_filter

    source = primary * np.maximum(-np.log(np.maximum(primary, 1e-6)), 0)
    return gaussian_filter(source, [width_mm / pitch for pitch in pixel_mm], mode="constant")


def _amplitude(asked: Scatter, data: Acquisition, level: float) -> float:
    """Amplitude with which the kernel explains what arrives behind the collimator."""
    transmissions = _transmissions(data)
    edge = _edge_mask(transmissions)
    seen = (np.where(edge, 1.0, np.maximum(image, 1e-6)) for image in transmissions)  # nothing scatters behind the collimator
    unit = np.mean([_unit_scatter(image, asked.width_mm, data.geometry.pixel_mm)[edge].mean() for image in seen])
    return float(np.clip(level / max(float(unit), 1e-9), 0, 5))


def collimated_edge(transmissions: np.ndarray) -> np.ndarray:
    """Mean intensity (views,) over I0 behind the collimator.

    Raises
    ------
    InputError
        Where no rows or columns at the detector's edge are dark in every view.
    """
    return transmissions[:, _edge_mask(transmissions)].mean(axis=1)


def _edge_mask(transmissions: np.ndarray) -> np.ndarray:
    """Pixels (v, u) of the rows and columns at the edge that are dark in every view, and darker than what borders on them."""
    mask = np.zeros(transmissions.shape[1:], dtype=bool)
    for axis, lines in ((0, mask), (1, mask.T)):
        brightest = np.percentile(transmissions, 90, axis=(0, 2 - axis))
        for order in (slice(None), slice(None, None, -1)):
            run = brightest[order] < COLLIMATED
            dark = int(np.argmin(run)) if not run.all() else 0
            # The rows next to the collimator's edge are half lit.
            if dark >= 2 and brightest[order][dark] > 2 * brightest[order][: dark - 1].max():
                lines[order][: dark - 1] = True
    if not mask.any():
        raise InputError(
            "no rows or columns at the detector's edge lie in a collimator's shadow, where scatter is measured: give scatter.fraction",
            "bad-correction",
        )
    return mask
