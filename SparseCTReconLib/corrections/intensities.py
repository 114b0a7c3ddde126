"""Raw intensities: what a detector wrote, before any correction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from ..units import MU_WATER


@dataclass
class Intensities:
    """Detector values with their geometry; `chain.correct` makes a `Scan` of them.

    Parameters
    ----------
    values : ndarray (views, v, u)
        In any unit, finite; below 0 only as far as a dark field that is still to be subtracted leaves them there.
    geometry : Geometry
        One pose per view.
    i0 : float or None
        Intensity of the unattenuated beam in the same unit, where it is known.
    photons : float or None
        Photons per pixel without an object, where they are known.
    mu_water : float
        Attenuation of water in 1/mm.
    provenance : dict
        How they were made (JSON values).
    """

    values: np.ndarray
    geometry: Geometry
    i0: float | None = None
    photons: float | None = None
    mu_water: float = MU_WATER
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        # A scan checks all there is to check but the sign; zeros stand for what is checked here.
        Scan(np.zeros(np.shape(self.values), np.float32), self.geometry, self.photons, self.mu_water)
        self.values = np.ascontiguousarray(self.values, dtype=np.float32)
        if not np.isfinite(self.values).all():
            raise InputError(
                "the intensities are not all finite: mask these pixels with a number and name them in dead-pixels.map", "not-finite"
            )
        if self.i0 is not None and not (np.isfinite(self.i0) and self.i0 > 0):
            raise InputError(
                f"I0 is {self.i0}: give the positive intensity of the unattenuated beam, or None to have it measured", "bad-intensity"
            )
