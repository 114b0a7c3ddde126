"""RTK's circular geometry: nine parameters for each projection, read, written and turned into poses.

RTK's world is IEC 61217 with the isocentre at 0: X to the patient's left, Y to the head and Z up for a patient who lies head first and
supine, so LPS = (X, -Z, Y) + isocentre. With the gantry angle g, out-of-plane angle o and in-plane angle i, the gantry's frame is

    M = Ry(g) Rx(o) Rz(i),

whose columns are the directions of a detector row (u), of a column (v) and from the detector towards the source (n). In it the source lies
at (source offset x, y, SID), the point (0, 0) of a projection at (projection offset x, y, SID - SDD). A world point p is projected to
(u, v) mm by the 3x4 matrix

    [ -SDD  0    0   0   ]
    [  0   -SDD  0   0   ]   after the source is moved to (0, 0, SID) of the frame, followed by a shift of source minus projection offset.
    [  0    0    1  -SID ]

A detector that is seen from behind (u x v points away from the source) has negative SID and SDD: the matrix is the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from .files import named, written_beside
from .xml_files import read_tree

IEC_TO_LPS = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Rotation from IEC 61217 fixed coordinates to LPS for a patient lying head first and supine."""

_TAGS = {
    "sid_mm": "SourceToIsocenterDistance",
    "sdd_mm": "SourceToDetectorDistance",
    "source_x_mm": "SourceOffsetX",
    "source_y_mm": "SourceOffsetY",
    "projection_x_mm": "ProjectionOffsetX",
    "projection_y_mm": "ProjectionOffsetY",
    "in_plane_rad": "InPlaneAngle",
    "out_of_plane_rad": "OutOfPlaneAngle",
    "gantry_rad": "GantryAngle",
}
_NAMES = {tag.lower(): name for name, tag in _TAGS.items()} | {"angle": "gantry_rad"}
_ROOT = "RTKThreeDCircularGeometry"
_MATRIX_TOLERANCE = 1e-3  # RTK's own, absolute

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RTKGeometry:
    """RTK's nine parameters, each an array (views,), in mm and radians."""

    sid_mm: np.ndarray
    sdd_mm: np.ndarray
    gantry_rad: np.ndarray
    projection_x_mm: np.ndarray
    projection_y_mm: np.ndarray
    out_of_plane_rad: np.ndarray
    in_plane_rad: np.ndarray
    source_x_mm: np.ndarray
    source_y_mm: np.ndarray

    def __post_init__(self):
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(getattr(self, f.name), dtype=np.float64)) for f in fields(self)))
        for f, column in zip(fields(self), columns):
            object.__setattr__(self, f.name, column)

    @property
    def views(self) -> int:
        return len(self.sid_mm)

    @property
    def frames(self) -> np.ndarray:
        """M (views, 3, 3) in IEC: columns along a detector row, along a detector column and towards the source."""
        sin, cos = np.sin(self.gantry_rad), np.cos(self.gantry_rad)
        zero, one = np.zeros(self.views), np.ones(self.views)
        gantry = np.array([[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]])
        sin, cos = np.sin(self.out_of_plane_rad), np.cos(self.out_of_plane_rad)
        out_of_plane = np.array([[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]])
        sin, cos = np.sin(self.in_plane_rad), np.cos(self.in_plane_rad)
        in_plane = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])
        return np.einsum("ijn,jkn,kln->nil", gantry, out_of_plane, in_plane)

    def matrices(self) -> np.ndarray:
        """3x4 matrices (views, 3, 4) from IEC world coordinates in mm to homogeneous (u, v) in mm, as RTK stores them."""
        rotation = np.swapaxes(self.frames, 1, 2)
        world_to_source = np.concatenate([rotation, np.zeros((self.views, 3, 1))], axis=2)
        world_to_source[:, 0, 3] = -self.source_x_mm
        world_to_source[:, 1, 3] = -self.source_y_mm
        world_to_source[:, 2, 3] = -self.sid_mm
        intrinsic = np.zeros((self.views, 3, 3))
        intrinsic[:, 0, 0] = intrinsic[:, 1, 1] = -self.sdd_mm
        intrinsic[:, 0, 2] = self.source_x_mm - self.projection_x_mm
        intrinsic[:, 1, 2] = self.source_y_mm - self.projection_y_mm
        intrinsic[:, 2, 2] = 1
        return intrinsic @ world_to_source


