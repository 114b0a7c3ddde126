"""Rows that end within the object go on smoothly, so that a filter along them sees no step: FDK does this by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from .base import LINE_INTEGRALS, Acquisition, Correction, parameter


class Truncation(Correction):
    """Widen the detector by columns that were not measured: as of a cylinder of water, or falling like a cosine. For programs whose FDK
    does not; methods that fit the data would fit what is made up here. Measured: the cylinder's, as wide as the edges ask for."""

    name: ClassVar[str] = "truncation"
    title: ClassVar[str] = "Truncation"
    domain: ClassVar[str] = LINE_INTEGRALS

    model: Literal["water", "cosine"] = parameter("cosine", "", "how rows go on: measured takes water")
    width: float = parameter(0.25, "", "cosine: columns on each side, as a share of the row's", gt=0, le=1)

    def measured(self, data: Acquisition):
        return self.model_copy(update={"model": "water"})

    def apply(self, data: Acquisition):
        wide, geometry, added = _as_water(data) if self.model == "water" else _as_cosine(data, self.width)
        return replace(data, values=wide, geometry=geometry), {"columns_added_on_each_side": added}


def _as_water(data: Acquisition):
    import torch

    from ..classical.truncation import extrapolated_rows

    wide, geometry, added = extrapolated_rows(torch.from_numpy(data.values), data.geometry, data.mu_water)
    return wide.numpy(), geometry, added


def _as_cosine(data: Acquisition, width: float):
    (nv, nu) = data.geometry.detector_shape
    added = max(1, round(width * nu))
    fall = np.cos(np.pi / 2 * (np.arange(added) + 1) / (added + 1)) ** 2
    ends = [np.maximum(data.values[..., side], 0) for side in (slice(0, 1), slice(-1, None))]
    wide = np.concatenate([ends[0] * fall[::-1], data.values, ends[1] * fall], axis=-1).astype(np.float32)
    return wide, replace(data.geometry, detector_shape=(nv, nu + 2 * added)), added
