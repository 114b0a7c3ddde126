"""Pairs to learn restoration from: a piece of a CT, and what ADMM-TV makes of a random scan of it.

The CT is turned, mirrored, stretched and its tone changed, so that a few CTs show much anatomy; machine, views, dose and the strength of
total variation are drawn too. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..grid import Grid, Volume
from ..methods.admm_tv import ADMMTV
from ..simulate import simulate
from ..units import AIR_HU, MU_WATER, hu_to_mu

SIZES = (64, 96, 96, 96, 128)
VIEWS = (8, 10, 10, 10, 12, 15, 20, 20, 24)
FIELDS_MM = (180.0, 440.0)
LEAST_BODY, TRIES = 0.03, 100
TONE_HU = np.array([-1024, -900, -300, -100, 0, 80, 300, 900, 1800, 3100.0])


@dataclass(frozen=True)
class Pair:
    """Attenuation relative to water, float16 [z, y, x].

    Parameters
    ----------
    early, late : array
        ADMM-TV halfway and when it has converged.
    truth : array
        Means over the voxels.
    """

    early: np.ndarray
    late: np.ndarray
    truth: np.ndarray


def make_pair(cts: list[Volume], seed: int) -> Pair:
    """The pair of a seed, from one of the CTs (HU); a body that is cut to next to nothing is drawn anew.

    Raises
    ------
    InputError
        Where there is hardly any body in the CTs.
    """
    rng = np.random.default_rng(seed)
    return _reconstructed(*body(cts, SIZES, rng)[1:], rng, seed)


def body(
    cts: list[Volume], sizes: tuple[int, ...], rng: np.random.Generator, fields_mm: tuple[float, float] = FIELDS_MM
) -> tuple[int, np.ndarray, float]:
    """Which of the CTs a random piece is of, the piece in HU on twice as many voxels, cubed, as one of `sizes`, and its edge in mm, which
    is within `fields_mm`.

    Raises
    ------
    InputError
        Where there is hardly any body in the CTs.
    """
    for _ in range(TRIES):
        voxels, chosen = int(rng.choice(sizes)), int(rng.integers(len(cts)))
        field_mm = float(np.clip(rng.uniform(0.8, 1.3) * np.median(cts[chosen].grid.extent_mm), *fields_mm))
        values = in_cylinder(tone(piece(cts[chosen], 2 * voxels, field_mm, rng), rng))
        if (values > -500).mean() > LEAST_BODY:
            return chosen, values, field_mm
    raise InputError(f"{TRIES} random pieces of the CTs hold hardly anything but air: give CTs of bodies, in HU", "bad-volume")


def piece(ct: Volume, voxels: int, field_mm: float, rng: np.random.Generator) -> np.ndarray:
    """HU on `voxels` cubed over a field about a random place of the CT, turned, mirrored and stretched."""
    from scipy.ndimage import affine_transform

    spacing, shape = np.array(ct.grid.spacing_mm)[::-1], np.array(ct.array.shape)
    turn = _turn(0, rng.uniform(0, 2 * np.pi)) @ _turn(1, rng.normal(0, 0.15)) @ _turn(2, rng.normal(0, 0.15))
    stretch = rng.choice([-1, 1], 3) * rng.uniform(0.85, 1.2, 3)
    matrix = turn @ np.diag(stretch) * (field_mm / voxels) / spacing[:, None]
    extent = shape * spacing
    room = np.array([max(extent[0] - field_mm, 0) / 2 + 0.1 * extent[0], 0.08 * extent[1], 0.08 * extent[2]])
    centre = (shape - 1) / 2 + rng.uniform(-1, 1, 3) * room / spacing
    offset = centre - matrix @ np.full(3, (voxels - 1) / 2)
    return affine_transform(ct.array.astype(np.float32), matrix, offset, (voxels,) * 3, order=1, mode="constant", cval=AIR_HU)


def tone(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """HU with a little more or less of lung, fat, soft tissue and bone."""
    changed = TONE_HU.copy()
    changed[1:6] += rng.normal(0, 1, 5) * (30, 60, 20, 15, 15)
    changed[6:] = 80 + (changed[6:] - 80) * rng.uniform(0.75, 1.3)
    return np.interp(values, TONE_HU, np.maximum.accumulate(changed)).astype(np.float32)


def _turn(axis: int, angle: float) -> np.ndarray:
    """Rotation matrix about an axis of an array."""
    i, j = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def in_cylinder(values: np.ndarray) -> np.ndarray:
    """HU with air outside the cylinder that every view sees."""
    ticks = np.arange(len(values)) - (len(values) - 1) / 2
    return np.where(np.hypot(ticks[:, None], ticks) < 0.49 * len(values), values, np.float32(AIR_HU))


def machine(fine: int, field_mm: float, rng: np.random.Generator) -> dict:
    """A random machine that sees a field, with as many pixels along an edge as a fine piece has voxels; as `Geometry.circular` takes it."""
    sid = rng.uniform(700, 1200)
    sdd = sid * rng.uniform(1.4, 1.6)
    return {
        "sid_mm": sid,
        "sdd_mm": sdd,
        "detector_shape": (fine, fine),
        "pixel_mm": (1.07 * field_mm / fine * sdd / sid,) * 2,
        "arc_rad": 2 * np.pi if rng.random() < 0.8 else np.radians(rng.uniform(190, 240)),
        "start_rad": rng.uniform(0, 2 * np.pi),
    }


def in_voxels(values: np.ndarray) -> np.ndarray:
    """A fine piece in HU as attenuation relative to water on half as many voxels along each axis: the means over these."""
    n = len(values) // 2
    return hu_to_mu(values.reshape(n, 2, n, 2, n, 2).mean(axis=(1, 3, 5)), MU_WATER) / MU_WATER


def grids(fine: int, field_mm: float) -> tuple[Grid, Grid]:
    """The grid of a fine piece, and the one to reconstruct on."""
    return tuple(Grid.centred((n,) * 3, (field_mm / n,) * 3) for n in (fine, fine // 2))


def _reconstructed(values: np.ndarray, field_mm: float, rng: np.random.Generator, seed: int) -> Pair:
    fine, grid = grids(len(values), field_mm)
    made = machine(len(values), field_mm, rng)
    scan = simulate(Volume(values, fine), int(rng.choice(VIEWS)), photons=10 ** rng.uniform(4.3, 5.5), seed=seed, **made)
    method = ADMMTV()
    options = method.Options(strength=float(np.exp(rng.uniform(np.log(0.5), np.log(1.2)))))
    found = {}
    for state in method.run(scan, grid, options):
        if state.step in (state.steps // 2, state.steps):
            found[state.step] = (state.volume() / MU_WATER).astype(np.float16)
    early, late = (found[step] for step in sorted(found))
    return Pair(early, late, in_voxels(values).astype(np.float16))