def from_geometry(geometry: Geometry) -> RTKGeometry:
    """The nine parameters of each pose, for projections whose coordinates (0, 0) lie at the detector's centre.

    At an out-of-plane angle of 90 degrees gantry and in-plane angle turn about the same axis; the in-plane angle is then 0.
    """
    u = geometry.u @ IEC_TO_LPS
    n = np.cross(u, geometry.v @ IEC_TO_LPS)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    v = np.cross(n, u)
    source = (geometry.source - geometry.isocentre_mm) @ IEC_TO_LPS
    detector = (geometry.detector - geometry.isocentre_mm) @ IEC_TO_LPS
    horizontal = np.hypot(n[:, 0], n[:, 2])
    upright = horizontal > 1e-9
    angles = {
        "out_of_plane_rad": np.arctan2(-n[:, 1], horizontal),
        "gantry_rad": np.where(upright, np.arctan2(n[:, 0], n[:, 2]), np.arctan2(-u[:, 2], u[:, 0])),
        "in_plane_rad": np.where(upright, np.arctan2(u[:, 1], v[:, 1]), 0.0),
    }

    def along(axis, point):
        return np.einsum("ij,ij->i", axis, point)

    lengths = {
        "sid_mm": along(n, source),
        "sdd_mm": along(n, source - detector),
        "projection_x_mm": along(u, detector),
        "projection_y_mm": along(v, detector),
        "source_x_mm": along(u, source),
        "source_y_mm": along(v, source),
    }
    return RTKGeometry(**angles, **{name: np.round(value, 11) + 0.0 for name, value in lengths.items()})


def to_geometry(
    parameters: RTKGeometry,
    detector_shape: tuple[int, int],
    pixel_mm: tuple[float, float],
    *,
    isocentre_mm=(0.0, 0.0, 0.0),
    centre_mm=(0.0, 0.0),
    axes=((1.0, 0.0), (0.0, 1.0)),
) -> Geometry:
    """One pose for each projection, in LPS.

    Parameters
    ----------
    parameters : RTKGeometry
        The nine parameters of each projection.
    detector_shape, pixel_mm : tuple
        Rows and columns; pitch (dv, du) in mm.
    isocentre_mm : tuple of float
        LPS position of RTK's origin.
    centre_mm : tuple of float
        Coordinates (u, v) of the middle of the projection image: 0 for an image whose origin is -(n - 1) / 2 times its spacing;
        anything else is a displaced detector.
    axes : array (2, 2)
        Direction of the projection image: columns are the (u, v) directions of growing column and growing row index.
    """
    frames = IEC_TO_LPS @ parameters.frames
    depth = parameters.sid_mm - parameters.sdd_mm
    source = np.stack([parameters.source_x_mm, parameters.source_y_mm, parameters.sid_mm], axis=1)
    detector = np.stack([parameters.projection_x_mm + centre_mm[0], parameters.projection_y_mm + centre_mm[1], depth], axis=1)
    isocentre = np.asarray(isocentre_mm, dtype=float)
    u, v = np.moveaxis(frames[:, :, :2] @ np.asarray(axes, dtype=float), 2, 0)
    return Geometry(
        isocentre + np.einsum("nij,nj->ni", frames, source),
        isocentre + np.einsum("nij,nj->ni", frames, detector),
        u,
        v,
        detector_shape,
        pixel_mm,
        tuple(isocentre),
    )


def read_xml(path) -> RTKGeometry:
    """The parameters in an RTK geometry file, whose matrices are checked against them.

    A parameter that stands before the projections, or in an earlier one only, holds until another value comes; one that never comes is 0.

    Raises
    ------
    InputError
        For a file that is cut short, has no projections or an impossible one, is of another version, or whose matrices do not fit.
    """
    path = Path(path)
    root = read_tree(path, "an RTK geometry")
    with named(path):
        return _parse(root)


