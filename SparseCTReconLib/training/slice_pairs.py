"""Pairs to learn the repair of slices from: stacks of slices that a neural representation has made of a random scan, and the true ones.

Curated as in DiffNR: neural fields and Gaussians in equal number, fits that were broken off after a quarter to a half of their steps,
views spread evenly and unevenly, several sparsities. Beyond it each run's end is kept too, and of five runs one is ADMM-TV's, so that what
repairs slices knows what needs little repair.
"""

from __future__ import annotations

from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np

from .. import methods
from ..errors import InputError
from ..fields.anatomy import propose
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..networks.biplanar import biplanar
from ..scan import Scan
from ..simulate import simulate
from ..units import MU_WATER
from .pairs import body, grids, in_voxels, machine

SIZES = (64, 64, 64, 64, 64, 96)
VIEWS = (8, 12, 12, 16, 20, 24, 24, 36)
UNEVEN = 0.5
"""Of the scans, those whose views are drawn at random from the arc."""

UNDERFIT = (0.25, 0.5)
RUNS = {
    "naf": {"preset": "from-scratch"},
    "r2-gaussian": {"preset": "quick"},
    "admm-tv": {},
}
KINDS = ("naf", "r2-gaussian", "naf", "r2-gaussian", "admm-tv")
FIT_STEPS = (120, 300)
"""Of a field or of Gaussians, as few as bring them near their end on grids of `SIZES`."""


@dataclass(frozen=True)
class StackPair:
    """Stacks of axial slices, attenuation relative to water, float16 [z, y, x].

    Parameters
    ----------
    stacks : tuple of array
        Underfit, and at the end of its run.
    truth : array
        Means over the voxels.
    xrays : array (2, z, x)
        As `networks.biplanar.biplanar` gives them.
    organ : str
        One of `fields.anatomy.ANATOMIES`.
    """

    stacks: tuple[np.ndarray, ...]
    truth: np.ndarray
    xrays: np.ndarray
    organ: str


def write(pair: StackPair, path) -> None:
    """Write a pair as an npz file."""
    with open(path, "wb") as file:
        np.savez(file, stacks=np.stack(pair.stacks), truth=pair.truth, xrays=pair.xrays, organ=pair.organ)


def read(path) -> StackPair:
    """A pair that `write` wrote.

    Raises
    ------
    InputError
        Where it is damaged.
    """
    try:
        with np.load(path) as held:
            return StackPair(tuple(held["stacks"]), held["truth"], held["xrays"], str(held["organ"]))
    except (OSError, EOFError, TypeError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a pair ({error}): delete it, and it is made anew", "bad-checkpoint") from None


def organ_of(ct: Volume) -> str:
    """The part of the body that a CT in HU shows, as `fields.anatomy.propose` has it of a scan of it.

    That looks for lungs in the middle two thirds of what is seen: the detector is no higher than to keep air beyond a short CT's ends out.
    """
    height_mm, (pitch_mm, magnification) = float(np.ptp(ct.grid.corners_mm()[:, 2])), (6.4, 1.5)
    rows = int(np.clip(1.5 * height_mm * magnification / pitch_mm, 8, 64))
    return propose(simulate(ct, 36, detector_shape=(rows, 64), pixel_mm=(pitch_mm, pitch_mm)))


def make_stack_pair(cts: list[Volume], organs: list[str], seed: int, kind: str) -> StackPair:
    """The pair of a seed, from one of the CTs (HU).

    Parameters
    ----------
    organs : list of str
        Of each CT.
    kind : str
        Method whose reconstruction it is, one of `RUNS`.

    Raises
    ------
    InputError
        Where there is hardly any body in the CTs.
    """
    rng = np.random.default_rng(seed)
    chosen, values, field_mm = body(cts, SIZES, rng)
    fine, grid = grids(len(values), field_mm)
    scan = simulate(Volume(values, fine), geometry=_geometry(len(values), field_mm, rng), photons=10 ** rng.uniform(4.3, 5.5), seed=seed)
    stacks = tuple(stack.astype(np.float16) for stack in _stacks(scan, grid, kind, seed, rng))
    return StackPair(stacks, in_voxels(values).astype(np.float16), biplanar(scan, grid).astype(np.float16), organs[chosen])


def _geometry(fine: int, field_mm: float, rng: np.random.Generator) -> Geometry:
    """A random machine with views at even or at random angles."""
    views, made = int(rng.choice(VIEWS)), machine(fine, field_mm, rng)
    if rng.random() >= UNEVEN:
        return Geometry.circular(views, **made)
    start, arc = made.pop("start_rad"), made.pop("arc_rad")
    return Geometry.from_gantry_angles(np.sort(start + arc * rng.random(views)), **made)


def _stacks(scan: Scan, grid: Grid, kind: str, seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A run's volumes, relative to water: underfit, and its last one."""
    method, values = methods.get(kind), dict(RUNS[kind])
    if kind != "admm-tv":
        values |= {"seed": seed, "iterations": int(rng.integers(*FIT_STEPS))}
    share, found = rng.uniform(*UNDERFIT), []
    for state in method.run(scan, grid, methods.parse_options(method, values)):
        if state.step >= (share, 1.0)[len(found)] * state.steps:
            found.append(state.volume() / MU_WATER)
    return found
