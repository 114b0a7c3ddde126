"""The detector's offset, given or found: it changes the geometry, not the data."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from .base import LINE_INTEGRALS, Acquisition, Correction, parameter


class DetectorOffset(Correction):
    """The detector displaced by this much beyond what the geometry says, and turned in its plane; measured: u, by consistency."""

    name: ClassVar[str] = "detector-offset"
    title: ClassVar[str] = "Detector offset, centre of rotation"
    domain: ClassVar[str] = LINE_INTEGRALS

    u_mm: float = parameter(0.0, "mm", "along the rows, on the detector", allow_inf_nan=False)
    v_mm: float = parameter(0.0, "mm", "along the columns", allow_inf_nan=False)
    tilt_deg: float = parameter(0.0, "degrees", "about the detector's normal, from u towards v", gt=-45, lt=45)

    def measured(self, data: Acquisition):
        from ..scan import Scan
        from .calibration import calibrate

        found = calibrate(Scan(data.values, data.geometry, mu_water=data.mu_water))
        return self.model_copy(update={"u_mm": found.u_mm})

    def apply(self, data: Acquisition):
        from .consistency import moved

        return replace(data, geometry=moved(data.geometry, self.u_mm, self.v_mm, float(np.radians(self.tilt_deg)))), {}
