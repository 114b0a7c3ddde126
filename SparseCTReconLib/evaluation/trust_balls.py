"""Balls: the detail that trust is asked about, a region of interest, and what is planted to test both."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..grid import Grid

_FINER = 5
"""Points along each edge of a voxel that a ball's share in it is counted at."""


def ball(grid: Grid, centre_mm, diameter_mm: float) -> np.ndarray:
    """Share of each voxel, 0 to 1, that lies in a ball about `centre_mm` (LPS); float32 [z, y, x].

    Parameters
    ----------
    grid : Grid
    centre_mm : sequence of float
        LPS.
    diameter_mm : float
    """
    spacing = np.asarray(grid.spacing_mm)
    centre = (grid.world_to_index @ [*centre_mm, 1.0])[:3]
    reach = diameter_mm / 2 / spacing + 1
    low = np.clip(np.floor(centre - reach), 0, grid.size).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, grid.size).astype(int)
    shifts = (np.arange(_FINER) + 0.5) / _FINER - 0.5
    x, y, z = ((((np.arange(a, b)[:, None] + shifts).ravel() - c) * s) ** 2 for a, b, c, s in zip(low, high, centre, spacing))
    inside = z[:, None, None] + y[:, None] + x <= (diameter_mm / 2) ** 2
    n = high - low
    shares = np.zeros(grid.shape, np.float32)
    part = inside.reshape(n[2], _FINER, n[1], _FINER, n[0], _FINER).mean(axis=(1, 3, 5))
    shares[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = part
    return shares


def ball_kernel(grid: Grid, diameter_mm: float) -> np.ndarray:
    """Weights of the mean over a ball about a voxel, [z, y, x], odd along each axis, of sum 1."""
    half = np.ceil(diameter_mm / 2 / np.asarray(grid.spacing_mm) + 0.5).astype(int)
    shares = ball(Grid.centred(tuple(2 * half + 1), grid.spacing_mm), (0, 0, 0), diameter_mm)
    return shares / shares.sum()


def ball_means(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Mean of `values` [z, y, x] over a ball about each voxel; what lies beyond the faces counts as 0."""
    from scipy.signal import fftconvolve

    return fftconvolve(values, kernel, mode="same").astype(np.float32)


def region_of(grid: Grid, region_mm: tuple[float, float, float, float]) -> np.ndarray:
    """Voxels (bool, [z, y, x]) of a ball given by its LPS centre and its radius in mm.

    Raises
    ------
    InputError
        Where the ball holds no voxel of the grid, or the radius is not positive.
    """
    *centre, radius = region_mm
    if not (np.isfinite(region_mm).all() and radius > 0):
        raise InputError(f"a region of radius {radius:g} mm: give its centre x y z (LPS) and a positive radius in mm", "bad-region")
    inside = ball(grid, centre, 2 * radius) >= 0.5
    if not inside.any():
        low, high = grid.corners_mm().min(axis=0), grid.corners_mm().max(axis=0)
        raise InputError(
            f"the region about LPS ({_three(centre)}) mm with radius {radius:g} mm holds no voxel of the volume, which reaches from "
            f"({_three(low)}) to ({_three(high)}): give a place within it, or a larger radius",
            "region-outside",
        )
    return inside


def _three(values) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