def _parse(root) -> RTKGeometry:
    if root.tag != _ROOT:
        raise InputError(f"holds <{root.tag}>, not <{_ROOT}>: give an RTK geometry file", "bad-geometry")
    if root.get("version") not in ("2", "3"):
        raise InputError(f"is version {root.get('version')} of RTK's geometry, known are 2 and 3: write it again", "bad-geometry")
    current = dict.fromkeys(_TAGS, 0.0)
    rows, matrices = [], []
    for element in root:
        if element.tag.lower() != "projection":
            _take(element, current, "before the projections")
            continue
        matrices.append(None)
        for child in element:
            if child.tag.lower() == "matrix":
                matrices[-1] = _numbers(child, 12, f"projection {len(rows)}").reshape(3, 4)
            else:
                _take(child, current, f"projection {len(rows)}")
        rows.append(dict(current))
    if not rows:
        raise InputError("has no projections: a scan has at least one view", "bad-geometry")
    parameters = RTKGeometry(**{name: np.array([row[name] for row in rows]) for name in _TAGS})
    _check(parameters, matrices)
    return parameters


def _take(element, current: dict, where: str):
    """Put the value of a parameter's element into `current`; elements RTK does not know either are passed over."""
    tag = element.tag.lower()
    if tag in _NAMES:
        name = _NAMES[tag]
        value = _numbers(element, 1, where)[0]
        current[name] = np.radians(value) if name.endswith("_rad") else value
    elif tag == "radiuscylindricaldetector" and _numbers(element, 1, where)[0] != 0:
        raise InputError("has a cylindrical detector: resample the projections onto a flat one", "bad-geometry")
    elif tag.startswith("collimation"):
        log.warning("the collimator's jaws in the geometry are not applied: pixels behind them count as measured")


def _numbers(element, count: int, where: str) -> np.ndarray:
    try:
        values = np.array((element.text or "").split(), dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        what = "a finite number" if count == 1 else f"{count} finite numbers"
        raise InputError(f"{where}: <{element.tag}> must hold {what}, not {(element.text or '').strip()!r}", "bad-geometry")
    return values


def _check(parameters: RTKGeometry, matrices: list):
    parallel = parameters.sdd_mm == 0
    if parallel.any():
        raise InputError(
            f"projection {np.argmax(parallel)}: the source-to-detector distance is 0 or missing (parallel beams): give that of a cone beam",
            "bad-geometry",
        )
    for view, (stored, computed) in enumerate(zip(matrices, parameters.matrices())):
        if stored is not None and not np.allclose(stored, computed, rtol=1e-9, atol=_MATRIX_TOLERANCE):
            raise InputError(
                f"projection {view}: the matrix does not fit the parameters (largest difference {np.abs(stored - computed).max():.3g}): "
                "one of them was changed by hand; write the geometry again",
                "bad-geometry",
            )


def write_xml(parameters: RTKGeometry, path) -> None:
    """Write an RTK geometry file (version 3): what is the same in all projections once, zeros not at all, the matrices with each.

    Raises
    ------
    InputError
        For a place that cannot be written.
    """
    root = ElementTree.Element(_ROOT, version="3")
    written = {name: _in_file_units(name, getattr(parameters, name)) for name in _TAGS}
    local = {name: value for name, value in written.items() if name == "gantry_rad" or (value != value[0]).any()}
    for name, value in written.items():
        if name not in local and value[0] != 0:
            ElementTree.SubElement(root, _TAGS[name]).text = repr(float(value[0]))
    for view, matrix in enumerate(parameters.matrices()):
        projection = ElementTree.SubElement(root, "Projection")
        for name, value in local.items():
            ElementTree.SubElement(projection, _TAGS[name]).text = repr(float(value[view]))
        rows = (" ".join(f"{number:.16g}" for number in row) for row in matrix)
        ElementTree.SubElement(projection, "Matrix").text = "\n      " + "\n      ".join(rows) + "\n    "
    ElementTree.indent(root)
    with written_beside(path) as temporary:
        body = ElementTree.tostring(root, encoding="unicode")
        temporary.write_text(f'<?xml version="1.0"?>\n<!DOCTYPE RTKGEOMETRY>\n{body}\n', encoding="ascii")


def _in_file_units(name: str, values: np.ndarray) -> np.ndarray:
    """Millimetres as they are; degrees without the last digits, in which a constant angle would differ from view to view."""
    if not name.endswith("_rad"):
        return values
    degrees = np.round(np.degrees(values), 12)
    return np.mod(degrees, 360.0) if name == "gantry_rad" else degrees + 0.0
