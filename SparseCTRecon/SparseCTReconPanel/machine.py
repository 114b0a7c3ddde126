"""What a machine will see of a CT, from the library's geometry: before anything is simulated, and without importing more than numpy."""

from functools import lru_cache
from math import radians

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.geometry import PRESETS, Geometry
from SparseCTReconLib.grid import Grid

from .scene import gridOf

BODY_HU = -300
SAMPLES = 100_000
TOLERATED = 0.01
FULL_SCAN = 660, 1e5
"""Views, and photons per pixel in each, of the scan that doses are compared with: a linac's usual one about a whole circle."""


def plannedGeometry(request, ct):
    """Geometry of the scan that `request` asks for, about the middle of the CT node.

    :raises ValueError: where there is no such machine, or it sees nothing, in one sentence.
    """
    changes = request.geometryChanges()
    if "arc_deg" in changes:
        changes["arc_rad"] = radians(changes.pop("arc_deg"))
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    return _geometry(request.preset, request.views, tuple(Grid.from_dict(gridOf(ct)).centre_mm), tuple(sorted(changes.items())))


@lru_cache(maxsize=8)
def _geometry(preset, views, isocentre, changes):
    geometry = Geometry.preset(preset, views, isocentre_mm=isocentre, **dict(changes))
    if min(geometry.field_of_view()) <= 0:
        raise ValueError(
            _("The detector misses the isocentre, so that no point of the CT is in all views: move it back (offset) or take a larger one.")
        )
    return geometry


def sameGeometry(one, other):
    """Whether two geometries have the same poses and pixels, to a micrometre."""
    import numpy as np

    if one is other:
        return True
    if (one.views, one.detector_shape) != (other.views, other.detector_shape) or not np.allclose(one.pixel_mm, other.pixel_mm):
        return False
    return all(np.allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-3) for name in ("source", "detector", "u", "v"))


def machineDefaults(preset):
    """(columns, rows, pixel in mm, lateral offset in mm, arc in degrees) of a machine."""
    machine = PRESETS[preset]
    rows, columns = machine["detector_shape"]
    return columns, rows, machine["pixel_mm"][0], machine.get("offset_mm", (0.0, 0.0))[0], machine.get("arc_rad", radians(360)) / radians(1)


def sight(geometry, ct):
    """One sentence: the field of view of `geometry` in mm, and whether it holds the body in the CT node."""
    radius, halfHeight = geometry.field_of_view()
    seen = _("Sees {across:.0f} mm across and {high:.0f} mm along the patient").format(across=2 * radius, high=2 * halfHeight)
    beside, beyond = _outside(ct, geometry.isocentre_mm, radius, halfHeight)
    cut = []
    if beside > TOLERATED:
        cut.append(_("{percent:.0f} % of the body lies beside it, which blurs the edge").format(percent=max(1, 100 * beside)))
    if beyond > TOLERATED:
        cut.append(_("{percent:.0f} % above or below it").format(percent=max(1, 100 * beyond)))
    return f"{seen}: {', '.join(cut)}." if cut else _("{seen}: all of the body.").format(seen=seen)


def dose(photons, views):
    """The dose in words: photons of all views beside those of a usual scan."""
    if photons <= 0:
        return _("No noise: more than any dose gives.")
    share = photons * views / (FULL_SCAN[0] * FULL_SCAN[1])
    known = ((0.003, _("Extremely low dose")), (0.03, _("Very low dose")), (0.3, _("Low dose")), (3, _("Usual dose")))
    words = next((words for limit, words in known if share < limit), _("High dose"))
    return _("{words}: {percent} % of the photons of a full scan ({views} views).").format(
        words=words, percent=f"{100 * share:.2g}" if share < 0.1 else round(100 * share), views=FULL_SCAN[0]
    )


def _outside(ct, isocentre, radius, halfHeight):
    """Shares of the body beside the field of view, and above or below it."""
    import numpy as np

    points = _body(ct) - isocentre
    if not len(points):
        return 0.0, 0.0
    beside = np.hypot(points[:, 0], points[:, 1]) > radius
    return float(beside.mean()), float((~beside & (abs(points[:, 2]) > halfHeight)).mean())


def _body(ct):
    """LPS positions (n, 3) of some voxels of the body in the CT node."""
    return _bodyOf(
        ct.GetID(), ct.GetImageData().GetMTime(), tuple(gridOf(ct)["origin_mm"] + gridOf(ct)["direction"] + gridOf(ct)["spacing_mm"])
    )


@lru_cache(maxsize=4)
def _bodyOf(nodeID, _changed, _place):
    import numpy as np

    ct = slicer.mrmlScene.GetNodeByID(nodeID)
    voxels = slicer.util.arrayFromVolume(ct)
    step = max(1, round((voxels.size / SAMPLES) ** (1 / 3)))
    index = np.argwhere(voxels[::step, ::step, ::step] > BODY_HU)[:, ::-1] * step
    matrix = Grid.from_dict(gridOf(ct)).index_to_world
    return index @ matrix[:3, :3].T + matrix[:3, 3]
