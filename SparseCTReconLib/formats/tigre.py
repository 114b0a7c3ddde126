"""TIGRE's geometry with its projections (github.com/CERN/TIGRE), as its users save them.

MATLAB: save('scan.mat', 'geo', 'angles', 'projections', '-v7'): a struct, radians (1 or 3 rows, a column for each view), and an array
[v, u, view]. Python: the attributes of the geometry (`vars(geo)`) as a pickled dict, JSON or .npz, and .npy arrays: angles (views,) or
(views, 3), projections [view, v, u]. All of it may be in one file or in several of a folder.

Both name the same attributes, in mm: DSD, DSO, nDetector, dDetector, offDetector, rotDetector, COR, each for all views or for each one.
MATLAB counts along u first, Python along v first. Projections are line integrals in mm x 1/mm.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from . import mat5, pickles
from .arrays import MAGIC, ZIP, head_of, read_npy, read_npz
from .checks import checked, numbers, only_cone, stack_of, suspect_degrees, whole_numbers
from .orbits import tigre_orbit
from .r2_gaussian import read_json

_HEAD = 1 << 13
_KEYS = ("DSD", "nDetector")
_MOST_FILES = 32
"""Files of a folder that are looked at."""

log = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether `path` is a file with such a geometry, or a folder with one, or an array beside one."""
    if path.is_dir():
        return any(_holds_geometry(file) for file in _files(path))
    if head_of(path, 6) == MAGIC:
        return recognises(path.parent)
    return _holds_geometry(path)


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir())[:_MOST_FILES] if file.is_file()]


def _holds_geometry(path: Path) -> bool:
    head = head_of(path, _HEAD)
    if mat5.is_mat(head):
        return True
    if head[:4] == ZIP:
        return _is_archive_of_arrays(path)
    if head.lstrip()[:1] == b"{":
        return all(f'"{key}"'.encode() in head for key in _KEYS) and b'"scanner"' not in head
    return pickles.is_pickle(head) and pickles.names(head, _KEYS) and b"numTrain" not in head


def _is_archive_of_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{key}.npy" for key in _KEYS} <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read(path: Path) -> Scan:
    """The scan in a file, or in the files of its folder where it is not all in one."""
    found: dict = {}
    values = angles = stack = None
    for file in _in_order(path):
        found = _variables(file) | found
        values, angles, stack = _parts(found)
        if values is not None and angles is not None and _fits(stack, values, path):
            break
    if values is None or angles is None or stack is None:
        missing = [
            name
            for name, part in zip(("a geometry (DSD, nDetector ...)", "angles", "projections"), (values, angles, stack))
            if part is None
        ]
        raise InputError(f"{path} holds no {' and no '.join(missing)}: put them into the file, or as files beside it", "bad-scan-file")
    only_cone(values, path)
    stack, matlab = _as_views(stack, values, path)
    geometry = _geometry(values, _angles(angles, len(stack), path), stack.shape[1:], matlab, path)
    provenance = {"origin": "TIGRE geometry and projections", "assumed": "line integrals in mm x 1/mm; TIGRE's axes are LPS"}
    return checked(Scan(stack, geometry, None, provenance=provenance), path)


def _in_order(path: Path) -> Iterator[Path]:
    """The file itself, then those beside it."""
    if not path.is_dir():
        yield path
    yield from (file for file in _files(path if path.is_dir() else path.parent) if file != path)


def _variables(path: Path) -> dict:
    """What a file holds, by name; nothing of a file of another kind."""
    head = head_of(path, _HEAD)
    if mat5.is_mat(head):
        return mat5.read(path)
    if head[:6] == MAGIC:
        return {path.stem: read_npy(path)}
    if not _holds_geometry(path):
        return {}
    if head[:4] == ZIP:
        return read_npz(path)
    values = read_json(path) if head.lstrip()[:1] == b"{" else pickles.load(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}: give a dict of the geometry's attributes, vars(geo)", "bad-scan-file")
    return values


def _parts(found: dict):
    """Attributes of the geometry, angles, and the array that fits the detector or else the largest; None for what is not there."""
    values = next((each for each in (found, *found.values()) if isinstance(each, dict) and all(key in each for key in _KEYS)), None)
    stacks = [each for each in found.values() if isinstance(each, np.ndarray) and each.ndim == 3]
    angles = found.get("angles")
    if angles is None and values is not None:
        angles = values.get("angles")
    fitting = [each for each in stacks if values is not None and _fits(each, values, "nDetector")]
    return values, angles, max(fitting or stacks, key=lambda each: each.size, default=None)


def _fits(stack: np.ndarray | None, values: dict, where) -> bool:
    count = whole_numbers(values, "nDetector", where, 2)
    return stack is not None and count in (stack.shape[1:], stack.shape[1::-1])


def _as_views(stack: np.ndarray, values: dict, where) -> tuple[np.ndarray, bool]:
    """Projections [view, v, u], and whether they and the geometry count as MATLAB does."""
    stack = stack_of(stack, where)
    count = whole_numbers(values, "nDetector", where, 2)
    column = np.shape(values["nDetector"]) in ((2, 1), (1, 2))  # only MATLAB's arrays have a second dimension
    if column and stack.shape[:2] == count[::-1]:
        return stack.transpose(2, 0, 1), True
    if not column and stack.shape[1:] == count:
        return stack, False
    raise InputError(
        f"{where}: projections of shape {stack.shape} with nDetector {count}: expected {'(v, u, views)' if column else '(views, v, u)'}; "
        "one of them is wrong",
        "bad-geometry",
    )


def _angles(value, views: int, where) -> np.ndarray:
    """Angles (views,) or (views, 3)."""
    try:
        angles = np.asarray(value, dtype=None if isinstance(value, np.ndarray) else object)
    except ValueError:  # lists of different lengths
        angles = np.empty(())
    if angles.shape[:1] != (views,) and angles.ndim == 2 and angles.shape[1] == views:
        angles = angles.T
    if angles.ndim == 2 and angles.shape[1] == 1:
        angles = angles[:, 0]
    if angles.shape not in ((views,), (views, 3)):
        raise InputError(
            f"{where} has {views} views and angles of shape {np.shape(value)}: give one angle, or three, for each view", "view-count"
        )
    size = None if angles.ndim == 1 else 3
    angles = numbers({"angles": angles.tolist()}, "angles", where, size=size, views=views).reshape(views, *angles.shape[1:])
    suspect_degrees(angles if angles.ndim == 1 else angles[:, 0], where)
    return angles


def _geometry(values: dict, angles: np.ndarray, shape: tuple[int, int], matlab: bool, where) -> Geometry:
    def attribute(key, size=None, default=None):
        value = values.get(key)
        if isinstance(value, np.ndarray):
            value = value.T if matlab else value
            value = value.reshape(-1) if size is None or value.size == size else value
            value = value[0] if size is None and value.size == 1 else value
        return numbers(values | {key: value}, key, where, size=size, default=default, views=len(angles))

    def along(key, default=None):
        """(v, u) as Python counts, which is (u, v) in MATLAB, as (u, v)."""
        pair = attribute(key, 2, default)
        return pair if matlab else pair[..., ::-1]

    pitch = along("dDetector").reshape(-1, 2)[0]
    return tigre_orbit(
        angles,
        attribute("DSO"),
        attribute("DSD"),
        shape,
        (pitch[1], pitch[0]),
        offset_mm=along("offDetector", (0, 0)),
        rotation_rad=attribute("rotDetector", 3, (0, 0, 0)),
        cor_mm=attribute("COR", None, 0),
    )
