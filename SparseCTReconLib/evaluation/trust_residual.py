"""What a volume's projections leave of the measurements, by view and by pixel, beside what noise and voxels allow.

The voxels' values are means over voxels, as a CT's are, but the projector joins samples (see `operators.averaging`): the volume is
sharpened first, by as much as makes the residual smallest, or else the residual is full of what the projector takes for blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..corrections.redundancy import is_weighed
from ..errors import InputError
from ..grid import Volume
from ..methods.checks import rays_meet, triple
from ..operators import Projector, projector
from ..operators.averaging import voxel_means
from ..scan import Scan
from ..units import hu_to_mu
from .compare import check_finite
from .trust_beyond import Beyond, beyond
from .trust_noise import SHADOW, Expected, expected

BEYOND = 3.0
"""Standard deviations from which on a pixel is counted."""

SHARPENINGS = (0.0, 0.02, 0.04, 0.06, 0.08)
"""Weights of a voxel's neighbours to choose from, whose averaging is undone; see `operators.averaging.neighbour_weight`."""

MOST_LEFT = 0.5
"""Relative residual from which on the volume is taken for another object than the scan's."""

_NEUMANN = 6
_TRIED_VIEWS = 10


@dataclass(frozen=True)
class Residual:
    """Projections of a volume beside the measurements.

    Parameters
    ----------
    A : Projector
    measured, left : ndarray (views, v, u)
        Line integrals, and how far they lie above the computed ones.
    met : ndarray of bool (views, v, u)
        Rays that met the object and pass through the volume.
    expected : Expected
        Variances of what is left.
    samples : ndarray (z, y, x)
        The volume in 1/mm as the projector takes it.
    sharpened : float
        Weight of a voxel's neighbours whose averaging was undone.
    beyond : Beyond
        What lies beyond the volume, which was added to its projections.
    """

    A: Projector
    measured: np.ndarray
    left: np.ndarray
    met: np.ndarray
    expected: Expected
    samples: np.ndarray
    sharpened: float
    beyond: Beyond

    @cached_property
    def z(self) -> np.ndarray:
        """What is left in standard deviations of noise and allowance together, float32 (views, v, u)."""
        return (self.left / np.sqrt(self.expected.variance)).astype(np.float32)

    @property
    def relative(self) -> float:
        """|y - A x| / |y|."""
        size = float(np.linalg.norm(self.measured.ravel()))
        return float(np.linalg.norm(self.left.ravel())) / size if size else 0.0

    def figures(self, views=slice(None)) -> dict:
        """Over the rays of some views that met the object: noise_ratio, the root mean square over what noise alone allows; allowed_ratio,
        over noise and allowance; beyond_percent, pixels more than three standard deviations off, 0.27 % by chance. None without rays."""
        met = self.met[views]
        if not met.any():
            return {"noise_ratio": None, "allowed_ratio": None, "beyond_percent": None}
        z = self.z[views][met]
        return {
            "noise_ratio": _root_mean_square(self.left[views][met] / np.sqrt(self.expected.noise[views][met])),
            "allowed_ratio": _root_mean_square(z),
            "beyond_percent": round(100 * float((np.abs(z) > BEYOND).mean()), 3),
        }

    def by_view(self) -> list[dict]:
        """`figures` of each view."""
        return [self.figures(view) for view in range(len(self.measured))]


def residual_of(volume: Volume, scan: Scan, device: str = "cpu", known_from: Scan | None = None) -> Residual:
    """What `volume`, in HU or 1/mm, leaves of `scan`, of which `known_from` has other views where they may not show what lies beyond.

    Raises
    ------
    InputError
        Where the two belong to different places or objects, or the volume is no CT.
    """
    if is_weighed(scan):
        raise InputError("the scan's rows are weighed for another program's filter: give the scan from before", "weighed")
    mu = checked_mu(volume, scan)
    around = beyond(mu, volume.grid, known_from or scan, device)
    inner = around.taken_out_of(scan, device)
    sharpened = best_sharpening(mu, inner, volume, device)
    A, samples = projector(scan.geometry, volume.grid, device), samples_of(mu, sharpened)
    computed = project(A, samples)
    met = scan.projections > SHADOW
    if inner.taken_out is not None:
        met &= project(A, np.ones_like(samples)) > 0
    found = Residual(A, scan.projections, inner.projections - computed, met, expected(inner, computed), samples, sharpened, around)
    if found.relative > MOST_LEFT:
        raise InputError(
            f"the volume about LPS {triple(volume.grid.centre_mm)} mm leaves {100 * found.relative:.0f} % of the measurements unexplained "
            f"(isocentre {triple(scan.geometry.isocentre_mm)}): give the volume that was made from this scan, not shifted and with the "
            "whole object in it",
            "not-this-scan",
        )
    return found


def checked_mu(volume: Volume, scan: Scan) -> np.ndarray:
    """Attenuation in 1/mm of a volume that can be one of the scan's, not negative, float32 [z, y, x].

    Raises
    ------
    InputError
        For voxels that are not finite, values that cannot be HU, and a grid that no ray meets.
    """
    values = np.asarray(volume.array, dtype=np.float32)
    check_finite(values, "volume")
    if volume.unit == "HU" and values.min() > -100 and values.max() < 100 * scan.mu_water:
        raise InputError(
            f"the volume holds values from {values.min():.4g} to {values.max():.4g}, which are no Hounsfield units: if they are "
            "attenuations in 1/mm, its header must say so (SparseCTRecon.unit = 1/mm)",
            "not-a-ct",
        )
    if not rays_meet(scan.geometry, volume.grid):
        raise InputError(
            f"no ray of the scan meets the volume about LPS {triple(volume.grid.centre_mm)} mm: the scan's isocentre is at "
            f"{triple(scan.geometry.isocentre_mm)}; give a volume and a scan of the same place",
            "grid-missed",
        )
    return hu_to_mu(values, scan.mu_water) if volume.unit == "HU" else np.maximum(values, 0)


def best_sharpening(mu: np.ndarray, scan: Scan, volume: Volume, device: str) -> float:
    """The one of `SHARPENINGS` with which `mu` leaves least of some of the views."""
    views = np.unique(np.linspace(0, scan.views - 1, _TRIED_VIEWS).astype(int))
    part = scan.subset(views)
    A = projector(part.geometry, volume.grid, device)
    met = part.projections > SHADOW
    left = [np.abs(part.projections - project(A, samples_of(mu, weight)))[met] for weight in SHARPENINGS]
    return SHARPENINGS[int(np.argmin([each.mean() if each.size else 0 for each in left]))]


def samples_of(means: np.ndarray, neighbour: float) -> np.ndarray:
    """Samples whose `voxel_means` are the given ones, nearly: the inverse by Neumann's series; not negative, [z, y, x]."""
    samples = means
    for _ in range(_NEUMANN if neighbour else 0):
        samples = samples + (means - voxel_means(samples, neighbour))
    return np.maximum(samples, 0)


def project(A: Projector, mu: np.ndarray) -> np.ndarray:
    """Line integrals (views, v, u) of `mu` in 1/mm, [z, y, x]."""
    with torch.no_grad():
        return A(A.volume(mu)).cpu().numpy()


def _root_mean_square(values: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))), 4)
