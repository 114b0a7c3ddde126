"""From what a detector counted to line integrals, for files that say little of the beam: I0 from the brightest pixels, said as assumed.

Dark and flat fields, scatter and all that needs choosing are `corrections`; here is what it takes to look at a scan at all.
"""

from __future__ import annotations

import logging

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan, line_integrals
from .checks import checked

AIR_PERCENTILE = 99.5
"""Where the unattenuated beam is looked for: few pixels of a scan are brighter, and single ones may be broken."""
_SAMPLES = 4_000_000
_MONITOR_RANGE = 4.0

log = logging.getLogger(__name__)


def scan_of(stack: np.ndarray, geometry: Geometry, where, provenance: dict, monitor=None) -> Scan:
    """A scan of intensities, which become line integrals in place.

    Parameters
    ----------
    stack : ndarray [view, v, u] of float32
        Intensities in any unit; changed.
    geometry : Geometry
    where : str or Path
        For messages.
    provenance : dict
        What is known; what is done here is added under "intensities" and "assumed".
    monitor : sequence of float, optional
        Readings of the beam's monitor, one for each view; used where all of them are plausible.

    Raises
    ------
    InputError
        Where no pixel is bright.
    """
    done = {"dose_monitor": _normalise(stack, monitor, where)}
    negative = int(np.count_nonzero(stack < 0))
    if negative:
        log.warning("%s: %d negative intensities count as 0: the dark field may be too bright", where, negative)
        np.maximum(stack, 0, out=stack)
    i0 = _air(stack)
    if not i0 > 0:
        raise InputError(f"{where}: the images are black: give a scan that was exposed", "bad-intensity")
    for k, view in enumerate(stack):
        stack[k] = line_integrals(view[None], i0)[0]
    done |= {"i0": i0, "i0_from": f"the {AIR_PERCENTILE} % brightest of the pixels, since the files do not say it"}
    said = "; ".join(text for text in (provenance.get("assumed"), f"I0 = {i0:.6g}, from the brightest pixels, taken for air") if text)
    return checked(Scan(stack, geometry, provenance=provenance | {"intensities": done, "assumed": said}), where)


def _air(stack: np.ndarray) -> float:
    step = max(1, stack.size // _SAMPLES)
    return float(np.percentile(stack.reshape(-1)[::step], AIR_PERCENTILE))


def _normalise(stack: np.ndarray, monitor, where) -> str:
    """Divide each view by what the beam's monitor read, in units of its median; says whether that was done."""
    if monitor is None or any(reading is None for reading in monitor):
        return "none"
    readings = np.array(monitor, dtype=np.float64)
    if not (np.isfinite(readings).all() and (readings > 0).all()):
        return "none"
    relative = readings / np.median(readings)
    if relative.max() > _MONITOR_RANGE or relative.min() < 1 / _MONITOR_RANGE:
        log.warning("%s: the beam's monitor varies from %.2g to %.2g of its median and is not used", where, relative.min(), relative.max())
        return "not used: implausible"
    stack /= relative[:, None, None].astype(np.float32)
    return "views divided by its readings"
