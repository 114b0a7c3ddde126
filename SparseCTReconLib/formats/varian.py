"""Scans of Varian's linacs: On-Board Imager (ProjectionInfo.xml and .hnd or .hnc) and TrueBeam, Halcyon, ProBeam (Scan.xml and .xim).

Conventions are those of RTK's readers, with which the tests compare: distances and offsets in mm of the XML, the panel's place for OBI from
the calibration and, on a half fan, its lateral position; for .xim from each file in cm. Gantry angles stand in OBI's files as IEC 61217 has
them and in .xim in Varian's scale, which runs the other way: IEC = 180 degrees - angle.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from . import rtk
from .checks import suspect_radians
from .files import named
from .intensities import scan_of
from .panel_folders import folders_with, projections_of, read_all
from .panel_images import Projection, kind_of
from .xml_files import local, read_tree

_PEEK = 1 << 16
_OBI, _XIM = {"hnd", "hnc"}, {"xim"}
_MARKS = {b"<CalibratedSAD": "obi", b"<ImagerSizeX": "xim"}
_KINDS = {"obi": _OBI, "xim": _XIM}
_ASSUMED = "head first, supine, the isocentre at LPS 0"


def recognises(path: Path) -> bool:
    """Whether `path` is the folder of such a scan, its XML, or one of its projections."""
    return _found(path) is not None


def read(path: Path) -> Scan:
    """The scan in a folder with its XML; the XML or one projection stands for it.

    Raises
    ------
    InputError
        Where files are missing, damaged or of different scans, or the XML says no distances.
    """
    xml, machine, folder = _found(path)
    said = _said(xml)
    files, kind = projections_of(folder, _KINDS[machine])
    stack, headers, kept = read_all(files, kind)
    angles = _angles([header.angle_deg for header in headers], [files[k] for k in kept])
    suspect_radians(angles, folder)
    offsets = _obi_offsets(said, xml, len(headers)) if machine == "obi" else np.array([header.offset_mm for header in headers])
    iec = angles if machine == "obi" else 180.0 - angles
    sid, sdd = (_number(said, name, xml) for name in (("CalibratedSAD", "CalibratedSID") if machine == "obi" else ("SAD", "SID")))
    geometry = _geometry(xml, sid, sdd, iec, offsets, headers[0])
    provenance = {"origin": f"Varian .{kind}", "assumed": _ASSUMED}
    return scan_of(stack, geometry, folder, provenance, [header.monitor for header in headers])


def _geometry(xml: Path, sid: float, sdd: float, iec_deg: np.ndarray, offsets_mm: np.ndarray, panel: Projection) -> Geometry:
    zero = np.zeros(len(iec_deg))
    parameters = rtk.RTKGeometry(sid, sdd, np.radians(iec_deg), offsets_mm[:, 0], offsets_mm[:, 1], zero, zero, zero, zero)
    with named(xml):
        return rtk.to_geometry(parameters, panel.shape, panel.pixel_mm)


def _found(path: Path) -> tuple[Path, str, Path] | None:
    """The XML, the machine it is of, and the folder with (or above) the projections."""
    if path.is_file():
        kind = kind_of(path)
        if kind is None:
            machine = _machine(path)
            return (path, machine, path.parent) if machine and folders_with(path.parent, _KINDS[machine]) else None
        if kind not in _OBI | _XIM:
            return None
        path = path.parent
    for above in (path, *path.absolute().parents[:2]):
        for xml in sorted(above.glob("*.[xX][mM][lL]"))[:32]:
            machine = _machine(xml)
            if machine and folders_with(path, _KINDS[machine]):
                return xml, machine, path
    return None


def _machine(xml: Path) -> str | None:
    if not xml.is_file():
        return None
    with xml.open("rb") as stream:
        head = stream.read(_PEEK).replace(b"\0", b"")  # also in UTF-16
    return next((machine for mark, machine in _MARKS.items() if mark in head), None)


def _said(xml: Path) -> dict[str, str]:
    """The texts of all elements by their names in small letters; of several the last counts, as for RTK."""
    return {local(element.tag): (element.text or "").strip() for element in read_tree(xml, "a description by Varian's software").iter()}


def _number(said: dict[str, str], name: str, xml: Path) -> float:
    text = said.get(name.lower())
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        what = "is missing" if text is None else f"is {text[:40]!r}, which is no number"
        raise InputError(f"{xml}: <{name}> {what}: export the scan again", "bad-geometry")
    return value


def _obi_offsets(said: dict[str, str], xml: Path, views: int) -> np.ndarray:
    """The panel's displacement (views, 2): as calibrated, and on a half fan also its lateral position."""
    x, y = (_number(said, f"CalibratedDetectorOffset{axis}", xml) for axis in "XY")
    if said.get("fantype", "").lower() == "halffan":
        x += _number(said, "DetectorPosLat", xml)
    return np.tile([x, y], (views, 1))


def _angles(angles: list, files: list[Path]) -> np.ndarray:
    for angle, path in zip(angles, files):
        if angle is None or not math.isfinite(angle) or abs(angle) > 1e4:
            raise InputError(f"{path}: the angle is {'missing' if angle is None else angle}: copy the file again", "bad-geometry")
    return np.array(angles, dtype=np.float64)
