"""CTs that a training is kept from, and how good its weights are on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest_name
from ..evaluation.metrics import conventions, psnr, ssim
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..scan import Scan
from ..simulate import simulate
from ..units import MU_WATER, mu_to_hu
from .pairs import grids, in_cylinder, in_voxels
from .prepared import SUFFIXES, PreparedCT, candidates

SID_MM, SDD_MM, MARGIN = 1000.0, 1500.0, 1.07
PHOTONS = 1e5


def parted(paths: Sequence[Path], held_out: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The files and folders that may be CTs: those to learn from, and those that are kept out.

    Parameters
    ----------
    paths : sequence of Path
        As `prepared.prepare` takes them.
    held_out : sequence of str
        Names without endings, small or capital letters alike; * stands for anything.

    Raises
    ------
    InputError
        Where one of the names is no CT's, so that nothing that was to be kept out is learnt from for a slip of the pen.
    """
    every = list(candidates(paths))
    names = {path: without_ending(path) for path in every}
    out = set()
    for wanted in held_out:
        found = {path for path, name in names.items() if fnmatchcase(name.lower(), wanted.lower())}
        if not found:
            raise InputError(f"data.held_out: there is no CT {wanted!r}{nearest_name(wanted, names.values())}", "unknown-ct")
        out |= found
    return [path for path in every if path not in out], [path for path in every if path in out]


def without_ending(path: Path) -> str:
    """The name of a CT; what is behind other dots belongs to it, as in LUNA16's names, which are UIDs."""
    ending = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def figures(cts: Sequence[PreparedCT], views: Sequence[int], reconstruct: Callable[[Scan, Grid], np.ndarray]) -> dict:
    """How good reconstructions are, as JSON values: the means over CTs for each number of views.

    The views are over 180 degrees; the CT is twice as fine as what is reconstructed.

    Parameters
    ----------
    cts : sequence of PreparedCT
    views : sequence of int
    reconstruct : callable
        Gives attenuation in 1/mm [z, y, x] for a scan and a grid.
    """
    found = [_of(cts, count, reconstruct) for count in views]
    return {"cts": [ct.source for ct in cts], "photons": PHOTONS, "arc_deg": 180, "figures": found, "conventions": said()}


def said() -> list[str]:
    """The conventions of the figures."""
    every = conventions()
    return [every["psnr_db"], every["ssim"]]


def _of(cts: Sequence[PreparedCT], views: int, reconstruct) -> dict:
    rows = []
    for number, ct in enumerate(cts):
        scan, grid, truth_hu = scanned(ct, views, number)
        made_hu = mu_to_hu(reconstruct(scan, grid), scan.mu_water)
        rows.append((psnr(made_hu, truth_hu), ssim(made_hu, truth_hu)))
    decibels, similarity = np.mean(rows, axis=0)
    return {"views": views, "voxels": grid.size[0], "psnr_db": round(float(decibels), 2), "ssim": round(float(similarity), 4)}


def scanned(ct: PreparedCT, views: int, seed: int) -> tuple[Scan, Grid, np.ndarray]:
    """A scan of a CT, the grid to reconstruct on, and the truth there in HU [z, y, x]."""
    values = ct.volume().array
    values = in_cylinder(values[tuple(slice(n - n % 2) for n in values.shape)])
    fine, grid = grids(len(values), ct.recipe.spacing_mm * len(values))
    pixel = MARGIN * ct.recipe.spacing_mm * SDD_MM / SID_MM
    geometry = Geometry.circular(
        views, sid_mm=SID_MM, sdd_mm=SDD_MM, detector_shape=(len(values),) * 2, pixel_mm=(pixel, pixel), arc_rad=np.pi
    )
    scan = simulate(Volume(values, fine), geometry=geometry, photons=PHOTONS, seed=seed)
    return scan, grid, mu_to_hu(in_voxels(values) * MU_WATER)
