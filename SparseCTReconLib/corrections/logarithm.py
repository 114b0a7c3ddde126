"""The logarithm's floor: the smallest intensity that is taken for a measured one."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, LINE_INTEGRALS, Acquisition, Correction, parameter


class Logarithm(Correction):
    """p = -ln(max(I, floor) / I0). Measured: the floor is what one pixel in a thousand falls below, among those that are above 0."""

    name: ClassVar[str] = "logarithm"
    title: ClassVar[str] = "Logarithm with floor"
    domain: ClassVar[str] = INTENSITIES

    floor: float = parameter(1e-4, "I0", "smallest intensity as a share of I0", gt=0, lt=1)

    def measured(self, data: Acquisition):
        positive = data.values[data.values > 0]
        if not positive.size:
            raise InputError("no pixel is above 0: the logarithm has nothing to work on", "bad-intensity")
        return self.model_copy(update={"floor": float(np.clip(np.percentile(positive, 0.1) / (data.i0 or 1.0), 1e-12, 0.5))})

    def apply(self, data: Acquisition):
        if data.i0 is None:
            return data.within(LINE_INTEGRALS), {}  # which says what is missing
        floor = self.floor * data.i0
        return replace(data, floor=floor).within(LINE_INTEGRALS), {"at_the_floor": round(float((data.values < floor).mean()), 6)}
