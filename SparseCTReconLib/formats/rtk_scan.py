"""RTK's geometry under any name, with the projections that lie beside it: one stack, or an image for each view.

What RTK's files have no place for is assumed as for a scan folder without scan.json, with intensities where there are whole numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..scan import Scan
from . import images, rtk
from .arrays import head_of
from .checks import HIGHEST_INTEGRAL, checked, suspect_radians
from .files import named
from .scan_folder import ASSUMED, DESCRIPTION, STACKS, read_stack

_HEAD = 4096
_MARK = b"<RTKThreeDCircularGeometry"


def recognises(path: Path) -> bool:
    """Whether `path` is such a geometry with images beside it, one of these images, or their folder; none that is a scan folder."""
    folder = path if path.is_dir() else path.parent
    if any((folder / name).exists() for name in (DESCRIPTION, *STACKS)):
        return False
    if path.is_dir() or images.kind_of(path):
        return bool(_geometries(folder)) and bool(images.images_in(folder))
    return _MARK in head_of(path, _HEAD) and bool(images.images_in(folder))


def _geometries(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.is_file() and _MARK in head_of(file, _HEAD)]


def read(path: Path) -> Scan:
    """The scan of a geometry and the images of its folder."""
    xml = _geometry_file(path)
    parameters = rtk.read_xml(xml)
    suspect_radians(np.degrees(parameters.gantry_rad), xml)
    files = _stack_files(path, xml, parameters.views)
    if images.kind_of(files[0]) != "itk":
        raise InputError(f"{files[0]} says no pixel size: convert the images to .mha, or describe the scanner in YAML", "bad-stack")
    stack, frame = read_stack(files[0])
    stack = images.read_stack(files) if len(files) > 1 else stack
    if len(stack) != parameters.views:
        hint = images.missing_among(files)
        raise InputError(
            f"{xml} has {parameters.views} poses, and there are {len(stack)} projections beside it"
            + (f": {hint} is missing" if hint else ": take out the extra ones, or add what is missing"),
            "view-count",
        )
    with named(xml):
        geometry = rtk.to_geometry(parameters, stack.shape[1:], **frame)
    provenance = {"assumed": ASSUMED}
    if stack.dtype.kind in "iu" and stack.max() > HIGHEST_INTEGRAL:
        from .intensities import scan_of

        return scan_of(np.array(stack, dtype=np.float32), geometry, xml, {"assumed": f"isocentre at LPS 0: there was no {DESCRIPTION}"})
    return checked(Scan(stack, geometry, provenance=provenance), xml)


def _geometry_file(path: Path) -> Path:
    if not path.is_dir() and _MARK in head_of(path, _HEAD):
        return path
    found = _geometries(path if path.is_dir() else path.parent)
    if len(found) > 1:
        raise InputError(
            f"{path} has {len(found)} RTK geometries beside it ({found[0].name} ...): give the one that is meant", "which-scan"
        )
    return found[0]


def _stack_files(path: Path, xml: Path, views: int) -> list[Path]:
    """The one stack beside a geometry, that of its name or the one that was given; or an image for each view."""
    files = images.images_in(xml.parent)
    own = [file for file in files if file == path] or [file for file in files if file.stem == xml.stem]
    return own[:1] if own and len(files) != views else files
