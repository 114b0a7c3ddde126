"""How far a volume's projections may lie from the measurements: the noise of photons and readout, and an allowance for the voxels.

    variance = noise + allowance(steepness)

The noise follows from the photons of the scan; where they are unknown, from what the measurements vary from pixel to pixel. A volume
that is right would still miss the measurements by more, because its voxels are coarser than the object and the projector joins them
linearly, and most where the projections are steep: at bones' edges. How much more, the residual itself tells: in classes of equal
steepness its median is compared with the noise. False detail of a few mm touches few of all pixels, moves no median, and stands out.

The allowance forgives a volume whatever it does wrong everywhere: the residual over the noise alone, which the report gives beside it,
shows that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..classical.weights import FEWEST, photon_variance
from ..scan import Scan

NORMAL_MEDIAN = 0.6745
"""Median of the absolute value of a standard normal number."""

CLASSES = 24
MOST_PIXELS = 2_000_000
"""That classes are made of: enough for medians, and few enough to sort."""

SHADOW = 0.05
"""Line integral from which on a ray is taken to have met the object."""

KNOWN, WITHOUT_READOUT, ESTIMATED = (
    "photons and readout of the scan",
    "photons of the scan; its readout noise is unknown and left out",
    "estimated from neighbouring pixels, since the scan does not say its photons",
)


@dataclass(frozen=True)
class Expected:
    """Variances of the line integrals' residual, (views, v, u), and where the first one comes from, in words."""

    noise: np.ndarray
    allowance: np.ndarray
    source: str

    @property
    def variance(self) -> np.ndarray:
        return self.noise + self.allowance


def expected(scan: Scan, computed: np.ndarray) -> Expected:
    """What the residual of `computed`, the projections of a volume (views, v, u), may be."""
    noise, source = noise_variance(scan)
    return Expected(noise, allowance(scan.projections - computed, steepness(computed), noise, computed > SHADOW), source)


def noise_variance(scan: Scan) -> tuple[np.ndarray, str]:
    """Variance of each line integral by photons and readout, float32 (views, v, u), and where it comes from."""
    if scan.photons is None:
        counts = np.maximum(photons_of(scan.attenuation) * np.exp(-np.maximum(scan.attenuation, 0)), FEWEST)
        return (1 / counts).astype(np.float32), ESTIMATED
    return photon_variance(scan).astype(np.float32), KNOWN if "electronic_noise" in scan.provenance else WITHOUT_READOUT


def photons_of(projections: np.ndarray) -> float:
    """Photons per pixel without an object that would make line integrals (views, v, u) vary as they do from pixel to pixel.

    The mixed second difference along rows and columns leaves of a smooth image nothing and of white noise 36 times its variance (Immerkaer
    1996, Comput. Vis. Image Underst. 64(2)); 1 / (I0 exp(-p)) is fitted to its median over the less steep half of the object's shadow. What
    is left of edges counts as noise: I0 comes out too low rather than too high, unless the detector blurs.
    """
    step = max(1, projections.size // MOST_PIXELS)
    views = projections[::step].astype(np.float64)
    if min(views.shape[1:]) < 3:
        return 1 / float(FEWEST)
    difference = views
    for axis in (1, 2):
        a, b, c = (np.moveaxis(difference, axis, 0)[k : difference.shape[axis] - 2 + k] for k in range(3))
        difference = np.moveaxis(a - 2 * b + c, 0, axis)
    middle, steep = views[:, 1:-1, 1:-1], steepness(views)[:, 1:-1, 1:-1]
    counted = middle > SHADOW if (middle > SHADOW).any() else np.ones(middle.shape, bool)
    counted &= steep <= np.median(steep[counted])
    spread = np.median(np.abs(difference[counted]) * np.exp(-middle[counted] / 2)) / NORMAL_MEDIAN / 6
    return float(1 / max(spread**2, FEWEST))


def steepness(projections: np.ndarray) -> np.ndarray:
    """Size of the gradient along rows and columns per pixel, smoothed over a pixel, float32 (views, v, u)."""
    from scipy.ndimage import gaussian_filter, sobel

    squares = sum(gaussian_filter(sobel(projections, axis) / 8, (0, 1, 1)) ** 2 for axis in (1, 2))
    return np.sqrt(squares).astype(np.float32)


def allowance(residual: np.ndarray, steep: np.ndarray, noise: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Variance beyond `noise` that the voxels are allowed, a function of the steepness that never falls; all (views, v, u).

    Parameters
    ----------
    residual : ndarray
        Measured less computed line integrals.
    steep : ndarray
        Their steepness.
    noise : ndarray
        Variance by photons and readout.
    counted : ndarray of bool
        Pixels to learn from.
    """
    from scipy.optimize import isotonic_regression

    chosen = np.flatnonzero(counted.ravel())
    if chosen.size < CLASSES:
        return np.zeros_like(noise)
    chosen = chosen[:: max(1, chosen.size // MOST_PIXELS)]
    r, g, known = (each.ravel()[chosen] for each in (residual, steep, noise))
    edges = np.quantile(g, np.linspace(0, 1, CLASSES + 1))
    number = np.clip(np.searchsorted(edges, g, side="right") - 1, 0, CLASSES - 1)
    filled = [n for n in range(CLASSES) if (number == n).any()]
    middles = [float(np.median(g[number == n])) for n in filled]
    excess = [robust_variance(r[number == n]) - float(np.median(known[number == n])) for n in filled]
    growing = isotonic_regression(excess).x.clip(0)
    return np.interp(steep, middles, growing).astype(np.float32)


def robust_variance(values: np.ndarray) -> float:
    """Variance about 0 of normal numbers with the same median size, which a few outliers do not change."""
    return float(np.median(np.abs(values)) / NORMAL_MEDIAN) ** 2
