"""R2-Gaussian's folders (github.com/Ruyi-Zha/r2_gaussian), which SAX-NeRF's data are converted to: meta_data.json and .npy files.

    scanner       mode, DSD, DSO, nDetector [v, u], sDetector [v, u], nVoxel, sVoxel, offOrigin [x, y, z], offDetector [u, v] ...
    proj_train, proj_test    [{"file_path": "proj_train/proj_train_0000.npy", "angle": radians} ...]
    vol, bbox

TIGRE made the projections, with rows turned upside down. Lengths have no unit of their own: the authors' scanners look at a cube with edges
of 2. Such a unit is taken for 100 mm and densities of 0 .. 1 per unit are shown as -1000 .. 1000 HU; a scanner that looks at more than
`LARGEST_NORMALISED` is taken to be in millimetres with line integrals as they are.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..grid import Grid
from ..scan import Scan
from ..units import MU_WATER
from .arrays import head_of, read_npy
from .checks import angles_of, checked, numbers, only_cone, stack_of, whole_numbers
from .orbits import tigre_orbit

META = "meta_data.json"
UNIT_MM = 100.0
LARGEST_NORMALISED = 8.0
"""Edge of a volume up to which its unit is no millimetre."""
SYNTHETIC_EDGE = 2.0
_LARGEST_META = 64 << 20


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with such a description, or the description itself."""
    if path.is_dir():
        return (path / META).is_file() and recognises(path / META)
    head = head_of(path, 1 << 13)
    return head.lstrip()[:1] == b"{" and b'"scanner"' in head and (b'"DSD"' in head or b'"nDetector"' in head)


def read(path: Path) -> Scan:
    """The scan of the views to learn from ("proj_train")."""
    path = path / META if path.is_dir() else path
    meta = read_json(path)
    scanner, frames = meta.get("scanner"), meta.get("proj_train")
    if not isinstance(scanner, dict) or not isinstance(frames, list) or not frames or not all(isinstance(each, dict) for each in frames):
        raise InputError(f"{path} names no scanner or no views ('proj_train'): give a folder of R2-Gaussian's", "bad-scan-file")
    only_cone(scanner, path)
    files = [inside(path.parent, frame.get("file_path"), path) for frame in frames]
    angles = angles_of([frame.get("angle", np.nan) for frame in frames], path, len(frames))
    count = whole_numbers(scanner, "nDetector", path, 2)
    edge = float(numbers(scanner, "sVoxel", path, size=3, default=(SYNTHETIC_EDGE,) * 3).max())
    unit = UNIT_MM if edge <= LARGEST_NORMALISED else 1.0
    size = numbers(scanner, "sDetector", path, size=2) if "sDetector" in scanner else numbers(scanner, "dDetector", path, size=2) * count
    dso, dsd = (float(numbers(scanner, key, path)) * unit for key in ("DSO", "DSD"))
    geometry = tigre_orbit(
        angles,
        dso,
        dsd,
        count,
        tuple(size * unit / count),
        offset_mm=numbers(scanner, "offDetector", path, size=2, default=(0, 0)) * unit,
        rows_down=True,
    )
    stack = _read_stack(files, count, path)
    assumed = f"a length of 1 is {UNIT_MM:g} mm; densities from 0 to 1 are shown as -1000 to 1000 HU" if unit != 1 else "lengths are in mm"
    provenance = {"origin": "R2-Gaussian folder", "assumed": f"{assumed}; its axes are LPS"}
    if edge == SYNTHETIC_EDGE and "nVoxel" in scanner:
        provenance["ct_grid"] = _grid(scanner, unit, path)
    return checked(Scan(stack, geometry, None, 0.5 / unit if unit != 1 else MU_WATER, provenance), path)


def read_json(path: Path) -> dict:
    """The object in a JSON file of at most 64 MiB.

    Raises
    ------
    InputError
        Where it is larger, damaged or holds anything else.
    """
    if path.stat().st_size > _LARGEST_META:
        raise InputError(f"{path} has {path.stat().st_size >> 20} MiB, more than a description of a scan has", "bad-scan-file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error)[:100]}): it is damaged or cut short; write it again", "bad-scan-file"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one JSON object", "bad-scan-file")
    return values


def inside(folder: Path, name, where) -> Path:
    """The file `name` of a folder; a name that leads out of it is refused. What the user links from there is followed."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"{where}: a file's name is {str(name)[:80]!r}: give its name beside the description", "bad-scan-file")
    root = os.path.abspath(folder)
    path = Path(os.path.normpath(os.path.join(root, name.replace("\\", "/"))))
    if not path.is_relative_to(root):
        raise InputError(f"{where}: {name[:80]!r} lies outside the folder: put the file into it", "bad-scan-file")
    return path


def _read_stack(files: list[Path], shape: tuple[int, int], where) -> np.ndarray:
    """All views [view, v, u], float32; the first is looked at before room is made for all."""
    (most, times), *_ = Counter(files).most_common(1)
    if times > 1:
        raise InputError(f"{where} names {most.name} for more than one view: name each file once", "bad-scan-file")
    stack = None
    for view, file in enumerate(files):
        image = read_npy(file)
        if image.shape != shape:
            raise InputError(f"{file} has {image.shape} pixels (v, u), the detector of {where} {shape}: one of them is wrong", "bad-stack")
        if stack is None:
            missing = [file for file in files if not file.is_file()]
            if missing:
                raise InputError(f"{missing[0]} is missing ({len(missing)} files in all): put it back", "missing-file")
            stack = np.empty((len(files), *shape), dtype=np.float32)
        stack[view] = image
    return stack_of(stack, where)


def _grid(scanner: dict, unit: float, where) -> dict:
    size = whole_numbers(scanner, "nVoxel", where, 3)
    spacing = numbers(scanner, "sVoxel", where, size=3) * unit / size
    centre = numbers(scanner, "offOrigin", where, size=3, default=(0, 0, 0)) * unit
    return Grid.centred(size, tuple(spacing), tuple(centre)).to_dict()
