"""What else may be wrong with a scan's geometry: a mirrored detector, angles that count the other way, or in another unit.

Each possibility is a geometry of its own. One that leaves much less of the data unexplained than the geometry at hand, wherever its
detector's offset is best, is said in a sentence; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ..geometry import Geometry
from ..scan import Scan
from .calibration import COARSE, FINE, REACH, Calibration
from .consistency import midplane, moved, unexplained

MUCH_BETTER = 0.75
"""Share of what is left unexplained that another geometry may leave at most, to be worth a sentence."""


def suspicions(scan: Scan, found: Calibration | None, check: Callable[[], None] = lambda: None) -> list[str]:
    """Sentences about what explains the scan much better than its geometry with the offset that was found.

    Parameters
    ----------
    scan : Scan
    found : Calibration or None
        Of this scan; None where no offset was found.
    check : callable
        Called between looks, to be stopped by.
    """
    reach = REACH * scan.geometry.detector_shape[1] * scan.geometry.pixel_mm[1]
    u = found.u_mm if found else 0.0
    as_given = found.unexplained if found else _left(scan.projections, scan.geometry, 0.0, FINE)
    left: dict[str, float] = {}
    for what, projections, geometry in _possibilities(scan):
        check()
        value = _least(projections, geometry, [-u, u, *np.linspace(-reach, reach, 11)], reach / 5)
        left[what] = min(value, left.get(what, np.inf))
    likely = {what: value for what, value in left.items() if value < MUCH_BETTER * as_given}
    if not likely:
        return []
    least = min(likely.values())
    best = [what for what, value in likely.items() if value < 1.2 * least]
    return [
        f"the views fit together much better if {' or '.join(best)} ({100 * least:.1f} % left unexplained, {100 * as_given:.1f} % as it is)"
    ]


def _possibilities(scan: Scan) -> Iterator[tuple[str, np.ndarray, Geometry]]:
    """What may be, and the projections and poses that it would mean."""
    geometry, angles = scan.geometry, scan.geometry.gantry_angles_rad
    yield "the detector's columns are mirrored", np.ascontiguousarray(scan.projections[..., ::-1]), geometry
    yield "the angles count the other way", scan.projections, turned(geometry, 2 * angles[0] - angles)
    steps = np.diff(np.unwrap(angles))
    if len(steps) < 8:
        return
    step = float(np.median(steps))
    if abs(step) * geometry.views < 0.3:
        yield (
            "the angles are radians that were read as degrees",
            scan.projections,
            turned(geometry, angles[0] + np.degrees(angles - angles[0])),
        )
    # Steps in degrees that were taken for radians are known but for whole turns.
    for turns in range(-6, 7):
        whole = abs(np.radians(step + 2 * np.pi * turns)) * geometry.views
        if turns and 2.6 < whole < 6.6:
            read = angles[0] + np.radians((step + 2 * np.pi * turns) * np.arange(geometry.views))
            yield "the angles are degrees that were read as radians", scan.projections, turned(geometry, read)


def turned(geometry: Geometry, angles_rad: np.ndarray) -> Geometry:
    """Each view's source and detector turned about the long axis through the isocentre, to other gantry angles."""
    by = angles_rad - geometry.gantry_angles_rad
    cos, sin, zero, one = np.cos(by), np.sin(by), np.zeros_like(by), np.ones_like(by)
    turn = np.stack([np.stack([cos, -sin, zero], -1), np.stack([sin, cos, zero], -1), np.stack([zero, zero, one], -1)], axis=1)
    centre = np.asarray(geometry.isocentre_mm)
    about = {"source": centre, "detector": centre, "u": 0.0, "v": 0.0}
    return replace(geometry, **{name: np.einsum("aij,aj->ai", turn, getattr(geometry, name) - at) + at for name, at in about.items()})


def _least(projections: np.ndarray, geometry: Geometry, places, step: float) -> float:
    """What is left with the best offset of the detector: of these places, then in ever smaller steps from the best."""
    known = {float(place): _left(projections, geometry, float(place), COARSE) for place in places}
    while step > geometry.pixel_mm[1]:
        step /= 2
        best = min(known, key=known.get)
        known |= {place: _left(projections, geometry, place, COARSE) for place in (best - step, best + step)}
    return _left(projections, geometry, min(known, key=known.get), FINE)


def _left(projections: np.ndarray, geometry: Geometry, u_mm: float, voxels: int) -> float:
    rows, placed, grid = midplane(projections, geometry, voxels)
    return unexplained(rows, moved(placed, u_mm), grid)
