"""Where a volume contradicts the measurements: the change that would explain the residual, over balls, against what is usual around it.

    minimise over e:  |W^(1/2) (A e - r)|^2 + |e|^2 / s^2,     r = y - A x,     W = 1 / (noise + allowance)

`e` is what the measurements still ask for where the volume is taken for uncertain by some HU and they for uncertain by their noise. Few
CGLS iterations find it. A volume may lack the same everywhere (a method smooths, voxels are coarse), so that its mean over a ball is
compared with the usual size of such means in the surroundings: z of 1 is usual there, z of 5 stands out.

z is given in the body, and in the air beside it, into which false detail may be painted too.

z says that the measurements do not support what is there. It does not say that the rest is true: what the views do not determine, no
measurement contradicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..classical.cgls import begin, cgls
from ..classical.data_terms import Weighted
from ..grid import Grid
from ..operators import Projector
from .trust_balls import ball_kernel, ball_means

ITERATIONS = 10
PRIOR_HU = 60.0
"""By how much the mean over a ball is taken to be uncertain before the measurements, each ball for itself."""

SURROUNDINGS = 2.5
"""Standard deviation of the surroundings' Gaussian window, in diameters of the ball."""

TWICE = 2.0
"""By how much larger what is usual is taken in the air beside the body."""

MOST_BODY, MOST_BESIDE = 10, 5
"""Places that are listed at most, in the body and beside it."""

CLIPPED = 3.0
"""Robust standard deviations that a ball counts for at most in the spread of its surroundings."""

_NORMAL_MEAN = 0.798
"""Mean of the absolute value of a standard normal number."""


def prior_weight(grid: Grid, diameter_mm: float, mu_water: float, hu: float = PRIOR_HU) -> float:
    """1 / s^2 in mm^2 of a voxel, such that the mean over a ball of independent voxels varies by `hu`."""
    voxels = np.pi / 6 * diameter_mm**3 / np.prod(grid.spacing_mm)
    return float(1 / ((hu / 1000 * mu_water) ** 2 * max(voxels, 1.0)))


def weighted(A: Projector, variance: np.ndarray) -> Weighted:
    """W^(1/2) A for the variance of each line integral (views, v, u)."""
    return Weighted(A, A.projections(1 / np.sqrt(variance)))


def refitted(A: Weighted, y: torch.Tensor, damping: float, iterations: int, told: Callable[[], None] = lambda: None) -> torch.Tensor:
    """The minimiser of |A x - y|^2 + damping |x|^2, [z, y, x], by some CGLS iterations from 0; `told` is called before each."""
    state = begin(A, y, damping=damping)
    iterates = cgls(A, state, damping)
    for _ in range(iterations):
        told()
        state = next(iterates, state)
    return state.x


@dataclass(frozen=True)
class Contradiction:
    """Maps on the volume's voxels, float32 [z, y, x], 0 where nothing was asked.

    Parameters
    ----------
    asked_hu : ndarray
        By how many HU the measurements would have the mean over a ball higher.
    z : ndarray
        The same over what is usual in the surroundings.
    """

    asked_hu: np.ndarray
    z: np.ndarray


def contradiction(
    change_hu: np.ndarray, grid: Grid, diameter_mm: float, counted: np.ndarray, beside: np.ndarray | None = None
) -> Contradiction:
    """What a change in HU, [z, y, x], amounts to over balls about `counted` voxels (bool), the body's, and those `beside` it, in the air.

    What is asked for in the air must stand out of the body's errors too, and twice as far: it is streaky, and few look for detail there.
    """
    means = ball_means(change_hu, ball_kernel(grid, diameter_mm))
    asked = np.where(counted, means, np.float32(0))
    spread = usual_size(asked, grid, diameter_mm, counted)
    if beside is not None and beside.any():
        there = np.where(beside, means, np.float32(0))
        least = float(np.median(spread[counted])) if counted.any() else 0.0
        spread += TWICE * usual_size(there, grid, diameter_mm, beside, least)
        asked += there
    z = np.divide(asked, spread, out=np.zeros_like(asked), where=spread > 0)
    return Contradiction(asked, z)


def usual_size(values: np.ndarray, grid: Grid, diameter_mm: float, counted: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Standard deviation about 0 of `values` [z, y, x] in the surroundings of each counted voxel, at least `least`, float32; outliers count
    little."""
    from scipy.ndimage import gaussian_filter

    if not counted.any():
        return np.zeros(values.shape, np.float32)
    most = CLIPPED * np.median(np.abs(values[counted])) / 0.6745
    sigma = [SURROUNDINGS * diameter_mm / spacing for spacing in grid.spacing_mm[::-1]]
    mass = gaussian_filter(counted.astype(np.float32), sigma)
    mean = gaussian_filter(np.minimum(np.abs(values), most) * counted, sigma) / np.maximum(mass, 1e-6)
    return np.where(counted, np.maximum(mean / _NORMAL_MEAN, least), 0).astype(np.float32)


def spots(found: Contradiction, grid: Grid, diameter_mm: float, least: float, beside: np.ndarray | None = None) -> list[dict]:
    """The places where |z| is highest, at least `least`, those of the body before those `beside` it, none within one and a half diameters
    of one before it: position_mm (LPS), z, asked_hu, where ("body" or "beside")."""
    size, places = np.abs(found.z), []
    beside = np.zeros(size.shape, bool) if beside is None else beside
    for where, not_there, most in (("body", beside, MOST_BODY), ("beside", ~beside, MOST_BESIDE)):
        left = np.where(not_there, 0, size)
        for _ in range(most):
            at = np.unravel_index(int(np.argmax(left)), left.shape)
            if left[at] < least:
                break
            near = _within(1.5 * diameter_mm, at, grid)
            size[near] = left[near] = 0
            places.append(_place(found, at, grid) | {"where": where})
    return places


def _within(distance_mm: float, at: tuple, grid: Grid) -> np.ndarray:
    """Voxels (bool, [z, y, x]) nearer than that to the one `at` (z, y, x)."""
    steps = zip(np.ogrid[tuple(map(slice, grid.shape))], at, grid.spacing_mm[::-1])
    z, y, x = (((n - k) * np.float32(step)).astype(np.float32) ** 2 for n, k, step in steps)
    return z + y + x < distance_mm**2


def _place(found: Contradiction, at: tuple, grid: Grid) -> dict:
    position = (grid.index_to_world @ [*at[::-1], 1.0])[:3]
    figures = {"z": round(float(found.z[at]), 2), "asked_hu": round(float(found.asked_hu[at]), 1)}
    return {"position_mm": [round(float(value), 1) for value in position], **figures}
