"""How well one object explains a scan: what a small, quick reconstruction leaves of the data.

Views that were placed wrongly contradict each other. A few steps of conjugate gradients on coarse voxels leave the more of the data the
wronger the places are, on any orbit: opposite views of a full circle, the overlap of a half-fan, and the data of a short scan, which no
object has when the axis is not where it is said to be.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from ..classical.cgls import begin, cgls
from ..classical.fdk import detector_coordinates
from ..classical.truncation import air_level
from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid
from ..operators import projector

ITERATIONS = 5
MARGIN = 1.15
"""Radius of what is reconstructed over that of what is seen, since objects reach beyond."""

PLANAR = 0.02
"""How far sources may lie from their common plane, over their distance from the axis."""


def check_orbit(geometry: Geometry) -> None:
    """Refuse what is no arc about the axis with the detector's rows across it.

    Raises
    ------
    InputError
    """
    if geometry.views < 8:
        raise InputError(f"{geometry.views} views do not show where the axis is: it takes 8 or more", "not-shown")
    away = (geometry.source - np.asarray(geometry.isocentre_mm))[:, 2]
    if np.abs(away).max() > PLANAR * geometry.sid_mm.min() or np.abs(geometry.u[:, 2]).max() > 0.1:
        raise InputError("the sources lie on no circle about the long axis: its calibration is not known here", "bad-geometry")
    if geometry.detector_shape[1] < 16:
        raise InputError(f"rows of {geometry.detector_shape[1]} pixels do not show an offset: it takes 16 or more", "not-shown")


def midplane(projections: np.ndarray, geometry: Geometry, voxels: int) -> tuple[np.ndarray, Geometry, Grid]:
    """The plane of the orbit as a scan of one row, (views, 1, u), and the slice of `voxels` x `voxels` that explains it."""
    row, placed = _middle_row(projections, geometry)
    spacing = 2 * object_radius_mm(row, placed) / voxels
    grid = Grid.centred((voxels, voxels, 1), (spacing,) * 3, geometry.isocentre_mm)
    return *binned(row, placed, 1, _columns(placed, spacing)), grid


def _middle_row(projections: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    nv, dv = geometry.detector_shape[0], geometry.pixel_mm[0]
    places = geometry.principal_point_mm[:, 1] / dv + (nv - 1) / 2
    if places.min() < -0.5 or places.max() > nv - 0.5:
        raise InputError("the detector does not reach the plane of the orbit: its offset along v is wrong, or not to be found", "not-shown")
    half = min(max(nv // 64, 1), 4)
    weights = np.clip(half + 0.5 - np.abs(np.arange(nv) - places[:, None]), 0, 1)
    row = np.einsum("avu,av->au", projections, weights / weights.sum(axis=1, keepdims=True))[:, None]
    placed = geometry.detector + geometry.principal_point_mm[:, 1:] * geometry.v
    return row.astype(np.float32), replace(geometry, detector=placed, detector_shape=(1, row.shape[-1]))


def around(projections: np.ndarray, geometry: Geometry, voxels: int) -> tuple[np.ndarray, Geometry, Grid]:
    """The whole scan with coarser pixels, and cubic voxels, `voxels` across, that hold what its rows see of the object."""
    radius = object_radius_mm(*_middle_row(projections, geometry))
    spacing = 2 * radius / voxels
    nv, dv = geometry.detector_shape[0], geometry.pixel_mm[0]
    highest = nv * dv / 2 + np.abs(geometry.principal_point_mm[:, 1]).max()
    half = highest * ((geometry.sid_mm + radius) / geometry.sdd_mm).max()
    grid = Grid.centred((voxels, voxels, max(1, int(np.ceil(2 * half / spacing)))), (spacing,) * 3, geometry.isocentre_mm)
    columns = _columns(geometry, spacing)
    return *binned(
        projections, geometry, max(1, round(columns * nv * dv / (geometry.detector_shape[1] * geometry.pixel_mm[1]))), columns
    ), grid


def _columns(geometry: Geometry, spacing_mm: float) -> int:
    """Columns of about half a voxel's width."""
    pitch = geometry.pixel_mm[1] * float((geometry.sid_mm / geometry.sdd_mm).mean())
    return max(1, geometry.detector_shape[1] // max(1, round(spacing_mm / 2 / pitch)))


def binned(projections: np.ndarray, geometry: Geometry, rows: int, columns: int) -> tuple[np.ndarray, Geometry]:
    """Means over pixels, so that about as many rows and columns are left as asked for; what does not fill a pixel at the end goes."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    a, b = max(1, nv // rows), max(1, nu // columns)
    kv, ku = nv // a, nu // b
    values = projections[:, : kv * a, : ku * b].reshape(-1, kv, a, ku, b).mean(axis=(2, 4), dtype=np.float32)
    centre = geometry.detector - (nv - kv * a) * dv / 2 * geometry.v - (nu - ku * b) * du / 2 * geometry.u
    return np.ascontiguousarray(values), replace(geometry, detector=centre, detector_shape=(kv, ku), pixel_mm=(dv * a, du * b))


def object_radius_mm(row: np.ndarray, geometry: Geometry) -> float:
    """Radius in mm about the axis of what casts a shadow in rows (views, 1, u) of the orbit's plane, with a margin; no more than a little
    beyond what any view sees."""
    u, _ = detector_coordinates(geometry)
    distance = geometry.sid_mm[:, None] * np.sin(np.abs(np.arctan2(u, geometry.sdd_mm[:, None])))
    shown = distance[(row > air_level(row))[:, 0]]
    return MARGIN * float(min(np.percentile(shown, 99.5) if shown.size else np.inf, distance.max()))


def unexplained(projections: np.ndarray, geometry: Geometry, grid: Grid, iterations: int = ITERATIONS) -> float:
    """|A x - y| / |y| after some steps of conjugate gradients.

    Parameters
    ----------
    projections : ndarray (views, v, u), float32
        Line integrals.
    geometry : Geometry
        Where they are thought to have been measured.
    grid : Grid
        Coarse voxels: with as many unknowns as measurements anything is explained.
    iterations : int
        Few: the first steps are those that noise has no part in.
    """
    A, y = projector(geometry, grid), torch.from_numpy(projections)
    *_, last = islice(cgls(A, begin(A, y)), iterations)
    return float(torch.linalg.vector_norm(last.r) / torch.linalg.vector_norm(y))


def moved(geometry: Geometry, u_mm: float = 0.0, v_mm: float = 0.0, tilt_rad: float = 0.0) -> Geometry:
    """The detector displaced along its rows and columns, and turned about its normal from u towards v."""
    cos, sin = np.cos(tilt_rad), np.sin(tilt_rad)
    u, v = cos * geometry.u + sin * geometry.v, cos * geometry.v - sin * geometry.u
    return replace(geometry, detector=geometry.detector + u_mm * geometry.u + v_mm * geometry.v, u=u, v=v)
