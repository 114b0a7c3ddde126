"""Scans of Elekta's XVI, version 5 and later: _Frames.xml and one .his file a projection.

Facts as in RTK's reader, with which the tests compare: the source is 1000 mm from the axis and 1536 mm from a panel of 409.6 mm, UCentre
and VCentre say where the axis is on the panel (so the panel is displaced by their negatives), and stored values grow with attenuation: an
intensity is 65536 minus the value, where 0 stands for a dead pixel. The four outermost rows and columns are dead.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..scan import Scan
from . import rtk
from .checks import suspect_radians
from .intensities import scan_of
from .panel_folders import holds, number_of, projections_of, read_all
from .panel_images import kind_of
from .xml_files import local, read_tree

FRAMES = "_Frames.xml"
_SID_MM, _SDD_MM = 1000.0, 1536.0
_DEAD_BORDER = 4
_HIS = {"his"}
_PEEK = 1 << 16

_NAMES = {
    "angle": ("gantryangle", "angle", "antryangle", "gantryngle"),
    "u": ("ucentre", "uentre"),
    "v": ("vcentre", "ventre"),
    "number": ("seq",),
}
"""Elements of a frame in small letters; some are damaged by software that takes initials of patients out of the file."""


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with .his files and their frames, the frames' file, or one of the .his files."""
    if path.is_file() and kind_of(path) not in _HIS and _frames_file(path.parent) != path:
        return False
    folder = path if path.is_dir() else path.parent
    return _frames_file(folder) is not None and holds(folder, _HIS)


def read(path: Path) -> Scan:
    """The scan in a folder; its _Frames.xml or one projection stands for it.

    Raises
    ------
    InputError
        Where files are missing, damaged or of different scans, or the frames do not belong to the files.
    """
    folder = path if path.is_dir() else path.parent
    xml = _frames_file(folder)
    frames = _frames(xml)
    files, kind = projections_of(folder, _HIS)
    frames = _belonging(frames, files, xml)
    suspect_radians(frames["angle"], xml)
    stack, headers, _ = read_all(files, kind)
    inner = slice(_DEAD_BORDER, -_DEAD_BORDER)
    if min(stack.shape[1:]) <= 2 * _DEAD_BORDER:
        raise InputError(f"{files[0]} has {stack.shape[2]} x {stack.shape[1]} pixels: it is no image of XVI's panel", "bad-stack")
    stack = np.ascontiguousarray(stack[:, inner, inner])
    np.subtract(65536.0, stack, out=stack, where=stack > 0)
    zero = np.zeros(len(files))
    parameters = rtk.RTKGeometry(_SID_MM, _SDD_MM, np.radians(frames["angle"]), -frames["u"], -frames["v"], zero, zero, zero, zero)
    geometry = rtk.to_geometry(parameters, stack.shape[1:], headers[0].pixel_mm)
    assumed = f"source {_SID_MM:g} mm from the axis and {_SDD_MM:g} mm from the panel; head first, supine, the isocentre at LPS 0"
    return scan_of(stack, geometry, folder, {"origin": "Elekta .his", "assumed": assumed})


def _frames_file(folder: Path) -> Path | None:
    for path in (folder / FRAMES, *sorted(folder.glob("*.[xX][mM][lL]"))[:32]):
        if path.is_file():
            with path.open("rb") as stream:
                head = stream.read(_PEEK).replace(b"\0", b"").lower()
            if (b"<frame>" in head and b"<ucentre>" in head) or b"<projectionset" in head:
                return path
    return None


def _frames(xml: Path) -> dict[str, np.ndarray]:
    """Angle in degrees, u and v in mm, and number of each frame."""
    frames = [element for element in read_tree(xml, "a list of frames by XVI").iter() if local(element.tag) == "frame"]
    if not frames:
        raise InputError(f"{xml} has no frames: export the scan again", "bad-geometry")
    rows = []
    for k, frame in enumerate(frames):
        texts = {local(child.tag): (child.text or "").strip() for child in frame}
        rows.append(
            [_number(texts, names, f"{xml}: frame {k}", default=k + 1 if key == "number" else None) for key, names in _NAMES.items()]
        )
    return dict(zip(_NAMES, np.array(rows, dtype=np.float64).T))


def _number(texts: dict[str, str], names: tuple[str, ...], where: str, default=None) -> float:
    text = next((texts[name] for name in names if name in texts), default)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and abs(value) < 1e6):
        what = "is missing" if text is None else f"is {str(text)[:40]!r}, which is no such number"
        raise InputError(f"{where}: <{names[0]}> {what}: export the scan again", "bad-geometry")
    return value


def _belonging(frames: dict[str, np.ndarray], files: list[Path], xml: Path) -> dict[str, np.ndarray]:
    """The frames of the files: all where there are as many, else those whose numbers the files' names begin with."""
    if len(files) == len(frames["angle"]):
        return frames
    row = {int(number): k for k, number in enumerate(frames["number"])}
    picked = [row.get(number_of(path)) for path in files]
    if None in picked or len(set(picked)) < len(picked):
        raise InputError(
            f"{xml.parent} has {len(files)} projections, {xml.name} has {len(row)} frames: add the missing files, or export the scan again",
            "view-count",
        )
    return {key: values[picked] for key, values in frames.items()}
