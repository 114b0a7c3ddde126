"""Cone-beam geometry: one pose per view.

A view is a point source and a flat detector: the centre of the detector and the unit vectors of its columns' numbering (u, along a
row) and of its rows' numbering (v, along a column), all in patient LPS and mm. Circular orbits are constructors, nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError, nearest_name
from .grid import Grid

_POSES = {"source": "source's position", "detector": "detector's position", "u": "row's direction", "v": "column's direction"}


@dataclass(frozen=True, eq=False)
class Geometry:
    """Poses of source and detector.

    Parameters
    ----------
    source, detector : array (views, 3)
        LPS positions in mm of the source and of the detector's centre.
    u, v : array (views, 3)
        Unit vectors along a detector row (column index grows) and along a column (row index grows), orthogonal.
    detector_shape : tuple of int
        Rows and columns, (nv, nu), the order of a projection array.
    pixel_mm : tuple of float
        Pixel pitch (dv, du) in mm.
    isocentre_mm : tuple of float
        LPS position of the isocentre.
    """

    source: np.ndarray
    detector: np.ndarray
    u: np.ndarray
    v: np.ndarray
    detector_shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self):
        if len(self.isocentre_mm) != 3:
            raise InputError(f"isocentre {tuple(self.isocentre_mm)} mm: give three numbers (x y z)", "bad-geometry")
        for name in _POSES:
            pose = np.atleast_2d(np.array(getattr(self, name), dtype=np.float64))
            if pose.ndim != 2 or pose.shape[1] != 3:
                raise InputError(f"geometry: {name} must be of shape (views, 3), not {pose.shape}", "bad-geometry")
            bad = ~np.isfinite(pose).all(axis=1)
            if bad.any():
                raise InputError(f"view {np.argmax(bad)}: the {_POSES[name]} is no finite number: correct the geometry", "bad-geometry")
            pose.setflags(write=False)
            object.__setattr__(self, name, pose)
        object.__setattr__(self, "detector_shape", tuple(int(n) for n in self.detector_shape))
        object.__setattr__(self, "pixel_mm", tuple(float(p) for p in self.pixel_mm))
        object.__setattr__(self, "isocentre_mm", tuple(float(c) for c in self.isocentre_mm))
        self._check()

    def _check(self):
        if not len(self.source) == len(self.detector) == len(self.u) == len(self.v) >= 1:
            raise InputError("geometry: source, detector, u and v need one row for each view, and at least one view", "bad-geometry")
        two = len(self.detector_shape) == len(self.pixel_mm) == 2
        if not two or min(self.detector_shape) < 1 or not all(0 < pitch < np.inf for pitch in self.pixel_mm):
            raise InputError(
                f"detector of {self.detector_shape} pixels of {self.pixel_mm} mm: the two numbers of pixels and both pitches (v u) "
                "must be positive",
                "bad-geometry",
            )
        skewed = np.abs(np.einsum("ij,ij->i", self.u, self.v)) > 1e-4
        skewed |= np.abs(np.linalg.norm(self.u, axis=1) - 1) + np.abs(np.linalg.norm(self.v, axis=1) - 1) > 1e-4
        if skewed.any():
            raise InputError(f"view {np.argmax(skewed)}: detector axes u and v must be orthogonal unit vectors", "bad-geometry")
        sid, sdd = self.sid_mm, self.sdd_mm
        wrong = ~((sdd > sid) & (sid > 0))
        if wrong.any():
            view = int(np.argmax(wrong))
            raise InputError(
                f"view {view}: source-to-detector distance {sdd[view]:g} mm, source-to-isocentre distance {sid[view]:g} mm: "
                "the detector must lie behind the isocentre (SDD > SID > 0)",
                "bad-geometry",
            )

    @classmethod
    def circular(
        cls,
        views: int,
        sid_mm: float = 1000.0,
        sdd_mm: float = 1500.0,
        detector_shape: tuple[int, int] = (256, 256),
        pixel_mm: tuple[float, float] = (1.6, 1.6),
        *,
        arc_rad: float = 2 * np.pi,
        start_rad: float = 0.0,
        offset_mm: tuple[float, float] = (0.0, 0.0),
        isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """A circular orbit about the patient's long axis (LPS z).

        At gantry angle 0 the source is anterior, at 90 degrees on the patient's left (IEC 61217, head first, supine). A full circle
        leaves out its end, which is its start; a shorter arc has a view at both ends.

        Parameters
        ----------
        views : int
            Number of views.
        sid_mm, sdd_mm : float
            Distance from the source to the isocentre and to the detector.
        detector_shape, pixel_mm : tuple
            Rows and columns; pitch (dv, du) in mm.
        arc_rad, start_rad : float
            Length of the orbit and first gantry angle.
        offset_mm : tuple of float
            Displacement of the detector along (u, v); a half-fan scan has one in u.
        isocentre_mm : tuple of float
            LPS position of the isocentre.
        """
        if views < 1:
            raise InputError(f"{views} views: a scan has at least one", "bad-geometry")
        if not 0 < arc_rad <= 2 * np.pi + 1e-9:
            raise InputError(f"an arc of {np.degrees(arc_rad):g} degrees: give more than 0 and at most 360", "bad-geometry")
        if not sdd_mm > sid_mm > 0:
            raise InputError(
                f"SDD {sdd_mm:g} mm, SID {sid_mm:g} mm: the detector must lie behind the isocentre (SDD > SID > 0)", "bad-geometry"
            )
        full = arc_rad > 2 * np.pi - 1e-6
        angles = start_rad + np.linspace(0, arc_rad, views, endpoint=not full)
        return cls.from_gantry_angles(angles, sid_mm, sdd_mm, detector_shape, pixel_mm, offset_mm=offset_mm, isocentre_mm=isocentre_mm)

    @classmethod
    def from_gantry_angles(
        cls, angles_rad, sid_mm, sdd_mm, detector_shape, pixel_mm, *, offset_mm=(0.0, 0.0), isocentre_mm=(0.0, 0.0, 0.0)
    ) -> Geometry:
        """A circular orbit through the given gantry angles, in any order; see `circular`."""
        sin, cos = np.sin(angles_rad), np.cos(angles_rad)
        zero, one = np.zeros_like(sin), np.ones_like(sin)
        towards_source = np.stack([sin, -cos, zero], axis=1)
        u, v = np.stack([cos, sin, zero], axis=1), np.stack([zero, zero, one], axis=1)
        centre = np.asarray(isocentre_mm, dtype=float)
        detector = centre - (sdd_mm - sid_mm) * towards_source + offset_mm[0] * u + offset_mm[1] * v
        return cls(centre + sid_mm * towards_source, detector, u, v, detector_shape, pixel_mm, isocentre_mm)

    @classmethod
    def preset(cls, name: str, views: int, **changes) -> Geometry:
        """A circular orbit of a usual machine; `changes` override arguments of `circular`. Names are in `PRESETS`."""
        if name not in PRESETS:
            raise InputError(f"no preset {name!r}{nearest_name(name, PRESETS)}", "unknown-preset")
        return cls.circular(views, **{**PRESETS[name], **changes})

    @property
    def views(self) -> int:
        return len(self.source)

    @property
    def normal(self) -> np.ndarray:
        """Unit vectors (views, 3) of the detector's plane, pointing away from the source."""
        normal = np.cross(self.u, self.v)
        away = np.einsum("ij,ij->i", self.detector - self.source, normal)
        return normal * np.where(away < 0, -1.0, 1.0)[:, None]

    @property
    def sdd_mm(self) -> np.ndarray:
        """Distance (views,) from the source to the detector's plane."""
        return np.einsum("ij,ij->i", self.detector - self.source, self.normal)

    @property
    def sid_mm(self) -> np.ndarray:
        """Distance (views,) from the source to the isocentre along the detector's normal."""
        return np.einsum("ij,ij->i", np.asarray(self.isocentre_mm) - self.source, self.normal)

    @property
    def gantry_angles_rad(self) -> np.ndarray:
        """Angle (views,) of the source about LPS z: 0 anterior, growing towards the patient's left, in [0, 2 pi)."""
        x, y, _ = (self.source - np.asarray(self.isocentre_mm)).T
        return np.mod(np.arctan2(x, -y), 2 * np.pi)

    @property
    def principal_point_mm(self) -> np.ndarray:
        """Where the ray through the isocentre meets the detector: (views, 2), (u, v) in mm from the detector's centre."""
        ray = np.asarray(self.isocentre_mm) - self.source
        hit = self.source + ray * (self.sdd_mm / self.sid_mm)[:, None] - self.detector
        return np.stack([np.einsum("ij,ij->i", hit, self.u), np.einsum("ij,ij->i", hit, self.v)], axis=1)

    def pixel_offsets_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pixel centres from the detector's centre: along v (rows), along u (columns)."""
        (nv, nu), (dv, du) = self.detector_shape, self.pixel_mm
        return (np.arange(nv) - (nv - 1) / 2) * dv, (np.arange(nu) - (nu - 1) / 2) * du

    def field_of_view(self) -> tuple[float, float]:
        """Radius in mm of the disc about the isocentre that every view sees, half height in mm of its axis that every view sees.

        On a full circle, half of the disc in each view is enough: the opposite view sees the other half. Either is 0 where the detector
        misses the isocentre.
        """
        (nv, nu), (dv, du) = self.detector_shape, self.pixel_mm
        point = self.principal_point_mm
        centre = np.asarray(self.isocentre_mm) - self.source
        distances = []
        for edge in (-nu * du / 2, nu * du / 2):
            ray = self.detector + edge * self.u + point[:, 1:] * self.v - self.source
            distance = np.linalg.norm(np.cross(centre, ray), axis=1) / np.linalg.norm(ray, axis=1)
            distances.append(np.where(edge * (edge - point[:, 0]) > 0, distance, 0.0))
        near, far = np.minimum(*distances), np.maximum(*distances)
        radius = np.where(near > 0, far, 0.0) if self.is_full_circle() else near
        half_height = (nv * dv / 2 - np.abs(point[:, 1])) * self.sid_mm / self.sdd_mm
        return float(radius.min()), max(0.0, float(half_height.min()))

    def shadows(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where points (n, 3) lie as each view sees them: distance from the source along the detector's normal, and u and v of their
        shadows from the detector's centre, mm; each (views, n). Points beside the source have a distance of 0 and no shadow (NaN)."""
        ray = np.asarray(points_mm)[None] - self.source[:, None]
        depth = np.einsum("vcx,vx->vc", ray, self.normal)
        scale = self.sdd_mm[:, None] / np.where(depth == 0, np.nan, depth)
        hit = ray * scale[..., None] + (self.source - self.detector)[:, None]
        u, v = (np.einsum("vcx,vx->vc", hit, axis) for axis in (self.u, self.v))
        return depth, u, v

    def is_full_circle(self) -> bool:
        """Whether the largest gap between neighbouring gantry angles is no wider than twice the mean gap of a full circle."""
        angles = np.sort(self.gantry_angles_rad)
        gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
        return bool(self.views > 2 and gaps.max() <= 2 * (2 * np.pi / self.views) + 1e-6)

    def __getitem__(self, views) -> Geometry:
        """The geometry of some of the views: an index, a slice, indices or a boolean mask."""
        pick = [np.atleast_2d(pose[views]) for pose in (self.source, self.detector, self.u, self.v)]
        return Geometry(*pick, self.detector_shape, self.pixel_mm, self.isocentre_mm)


PRESETS: dict[str, dict] = {
    "linac": {"sid_mm": 1000.0, "sdd_mm": 1500.0, "detector_shape": (256, 256), "pixel_mm": (1.6, 1.6)},
    "linac-half-fan": {
        "sid_mm": 1000.0,
        "sdd_mm": 1500.0,
        "detector_shape": (192, 256),
        "pixel_mm": (1.552, 1.552),
        "offset_mm": (148.0, 0.0),
    },
    "c-arm": {
        "sid_mm": 785.0,
        "sdd_mm": 1200.0,
        "detector_shape": (248, 310),
        "pixel_mm": (1.232, 1.232),
        "arc_rad": np.radians(200.0),
    },
    "dental": {"sid_mm": 470.0, "sdd_mm": 700.0, "detector_shape": (256, 320), "pixel_mm": (0.8, 0.8)},
    "lab": {"sid_mm": 200.0, "sdd_mm": 400.0, "detector_shape": (256, 256), "pixel_mm": (0.4, 0.4)},
}
"""Arguments of `Geometry.circular` for usual machines: the linac's imager with and without a half-fan offset, a C-arm on a short scan
(180 degrees and the fan), a dental scanner and a laboratory scanner."""


def default_grid(geometry: Geometry, voxels: int = 128) -> Grid:
    """The cubic-voxel grid about the isocentre that holds the field of view, with `voxels` across its diameter."""
    if voxels < 1:
        raise InputError(f"a grid of {voxels} voxels across: give at least 1", "bad-grid")
    radius, half_height = geometry.field_of_view()
    if radius <= 0 or half_height <= 0:
        raise InputError(
            "no point is seen by every view: the detector misses the isocentre; give the grid's size and spacing", "bad-geometry"
        )
    spacing = 2 * radius / voxels
    slices = max(1, round(2 * half_height / spacing))
    return Grid.centred((voxels, voxels, slices), (spacing,) * 3, geometry.isocentre_mm)
