"""NAF's and SAX-NeRF's pickles (github.com/Ruyi-Zha/naf_cbct): a dict with a scanner, a volume, and projections to learn from.

    DSD, DSO, nDetector, dDetector, nVoxel, dVoxel, offOrigin, offDetector    numbers and millimetres
    mode, normalize, convert, numTrain, numVal ...
    image          [x, y, z], brought to 0 .. 1 by its own minimum and maximum
    train, val     {"angles": radians, "projections": [view, v, u]}

Geometry is in millimetres, line integrals are in metres: a density of 1 is an attenuation of .001 per mm. TIGRE made the projections,
with nDetector and dDetector as [v, u], offDetector as [u, v], and rows turned upside down; NAF reads nDetector as [u, v], so both are
understood where the stack tells. Since a volume's own range was taken away, Hounsfield units are lost: the attenuation of water is set such
that 0 .. 1 become -1000 .. 1000 HU, over which this project's figures are computed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..grid import Grid
from ..scan import Scan
from . import pickles
from .arrays import head_of
from .checks import angles_of, checked, numbers, only_cone, stack_of, whole_numbers
from .orbits import tigre_orbit

HALF_DENSITY = 0.0005
"""1/mm, half of NAF's largest density."""
WATER_PER_CM_AS_PER_M = 0.206e-3
"""1/mm, what water has where an image in 1/cm was projected in metres."""

log = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether `path` is a pickle that names a scanner and how many views there are to learn from."""
    head = head_of(path, 1 << 14)
    return pickles.is_pickle(head) and pickles.names(head, ("DSD", "nDetector", "numTrain"))


def read(path: Path) -> Scan:
    """The scan of the views to learn from ("train"); those to validate with are left aside."""
    data = pickles.load(path)
    train = data.get("train") if isinstance(data, dict) else None
    if not isinstance(train, dict):
        raise InputError(f"{path} has no views to learn from ('train'): give a pickle of NAF's", "bad-scan-file")
    only_cone(data, path)
    stack = stack_of(train.get("projections"), path)
    angles = angles_of(train.get("angles"), path, len(stack))
    scanner = {key: numbers(data, key, path) for key in ("DSO", "DSD")}
    shape, pixel = detector_of(data, stack.shape[1:], path)
    offset = numbers(data, "offDetector", path, size=2, default=(0, 0))
    geometry = tigre_orbit(angles, scanner["DSO"], scanner["DSD"], shape, pixel, offset_mm=offset, rows_down=True)
    normalised = bool(data.get("normalize", True))
    provenance = {
        "origin": "NAF pickle",
        "assumed": "densities from 0 to 1 are shown as -1000 to 1000 HU, since each volume was normalised; NAF's axes are LPS"
        if normalised
        else "densities are in 1/cm and were projected in metres; NAF's axes are LPS",
    }
    if "nVoxel" in data and "dVoxel" in data:
        provenance["ct_grid"] = _grid(data, path)
    return checked(Scan(stack, geometry, None, HALF_DENSITY if normalised else WATER_PER_CM_AS_PER_M, provenance), path)


def detector_of(data: dict, shape: tuple[int, int], where) -> tuple[tuple[int, int], tuple[float, float]]:
    """Rows and columns, and (dv, du), in whichever order the scanner's numbers fit projections of `shape`."""
    count = whole_numbers(data, "nDetector", where, 2)
    pitch = numbers(data, "dDetector", where, size=2)
    if count == shape:
        return shape, (pitch[0], pitch[1])
    if count[::-1] == shape:
        return shape, (pitch[1], pitch[0])
    raise InputError(f"{where}: projections of {shape} pixels (v, u) with a detector of {count}: one of them is wrong", "bad-geometry")


def _grid(data: dict, where) -> dict:
    size = whole_numbers(data, "nVoxel", where, 3)
    spacing = numbers(data, "dVoxel", where, size=3)
    centre = numbers(data, "offOrigin", where, size=3, default=(0, 0, 0))
    return Grid.centred(size, tuple(np.abs(spacing)), tuple(centre)).to_dict()
