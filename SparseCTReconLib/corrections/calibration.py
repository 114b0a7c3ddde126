"""Where the detector is, found from a scan itself: its offset along the rows, which is where the axis projects to, and its turn in its
plane.

Each is where a small reconstruction leaves least of the data unexplained (see `consistency`): sought coarsely first, then between
neighbouring places by a parabola. An offset along the columns is not sought: it is a displacement of the object along the axis but for the
cone, and two pixels of it change what is left by a thousandth on a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from .consistency import around, check_orbit, midplane, moved, unexplained

REACH = 0.1
"""Share of a row's length to both sides in which an offset is sought."""

COARSE, FINE, VOLUME = 32, 64, 32
"""Voxels across the object for a first look, for the answer, and where the whole cone is looked at."""

SHOWN = 1.004
"""How much more must be left unexplained two steps beside the best place than there, for a place to be found."""

NOTHING_BETTER = "no-offset"
"""Code of the refusal where no offset in reach stands out."""

STEPS = 22
"""Looks that a search takes at most, for the progress."""


@dataclass(frozen=True)
class Calibration:
    """What was found. Add offsets to the geometry's with `consistency.moved`.

    Parameters
    ----------
    u_mm : float
        Displacement of the detector along its rows beyond what the geometry says, mm on the detector.
    tilt_rad : float or None
        Turn about its normal, from u towards v; None where it was not asked for or the data do not show it.
    unexplained_before, unexplained : float
        Share of the data that a small reconstruction leaves, with the geometry as it was and as it was found.
    axis_mm : float
        The same as `u_mm` at the axis: how far the centre of rotation lies beside its place.
    """

    u_mm: float
    tilt_rad: float | None
    unexplained_before: float
    unexplained: float
    axis_mm: float

    def applied(self, geometry: Geometry) -> Geometry:
        """The geometry with what was found."""
        return moved(geometry, self.u_mm, tilt_rad=self.tilt_rad or 0.0)

    def to_dict(self) -> dict:
        """JSON values, angles in degrees."""
        return {
            "u_mm": self.u_mm,
            "tilt_deg": None if self.tilt_rad is None else float(np.degrees(self.tilt_rad)),
            "axis_mm": self.axis_mm,
            "unexplained_before": self.unexplained_before,
            "unexplained": self.unexplained,
        }


def calibrate(scan: Scan, tilt_too: bool = False, progress: Callable[[int, int], None] | None = None) -> Calibration:
    """Find the detector's offset along its rows, and with `tilt_too` its turn in its plane.

    Raises
    ------
    InputError
        Where the orbit is no arc about the long axis, or the data do not show an offset.
    """
    geometry = scan.geometry
    check_orbit(geometry)
    if not np.ptp(scan.projections) > 0.05:
        raise InputError("the projections show nothing but air: there is nothing to find an offset by", "not-shown")
    look = _Looks(progress, STEPS * (2 if tilt_too else 1))
    u = find_u(scan.projections, geometry, look)
    tilt = find_tilt(scan.projections, moved(geometry, u), look) if tilt_too else None
    before, after = (_left(scan.projections, each) for each in (geometry, moved(geometry, u, tilt_rad=tilt or 0.0)))
    return Calibration(u, tilt, before, after, float(u * (geometry.sid_mm / geometry.sdd_mm).mean()))


def find_u(projections: np.ndarray, geometry: Geometry, look: Callable[[], None] = lambda: None) -> float:
    """Displacement in mm along the rows, to a fraction of a pixel.

    Raises
    ------
    InputError
        Where no place in reach explains the data better than those beside it.
    """
    nu, du = geometry.detector_shape[1], geometry.pixel_mm[1]
    reach = REACH * nu * du
    start = _coarse(projections, geometry, np.linspace(-reach, reach, 11), look)
    rows, placed, grid = midplane(projections, geometry, FINE)
    found = _minimum(lambda u: unexplained(rows, moved(placed, u), grid), start, reach / 10, reach / 60, look)
    if found is None or abs(found) > 1.2 * reach:
        raise InputError(
            f"no offset within {reach:.0f} mm explains the views better than those beside it: check angles and distances first",
            NOTHING_BETTER,
        )
    return found


def find_tilt(projections: np.ndarray, geometry: Geometry, look: Callable[[], None] = lambda: None) -> float | None:
    """Turn in radians about the detector's normal, from u towards v; None where the data do not show it."""
    values, placed, grid = around(projections, geometry, VOLUME)
    return _minimum(lambda tilt: unexplained(values, moved(placed, tilt_rad=tilt), grid), 0.0, np.radians(1.5), np.radians(0.5), look)


class _Looks:
    """Counts looks and tells the progress."""

    def __init__(self, progress, of: int):
        self._progress, self._of, self._done = progress, of, 0

    def __call__(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(min(self._done, self._of), self._of)


def _left(projections: np.ndarray, geometry: Geometry) -> float:
    return unexplained(*midplane(projections, geometry, FINE))


def _coarse(projections: np.ndarray, geometry: Geometry, places: np.ndarray, look: Callable[[], None]) -> float:
    rows, placed, grid = midplane(projections, geometry, COARSE)
    left = []
    for place in places:
        look()
        left.append(unexplained(rows, moved(placed, place), grid))
    return float(places[int(np.argmin(left))])


def _minimum(function, start: float, step: float, last: float, look: Callable[[], None], most: int = 8) -> float | None:
    """Where `function` is least: down the slope from `start` in steps, then about it in steps of `last`; None where it is level."""
    known: dict[float, float] = {}

    def at(place: float) -> float:
        place = round(place, 9)
        if place not in known:
            look()
            known[place] = function(place)
        return known[place]

    while True:
        for _ in range(most):
            best = min((start - step, start, start + step), key=at)
            if best == start:
                break
            start = best
        else:
            return None
        if step <= last:
            break
        start, step = _vertex(at, start, step), max(step / 3, last)
    wide = 2 * step
    if (at(start - wide) + at(start + wide)) / 2 < SHOWN * at(start):
        return None
    return float(_vertex(at, start, step))


def _vertex(at, centre: float, step: float) -> float:
    """Of the parabola through three places about `centre`, no further than one step away."""
    left, middle, right = at(centre - step), at(centre), at(centre + step)
    bend = left - 2 * middle + right
    return centre if bend <= 0 else centre + step * float(np.clip((left - right) / (2 * bend), -1, 1))
