"""What a geometry costs, said before the work starts: in general, and of a method that others are better than there.

The figures behind the sentences are those of `Testing/Benchmarks/geometries.py` on a torso from 50 views.
"""

from __future__ import annotations

import numpy as np

from ..classical.fdk import is_displaced, orbit_angles
from ..geometry import Geometry
from .base import Method

CONDITIONS = {
    "arc": "an orbit of clearly less than half a turn",
    "gaps": "an orbit with gaps",
    "truncated": "rows that end within the object",
    "no circle": "sources that do not lie on a circle about the patient's long axis",
    "half-fan": "a displaced detector",
}
"""Names of what a scan may be like, and the words for it."""

GAP = 4.0
"""Times the usual angle between neighbouring views, from which on there is a gap; the widest one is where the orbit begins and ends."""

SHORT_RAD = np.radians(170.0)
OFF_CIRCLE = 0.05
"""Distance from a circle, in its radius, from which on a source does not lie on it."""


def conditions(geometry: Geometry, is_truncated: bool) -> list[str]:
    """Which of `CONDITIONS` hold."""
    circle = lies_on_circle(geometry)
    full = geometry.is_full_circle()
    held = {
        "no circle": not circle,
        "arc": circle and not full and orbit_angles(geometry)[1] < SHORT_RAD,
        "gaps": circle and not full and has_gaps(geometry),
        "half-fan": circle and full and is_displaced(geometry) and _each_line_once(geometry),
        "truncated": is_truncated,
    }
    return [name for name in CONDITIONS if held[name]]


def cautions(method: Method, geometry: Geometry, is_truncated: bool) -> list[str]:
    """One sentence for each condition that costs something, of the method or of every one."""
    found = []
    for name in conditions(geometry, is_truncated):
        if name == "half-fan":
            found.append(
                "the detector is displaced, so that opposite views share the work and most lines are measured once: expect less than from "
                f"{geometry.views} views on a wide detector, more than from {geometry.views // 2}"
            )
        if name in method.poor_on:
            found.append(f"{CONDITIONS[name]}: {method.name} {method.poor_on[name]}")
    return found


def lies_on_circle(geometry: Geometry) -> bool:
    """Whether all sources lie on a circle about the axis through the isocentre along LPS z, with detector rows across that axis."""
    relative = geometry.source - np.asarray(geometry.isocentre_mm)
    radius = np.hypot(relative[:, 0], relative[:, 1])
    mean = radius.mean()
    level = np.abs(relative[:, 2]).max() <= OFF_CIRCLE * mean and np.abs(radius - mean).max() <= OFF_CIRCLE * mean
    return bool(level and np.abs(geometry.u[:, 2]).max() <= OFF_CIRCLE)


def has_gaps(geometry: Geometry) -> bool:
    """Whether the orbit is in several pieces."""
    angles = np.sort(geometry.gantry_angles_rad)
    gaps = np.sort(np.diff(np.append(angles, angles[0] + 2 * np.pi)))
    return bool(len(gaps) > 3 and gaps[-2] > GAP * np.median(gaps))


def _each_line_once(geometry: Geometry) -> bool:
    """Whether less than half of the field of view is seen from both sides."""
    columns = geometry.detector_shape[1] * geometry.pixel_mm[1]
    return bool(np.abs(geometry.principal_point_mm[:, 0]).mean() > 0.2 * columns)
