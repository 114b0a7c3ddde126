"""FDK: cosine weights, ramp filter along rows, weighted back-projection (Feldkamp, Davis and Kress 1984).

    f(x) = sum_views  dbeta  redundancy  (sid / depth)^2  [ramp * (cosine p)](u(x), v(x))

Redundancy weights make every ray count once: one half on a full circle, Parker's weights on a short scan, Wang's on a full circle with
a displaced detector.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..geometry import Geometry
from ..grid import Grid
from ..operators.backprojection import weighted_backprojection
from ..operators.ramp import RampFilter


def fdk(projections: torch.Tensor, geometry: Geometry, grid: Grid, window: str = "hann", extrapolated: int = 0) -> torch.Tensor:
    """Reconstruct line integrals [view, v, u]; returns mu in 1/mm, [z, y, x].

    Parameters
    ----------
    window : str
        Apodisation of the ramp, a name of `operators.ramp.WINDOWS`.
    extrapolated : int
        Columns on each side that were not measured, see `truncation.extrapolated_rows`.
    """
    weighted, geometry = fill_displaced_side(projections * fdk_weights(geometry, extrapolated), geometry)
    magnification = float((geometry.sdd_mm / geometry.sid_mm).mean())
    filtered = RampFilter(geometry.detector_shape[1], geometry.pixel_mm[1] / magnification, window)(weighted)
    return weighted_backprojection(filtered, geometry, grid, angular_weights(geometry) * geometry.sid_mm**2)


def fdk_weights(geometry: Geometry, extrapolated: int = 0) -> torch.Tensor:
    """Cosine times redundancy weights (views, v, u): what a row is multiplied with before the ramp.

    `extrapolated` columns on each side count as the outermost measured one does.
    """
    u, v = detector_coordinates(geometry)
    sdd = geometry.sdd_mm[:, None, None]
    cosine = sdd / np.sqrt(sdd**2 + u[:, None, :] ** 2 + v[:, :, None] ** 2)
    nv, nu = geometry.detector_shape
    measured = replace(geometry, detector_shape=(nv, nu - 2 * extrapolated))
    redundancy = np.pad(redundancy_weights(measured), ((0, 0), (extrapolated,) * 2), mode="edge")
    return torch.from_numpy((cosine * redundancy[:, None, :]).astype(np.float32))


def detector_coordinates(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions in mm from the foot of the perpendicular from the source: u (views, columns) and v (views, rows)."""
    rows, columns = geometry.pixel_offsets_mm()
    centre = geometry.detector - geometry.source
    return (
        columns + np.einsum("ij,ij->i", centre, geometry.u)[:, None],
        rows + np.einsum("ij,ij->i", centre, geometry.v)[:, None],
    )


def redundancy_weights(geometry: Geometry) -> np.ndarray:
    """How much each detector column of each view counts, (views, columns), so that all measurements of a ray add up to 1."""
    u, _ = detector_coordinates(geometry)
    fan = np.arctan2(u, geometry.sdd_mm[:, None])
    if not geometry.is_full_circle():
        return parker_weights(*orbit_angles(geometry), fan * columns_follow_orbit(geometry)[:, None])
    if is_displaced(geometry):
        return 0.5 * displaced_detector_weights(fan)
    return np.full_like(fan, 0.5)


def columns_follow_orbit(geometry: Geometry) -> np.ndarray:
    """1 for views whose columns are numbered in the direction in which the source moves, -1 for the others, (views,)."""
    angles = geometry.gantry_angles_rad
    return np.where(geometry.u[:, 0] * np.cos(angles) + geometry.u[:, 1] * np.sin(angles) < 0, -1.0, 1.0)


def is_displaced(geometry: Geometry) -> bool:
    """Whether the detector reaches clearly further on one side (by a twentieth of its width), not just now and then: a C-arm wobbles."""
    u, _ = detector_coordinates(geometry)
    return bool(abs(np.mean(u[:, 0] + u[:, -1])) > 0.05 * (u[:, -1] - u[:, 0]).min())


def fill_displaced_side(projections: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, Geometry]:
    """Widen a displaced detector with zeros on its short side: the ramp spreads the measured rows to there, and voxels look there."""
    if not (is_displaced(geometry) and geometry.is_full_circle()):
        return projections, geometry
    u, _ = detector_coordinates(geometry)
    (nv, nu), du = geometry.detector_shape, geometry.pixel_mm[1]
    missing = int(np.ceil(np.abs(u[:, 0] + u[:, -1]).max() / du))
    on_low_side = np.mean(u[:, 0] + u[:, -1]) > 0
    padded = torch.nn.functional.pad(projections, (missing, 0) if on_low_side else (0, missing))
    shift = (-0.5 if on_low_side else 0.5) * missing * du
    return padded, replace(geometry, detector=geometry.detector + shift * geometry.u, detector_shape=(nv, nu + missing))


def orbit_angles(geometry: Geometry) -> tuple[np.ndarray, float]:
    """Gantry angles (views,) from the orbit's begin, which lies behind the largest gap, and the length of the arc; in radians."""
    angles = geometry.gantry_angles_rad
    ordered = np.sort(angles)
    gaps = np.diff(np.append(ordered, ordered[0] + 2 * np.pi))
    begin = ordered[(gaps.argmax() + 1) % len(ordered)]
    along = np.mod(angles - begin + 1e-9, 2 * np.pi) - 1e-9
    return along, float(2 * np.pi - gaps.max())


def angular_weights(geometry: Geometry) -> np.ndarray:
    """Share of the orbit in radians that each view stands for, (views,): half the way to its neighbours on both sides."""
    if geometry.views == 1:
        return np.ones(1)
    along, arc = orbit_angles(geometry)
    order = np.argsort(along)
    gaps = np.diff(along[order])
    closing = 2 * np.pi - arc if geometry.is_full_circle() else 0.0
    weights = np.empty(geometry.views)
    weights[order] = (np.append(gaps, closing) + np.insert(gaps, 0, closing)) / 2
    return weights


def parker_weights(along: np.ndarray, arc: float, fan: np.ndarray) -> np.ndarray:
    """Parker's weights of a short scan (Parker 1982), with the overscan of the arc at hand.

    The ray (beta, gamma) is measured again as (beta + pi - 2 gamma, -gamma).

    Parameters
    ----------
    along : array (views,)
        Gantry angle from the orbit's begin.
    arc : float
        Length of the orbit; one shorter than 180 degrees has no redundancy and gets weights of 1.
    fan : array (views, columns)
        Fan angles gamma, positive along u.
    """
    if arc < np.pi:
        return np.ones_like(fan)
    beta, overscan = along[:, None], (arc - np.pi) / 2
    rising, falling = np.maximum(overscan + fan, 1e-6), np.maximum(overscan - fan, 1e-6)
    begin = np.sin(np.pi / 4 * np.clip(beta / rising, 0, 2)) ** 2
    end = np.sin(np.pi / 4 * np.clip((arc - beta) / falling, 0, 2)) ** 2
    return np.where(beta < 2 * rising, begin, np.where(beta > np.pi + 2 * fan, end, 1.0))


def displaced_detector_weights(fan: np.ndarray) -> np.ndarray:
    """Weights (0 to 2) of a displaced detector on a full circle (Wang 2002): a smooth step over the fan that both sides see."""
    near = np.maximum(np.minimum(np.abs(fan[:, :1]), np.abs(fan[:, -1:])), 1e-9)
    side = np.sign(fan[:, -1:] + fan[:, :1])
    return 1 + np.sin(np.pi / 2 * np.clip(side * fan / near, -1, 1))
