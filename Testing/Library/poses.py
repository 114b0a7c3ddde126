"""Poses for tests: any source, any flat detector, built from their definition and not by the code under test."""

import numpy as np
from hypothesis import strategies as st

from SparseCTReconLib.geometry import Geometry


def rotation(axis, angle_rad):
    """Rotation matrix about `axis` (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


def random_geometry(seed, views=5, mirrored=False, isocentre_mm=None):
    """Sources and detectors in all directions, with offsets of both and the detector turned in its plane."""
    rng = np.random.default_rng(seed)
    isocentre = rng.uniform(-200, 200, 3) if isocentre_mm is None else np.asarray(isocentre_mm, dtype=float)
    source, detector, u, v = [], [], [], []
    for _ in range(views):
        frame, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        frame[:, 2] *= np.linalg.det(frame)
        sid, behind = rng.uniform(200, 1200), rng.uniform(50, 800)
        source.append(isocentre + frame @ [*rng.uniform(-30, 30, 2), sid])
        detector.append(isocentre + frame @ [*rng.uniform(-150, 150, 2), -behind])
        u.append(-frame[:, 0] if mirrored else frame[:, 0])
        v.append(frame[:, 1])
    return Geometry(source, detector, u, v, (20, 30), (1.5, 0.7), tuple(isocentre))


def hit_mm(geometry, point):
    """Where the ray from each source through the LPS `point` meets the detector: (views, 2), (u, v) in mm from the detector's centre."""
    normal = np.cross(geometry.u, geometry.v)
    ray = np.asarray(point) - geometry.source
    reach = np.sum((geometry.detector - geometry.source) * normal, axis=1) / np.sum(ray * normal, axis=1)
    offset = geometry.source + reach[:, None] * ray - geometry.detector
    return np.stack([np.sum(offset * geometry.u, axis=1), np.sum(offset * geometry.v, axis=1)], axis=1)


@st.composite
def circular_orbits(draw):
    """Arguments of `Geometry.circular` as a real machine could have them."""
    sid = draw(st.floats(50, 2000))
    return {
        "views": draw(st.integers(1, 40)),
        "sid_mm": sid,
        "sdd_mm": sid * draw(st.floats(1.05, 3)),
        "detector_shape": (draw(st.integers(1, 60)), draw(st.integers(1, 60))),
        "pixel_mm": (draw(st.floats(0.1, 5)), draw(st.floats(0.1, 5))),
        "arc_rad": draw(st.floats(0.1, 2 * np.pi)),
        "start_rad": draw(st.floats(-7, 7)),
        "offset_mm": (draw(st.floats(-200, 200)), draw(st.floats(-200, 200))),
        "isocentre_mm": tuple(draw(st.floats(-500, 500)) for _ in range(3)),
    }
