"""A scan: line integrals, the geometry they were measured in, and where they came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .units import MU_WATER

HISTORY = "corrections"
"""Key of a scan's provenance: one entry for each correction that was applied, with mode, parameters and what it found."""


@dataclass
class Scan:
    """Measured line integrals with their geometry.

    Parameters
    ----------
    projections : ndarray (views, v, u), float32
        Line integrals -ln(I / I0), dimensionless.
    geometry : Geometry
        One pose per view.
    photons : float or None
        Photons per detector pixel without an object (I0); None where unknown.
    mu_water : float
        Attenuation of water in 1/mm that maps the reconstruction to HU.
    provenance : dict
        How the scan was made (JSON values).
    taken_out : ndarray (views, v, u), optional
        Line integrals that were subtracted from the measured ones, of what lies where no voxels are: it has cost photons all the same.
    """

    projections: np.ndarray
    geometry: Geometry
    photons: float | None = None
    mu_water: float = MU_WATER
    provenance: dict = field(default_factory=dict)
    taken_out: np.ndarray | None = None

    def __post_init__(self):
        self.projections = np.ascontiguousarray(self.projections, dtype=np.float32)
        expected = (self.geometry.views, *self.geometry.detector_shape)
        if self.projections.ndim != 3:
            raise InputError(f"projections of shape {self.projections.shape}: give an array (views, v, u)", "bad-geometry")
        if self.projections.shape[0] != expected[0]:
            raise InputError(
                f"the projection stack has {self.projections.shape[0]} views, the geometry {expected[0]}: "
                "take out the extra poses or add the missing images",
                "view-count",
            )
        if self.projections.shape != expected:
            raise InputError(
                f"projections of {self.projections.shape[1:]} pixels (v, u) with a geometry of {expected[1:]}: give the stack's size",
                "bad-geometry",
            )
        bad = np.flatnonzero(~np.isfinite(self.projections).all(axis=(1, 2)))
        if bad.size:
            raise InputError(
                f"view {bad[0]} has values that are not finite ({bad.size} views in all): "
                "a dead or unexposed pixel has no logarithm; mask it or clip the intensities above 0",
                "not-finite",
            )
        if not (np.isfinite(self.mu_water) and self.mu_water > 0):
            raise InputError(f"attenuation of water {self.mu_water} 1/mm: give a positive number, 0.02 for about 70 keV", "bad-input")
        if self.photons is not None and not (np.isfinite(self.photons) and self.photons > 0):
            raise InputError(f"{self.photons} photons per pixel: give a positive number, or None where it is unknown", "bad-intensity")

    @property
    def views(self) -> int:
        return self.geometry.views

    @property
    def attenuation(self) -> np.ndarray:
        """Line integrals (views, v, u) as they were measured, which is what noise follows from."""
        return self.projections if self.taken_out is None else self.projections + self.taken_out

    def subset(self, views) -> Scan:
        """The scan with only the given views (an index, indices, slice or boolean mask)."""
        projections, taken_out = (
            None if stack is None else stack[views].reshape(-1, *self.geometry.detector_shape)
            for stack in (self.projections, self.taken_out)
        )
        return Scan(projections, self.geometry[views], self.photons, self.mu_water, dict(self.provenance), taken_out)

    def content_hash(self) -> str:
        """SHA-256 over projections and poses to a micrometre: the same data have the same hash, also after writing and reading."""
        digest = hashlib.sha256(self.projections.tobytes())
        for pose, digits in ((self.geometry.source, 3), (self.geometry.detector, 3), (self.geometry.u, 6), (self.geometry.v, 6)):
            digest.update((np.round(pose, digits) + 0.0).tobytes())
        digest.update(repr((self.geometry.pixel_mm, self.mu_water)).encode())
        return digest.hexdigest()


def line_integrals(intensities: np.ndarray, photons: float, floor: float | None = None) -> np.ndarray:
    """-ln(I / I0) of detector intensities: the one place where they become line integrals.

    Parameters
    ----------
    intensities : ndarray (views, v, u)
        Counts in the unit of `photons`.
    photons : float
        I0, the intensity without an object.
    floor : float, optional
        Smaller intensities count as this one; half a count by default, or 5e-6 of I0 where that is less.

    Raises
    ------
    InputError
        Where an intensity is negative or not a number, or I0 is not positive.
    """
    if not (np.isfinite(photons) and photons > 0):
        raise InputError(f"I0 is {photons}: give the positive intensity of the unattenuated beam", "bad-intensity")
    bad = ~((intensities >= 0) & np.isfinite(intensities))
    if bad.any():
        view, v, u = np.argwhere(bad)[0]
        raise InputError(
            f"intensity {intensities[view, v, u]} at view {view}, row {v}, column {u} ({int(bad.sum())} such pixels): "
            "intensities cannot be negative, infinite or missing; correct the dark field or mask the pixels",
            "bad-intensity",
        )
    if floor is None:
        floor = min(0.5, 5e-6 * photons)  # a normalised beam (I0 = 1) has no counts
    out = np.empty(np.shape(intensities), np.float32)
    for view, values in zip(out, intensities):  # whole numbers become float64 on the way, of a view at a time
        view[...] = -np.log(np.maximum(values, floor) / photons)
    return out
