"""Rows of a detector that the object reaches beyond: how far it does, and what the rows would have gone on with.

A row that ends within the object goes on as that of a cylinder of water does (Hsieh et al. 2004, Med. Phys. 31(9)), whose chord and slope
at the edge are those that were measured:

    p(s) = 2 mu sqrt(R^2 - s^2)      s0 = -p0 p0' / (4 mu^2)      R^2 = s0^2 + (p0 / (2 mu))^2

s in mm at the isocentre from the cylinder's axis, p' along s outwards. A row that rises outwards is taken to be level there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..geometry import Geometry
from ..grid import Grid
from ..scan import Scan
from .fdk import detector_coordinates, fdk, is_displaced

AIR = 0.03
"""Share of a scan's largest line integrals (their 99th percentile) below which a pixel shows air."""

FITTED = 1 / 16
"""Share of a row's columns, at least three, from which its value and slope at the edge are taken."""


CLEARLY = 0.02
"""Mean reach beyond the rows' ends, in the length of a row, from which on a scan is called truncated: a hand at the edge is not enough."""


def air_level(projections: np.ndarray) -> float:
    """Line integral below which a pixel of these projections shows air: that of two or three voxels at usual sizes."""
    dense = projections if projections.size < 1_000_000 else projections.ravel()[:: projections.size // 1_000_000]
    return AIR * max(0.0, float(np.percentile(dense, 99)))


def reach_mm(projections: np.ndarray, geometry: Geometry, mu_water: float) -> np.ndarray:
    """How far the object reaches beyond the first and the last column, in mm on the detector.

    Parameters
    ----------
    projections : ndarray (views, v, u)
        Line integrals.
    geometry : Geometry
    mu_water : float
        1/mm.

    Returns
    -------
    ndarray (views, v, 2)
        0 where the row ends in air.
    """
    sides = [_cylinder(*_edge(rows, geometry), mu_water)[1] for rows in (projections[..., ::-1], projections)]
    return np.stack(sides, axis=-1) * _magnification(geometry)


def extrapolated_rows(projections: torch.Tensor, geometry: Geometry, mu_water: float) -> tuple[torch.Tensor, Geometry, int]:
    """Rows continued to where the object ends, on a detector that is as much wider on both sides.

    Parameters
    ----------
    projections : tensor (views, v, u)
        Line integrals.
    geometry : Geometry
    mu_water : float
        1/mm.

    Returns
    -------
    projections : tensor (views, v, u + 2 n)
    geometry : Geometry
        With the wider detector.
    n : int
        Columns that were added on each side, no more than there were; 0 where all rows end in air.
    """
    rows = projections.numpy()
    (nv, nu), du = geometry.detector_shape, geometry.pixel_mm[1]
    reach = reach_mm(rows, geometry, mu_water).max(axis=(0, 1)) * _counted_sides(geometry)
    added = min(nu, int(np.ceil(reach.max() / du)))
    if added == 0:
        return projections, geometry, 0
    low, high = (_continued(rows[..., ::step], geometry, mu_water, added) for step in (-1, 1))
    wide = np.concatenate([low[..., ::-1], rows, high], axis=-1)
    return torch.from_numpy(wide), replace(geometry, detector_shape=(nv, nu + 2 * added)), added


def is_truncated(scan: Scan) -> bool:
    """Whether rows clearly end within the object, on sides that no other view measures."""
    reach = reach_mm(scan.projections, scan.geometry, scan.mu_water)[..., _counted_sides(scan.geometry)]
    return bool(reach.mean() > CLEARLY * scan.geometry.detector_shape[1] * scan.geometry.pixel_mm[1])


def fdk_of(scan: Scan, grid: Grid, window: str = "hann") -> torch.Tensor:
    """FDK of a scan, [z, y, x] in 1/mm, whose rows may end within the object."""
    projections, geometry, added = extrapolated_rows(torch.from_numpy(scan.projections), scan.geometry, scan.mu_water)
    return fdk(projections, geometry, grid, window, added)


def _counted_sides(geometry: Geometry) -> np.ndarray:
    """Which of the two sides a row may have to go on at: a displaced detector's opposite views measure what is beyond its short side."""
    if not (is_displaced(geometry) and geometry.is_full_circle()):
        return np.array([True, True])
    u, _ = detector_coordinates(geometry)
    return np.array([False, True] if np.mean(u[:, 0] + u[:, -1]) > 0 else [True, False])


def _magnification(geometry: Geometry) -> float:
    return float((geometry.sdd_mm / geometry.sid_mm).mean())


def _edge(rows: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Value and outward slope per mm at the isocentre at the last column, (views, v); 0 where the rows end in air.

    Neighbouring rows are averaged: an edge's slope is noisier than anything else that is taken from a row.
    """
    fitted = max(3, round(FITTED * rows.shape[-1]))
    ends = rows[..., -fitted:].astype(np.float64)
    ends = sum(np.pad(ends, ((0, 0), (1, 1), (0, 0)), mode="edge")[:, k : k + rows.shape[1]] for k in range(3)) / 3
    places = np.arange(ends.shape[-1]) - (ends.shape[-1] - 1) / 2
    slope = ends @ places / (places @ places)
    value = ends.mean(axis=-1) + slope * places[-1]
    inside = ends.mean(axis=-1) > air_level(rows)
    pitch = geometry.pixel_mm[1] / _magnification(geometry)
    return np.where(inside, np.maximum(value, 0), 0), np.where(inside, np.minimum(slope, 0) / pitch, 0)


def _cylinder(value: np.ndarray, slope: np.ndarray, mu: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the edge from the axis of the cylinder of water, and from there to its end; mm at the isocentre."""
    s0 = -value * slope / (4 * mu**2)
    return s0, np.sqrt(s0**2 + (value / (2 * mu)) ** 2) - s0


def _continued(rows: np.ndarray, geometry: Geometry, mu: float, columns: int) -> np.ndarray:
    """What comes behind the last column, (views, v, columns), float32."""
    value, slope = _edge(rows, geometry)
    s0, reach = _cylinder(value, slope, mu)
    beyond = (np.arange(columns) + 1) * geometry.pixel_mm[1] / _magnification(geometry)
    out = np.empty((*value.shape, columns), np.float32)
    for view, start, end in zip(out, s0[..., None], (s0 + reach)[..., None]):
        view[...] = 2 * mu * np.sqrt(np.maximum(end**2 - (start + beyond) ** 2, 0))
    return out
