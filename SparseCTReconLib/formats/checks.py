"""What every reader looks at: numbers of a description, units of angles, pixels that cannot have been measured so."""

from __future__ import annotations

import logging

import numpy as np

from ..errors import InputError
from ..scan import Scan, line_integrals

MANY = 1e-3
"""Share of pixels that would hardly have the largest value by chance."""
HIGHEST_INTEGRAL = 50.0
"""Line integral that no detector measures: larger values are intensities, or have another unit."""
_NEGATIVE = -0.1

log = logging.getLogger(__name__)


def numbers(values: dict, key: str, where, *, size: int | None = None, default=None, views: int | None = None) -> np.ndarray:
    """`values[key]` as finite float64.

    Parameters
    ----------
    values : dict
    key : str
    where : str or Path
        For the messages.
    size : int, optional
        How many numbers: the array has shape (size,), or (views, size) where `views` is given and the numbers differ from view to view.
        None for a single number; shape () or (views,).
    default : optional
        What stands for a key that is missing or None; without it that is refused.
    views : int, optional
        Number of views, which one row or number for each is allowed for.

    Raises
    ------
    InputError
        Where the key is missing, or its value is not that many finite numbers.
    """
    value = values.get(key)
    value = default if value is None else value
    if value is None:
        raise InputError(f"{where}: {key} is missing: add it", "bad-geometry")
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    shape = () if size is None else (size,)
    if views is not None and array.size == views * (size or 1) and array.shape[:1] == (views,) and array.ndim == len(shape) + 1:
        shape = (views, *shape)
    elif array.size == (size or 1):
        array = array.reshape(shape)
    if array.shape != shape or not np.isfinite(array).all():
        expected = f"{size or 1} finite number{'s' if (size or 1) > 1 else ''}" + (f", or so for each of {views} views" if views else "")
        raise InputError(f"{where}: {key} is {_short(value)}: give {expected}", "bad-geometry")
    return array


def whole_numbers(values: dict, key: str, where, size: int) -> tuple[int, ...]:
    """`values[key]` as positive whole numbers; raises as `numbers`."""
    array = numbers(values, key, where, size=size)
    if (array != np.round(array)).any() or array.min() < 1 or array.max() > 1e6:
        raise InputError(f"{where}: {key} is {_short(values[key])}: give {size} positive whole numbers", "bad-geometry")
    return tuple(int(n) for n in array)


def _short(value) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 60 else f"{text[:57]}..."


def suspect_degrees(angles_rad: np.ndarray, where) -> None:
    """Warn of angles that are said to be radians and look like degrees: over more than two turns, or whole numbers beyond one."""
    span = float(np.ptp(angles_rad))
    whole = span > 2 * np.pi + 0.1 and len(angles_rad) > 2 and bool((angles_rad == np.round(angles_rad)).all())
    if whole or span > 4 * np.pi + 0.1:
        log.warning("%s: angles over %.4g radians are %.1f turns: they may be degrees; check the unit", where, span, span / (2 * np.pi))


def suspect_radians(angles_deg: np.ndarray, where) -> None:
    """Warn of angles that are said to be degrees and look like radians: many views within 7 degrees."""
    span = float(np.ptp(angles_deg))
    if len(angles_deg) >= 8 and 0 < span <= 2 * np.pi + 0.1:
        log.warning("%s: %d views within %.3g degrees: the angles may be radians; check the unit", where, len(angles_deg), span)


def integrals_of(stack: np.ndarray, i0: float, where) -> np.ndarray:
    """-ln(I / I0) of intensities [view, v, u]; pixels below 0 count as 0 and pixels at the detector's limit as they are, which is said."""
    if not np.isfinite(stack).all():
        raise InputError(f"{where} has intensities that are not finite: mask these pixels", "not-finite")
    negative = int((stack < 0).sum())
    if negative:
        log.warning("%s: %d negative intensities count as 0: the dark field may be too bright", where, negative)
    say_saturated(stack, where)
    return line_integrals(np.maximum(stack, 0) if negative else stack, i0)


def say_saturated(stack: np.ndarray, where) -> None:
    """Warn where more pixels than by chance have the largest value."""
    top = stack.max()
    share = float((stack == top).mean())
    if share > MANY and share < 0.5 and stack.size >= 1000:
        log.warning("%s: %.1f %% of the pixels have the largest value, %g: they may be saturated or clipped", where, 100 * share, top)


def checked(scan: Scan, where) -> Scan:
    """`scan`, its projections writable; line integrals that no object has, or that were clipped, are said."""
    if not scan.projections.flags.writeable:  # a view of a file's bytes
        scan.projections = scan.projections.copy()
    negative = float((scan.projections < _NEGATIVE).mean())
    if negative > MANY:
        log.warning(
            "%s: %.1f %% of the line integrals are below %g: I0 may be too small, or the air not 0", where, 100 * negative, _NEGATIVE
        )
    say_too_high(scan.projections, where)
    if scan.projections.max() > 0:
        say_saturated(scan.projections, where)
    return scan


def say_too_high(line_integrals: np.ndarray, where) -> None:
    """Warn of line integrals that no detector measures."""
    highest = float(line_integrals.max())
    if highest > HIGHEST_INTEGRAL:
        log.warning(
            "%s: line integrals up to %.4g: nothing gets through that much; they may be intensities, or not of mm and 1/mm", where, highest
        )


def stack_of(value, where, what: str = "the projections") -> np.ndarray:
    """`value`, if it is an array of numbers with three dimensions and at least one pixel: projections [view, v, u]."""
    if not isinstance(value, np.ndarray) or value.ndim != 3 or value.dtype.kind not in "biuf" or value.size == 0:
        kind = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise InputError(f"{where}: {what} are {kind}: give an array of numbers (views, v, u)", "bad-stack")
    return value


def angles_of(value, where, views: int) -> np.ndarray:
    """`value` as finite angles (views,) in radians; how many there are and what their unit seems to be is checked."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(np.shape(value)) != 1:
        raise InputError(f"{where}: the angles are {_short(value)}: give one number for each view", "bad-geometry")
    if len(value) != views:
        raise InputError(
            f"{where} has {views} views and {len(value)} angles: take out the extra ones, or add what is missing", "view-count"
        )
    angles = np.atleast_1d(numbers({"angles": value}, "angles", where, views=views))
    suspect_degrees(angles, where)
    return angles


def only_cone(values: dict, where) -> None:
    """Refuse the geometry of parallel beams."""
    mode = values.get("mode", "cone")
    if mode not in ("cone", None):
        raise InputError(f"{where}: the mode is {_short(mode)!r}: only cone beams are read", "bad-geometry")
