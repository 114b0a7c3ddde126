"""Beam hardening in water: a polynomial that makes line integrals proportional to the water's thickness again (Herman 1979).

    p' = c_1 p + c_2 p^2 + ...

Measured on a scan of a homogeneous body of water: a first volume says where the water is, rays through that say how thick it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import LINE_INTEGRALS, Acquisition, Correction, parameter

ORDER = 3
VOXELS = 128
UNEVEN = 0.3
"""How far a body that is taken for water may differ from its median; cupping alone makes a tenth of it."""

LEAST = 0.1
"""Attenuation, relative to water, below which there is no body."""


class BeamHardening(Correction):
    """The water polynomial; measured: from this scan itself, which must be of a water phantom. Its coefficients serve other scans."""

    name: ClassVar[str] = "beam-hardening"
    title: ClassVar[str] = "Beam hardening (water)"
    domain: ClassVar[str] = LINE_INTEGRALS

    coefficients: tuple[float, ...] = parameter((1.0,), "", "c_1, c_2, ... of the line integral's powers")

    def measured(self, data: Acquisition):
        return self.model_copy(update={"coefficients": water_coefficients(data)})

    def apply(self, data: Acquisition):
        if not (self.coefficients and np.isfinite(self.coefficients).all() and self.coefficients[0] > 0):
            raise InputError("beam-hardening: the first coefficient must be positive and all finite", "bad-correction")
        if self.mode == "on" and self.coefficients == (1.0,):
            raise InputError(
                "beam-hardening is on without coefficients: give those that a water phantom's scan showed (correct PHANTOM OUT --set "
                "beam-hardening=measured prints them)",
                "bad-correction",
            )
        values = np.empty_like(data.values)
        for view, p in zip(values, data.values):
            view[...] = np.polynomial.polynomial.polyval(p.astype(np.float64), (0.0, *self.coefficients))
        return replace(data, values=values), {}


def water_coefficients(data: Acquisition, order: int = ORDER) -> tuple[float, ...]:
    """Coefficients c_1 ... c_order that turn this scan of water into mu_water times its thickness.

    Raises
    ------
    InputError
        Where the body is not homogeneous, touches the edge of the field of view, or there is none.
    """

    from ..classical.truncation import fdk_of
    from ..geometry import default_grid
    from ..operators import projector
    from ..scan import Scan

    grid = default_grid(data.geometry, VOXELS)
    body = _body(fdk_of(Scan(data.values, data.geometry, mu_water=data.mu_water), grid).numpy() / data.mu_water)
    A = projector(data.geometry, grid)
    thickness = data.mu_water * A(A.volume(body)).numpy()
    # Rays that graze the surface or leave the grid say least of the thickness.
    use = thickness > 0.3 * thickness.max()
    use &= A(A.volume(_ends(body))).numpy() == 0
    if use.sum() < 100:
        raise InputError("too few rays go through the water alone: centre the phantom in the field of view", "bad-correction")
    found = _fitted(data.values[use].astype(np.float64)[::7], thickness[use].astype(np.float64)[::7], order)
    slope = np.polynomial.polynomial.polyval(np.linspace(0, float(data.values[use].max()), 50), found * np.arange(1, order + 1))
    if slope.min() <= 0:
        raise InputError("the polynomial that fits does not grow: this is no scan of water", "bad-correction")
    return tuple(float(c) for c in found)


def _fitted(p: np.ndarray, thickness: np.ndarray, order: int) -> np.ndarray:
    """Coefficients by least squares, twice: a tenth of the rays, those that fit least, pass where the surface is not where it seems."""
    powers = np.stack([p**k for k in range(1, order + 1)], axis=1)
    found, *_ = np.linalg.lstsq(powers, thickness, rcond=None)
    misfit = np.abs(powers @ found - thickness)
    kept = misfit <= np.percentile(misfit, 90)
    return np.linalg.lstsq(powers[kept], thickness[kept], rcond=None)[0]


def _body(mu: np.ndarray) -> np.ndarray:
    """Share (0 to 1) of each voxel that lies within the one body that attenuates: within the surface on which `mu`, relative to water, is
    half of what it is below, which a blur leaves where it was."""
    from scipy.ndimage import binary_erosion, uniform_filter

    smooth = uniform_filter(mu, 3)
    bright = np.percentile(smooth, 99.5)
    inside = smooth > bright / 3
    core = binary_erosion(inside, iterations=3)
    if bright <= LEAST or core.sum() < 50:
        raise InputError("there is no body in the field of view whose water could be measured", "bad-correction")
    usual = np.median(smooth[core])
    if np.percentile(smooth[inside], 99) > (1 + UNEVEN) * usual or np.percentile(smooth[core], 5) < (1 - UNEVEN) * usual:
        raise InputError(
            "the body is not homogeneous: beam hardening is measured on a scan of water, and its coefficients given to others",
            "bad-correction",
        )
    weight = uniform_filter(core.astype(np.float32), 9)
    below = np.where(weight > 1e-3, uniform_filter(np.where(core, mu, 0), 9) / np.maximum(weight, 1e-3), usual)
    level = mu / below
    steepness = np.sqrt(sum(g**2 for g in np.gradient(level)))
    share = np.clip(0.5 + (level - 0.5) / np.maximum(steepness, 1e-3), 0, 1)
    return np.where(core, 1, np.where(weight > 1e-3, share, 0)).astype(np.float32)


def _ends(body: np.ndarray) -> np.ndarray:
    """Voxels of the body in the grid's outermost slices, beyond which it may go on."""
    out = np.zeros(body.shape, dtype=np.float32)
    out[[0, -1]] = body[[0, -1]]
    return out
