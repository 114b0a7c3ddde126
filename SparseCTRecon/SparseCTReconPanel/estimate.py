"""What a reconstruction will take, before it starts: time by what was measured, memory by the library's own rule, and a coarser grid where
the memory does not hold it. No widgets, no nodes, no torch."""

import math
from dataclasses import dataclass

from slicer.i18n import tr as _

from .catalogue import presetOf, presetValues

ROUND = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Plan:
    """A reconstruction as far as its cost depends on it.

    Parameters
    ----------
    method, preset : str
        A preset's name, or empty for the method's first one.
    options : dict
        Options that differ from the preset's.
    grid : dict
        Voxels, as Grid.to_dict has them.
    views : int
        Of the scan.
    detector : tuple of int
        Rows and columns.
    budget : float
        Seconds; 0 = no limit.
    """

    method: str
    preset: str
    options: dict
    grid: dict
    views: int
    detector: tuple
    budget: float = 0.0


def neededBytes(plan, grid=None):
    """Memory that the worker will need for a plan, or for the plan with another grid."""
    from SparseCTReconLib.grid import Grid
    from SparseCTReconLib.methods.memory import PROGRAM_BYTES, method_bytes

    options = presetValues(plan.method, plan.preset) | plan.options
    projections = plan.views * math.prod(plan.detector)
    return PROGRAM_BYTES + method_bytes(plan.method, grid or Grid.from_dict(plan.grid), projections, options)


def expectedSeconds(plan, device):
    """About how long it will take; None where nothing like it was measured, or the options are not a preset's."""
    from SparseCTReconLib import evidence

    if plan.options:
        return None
    voxels = math.prod(map(float, plan.grid["size"]))
    preset = presetOf(plan.method, plan.preset)
    try:
        return evidence.expected_seconds(evidence.load(), plan.method, preset, plan.views, voxels, device, plan.budget or None)
    except ValueError:
        return None


def coarserVoxels(plan, available):
    """The edge in mm of cubic voxels with which the plan fits into so many bytes, a round number; None where none do or it fits."""
    from SparseCTReconLib.grid import Grid
    from SparseCTReconLib.methods.memory import fitting_size

    if available is None or neededBytes(plan) <= available:
        return None
    grid = Grid.from_dict(plan.grid)
    size = fitting_size(grid, lambda one: neededBytes(plan, one), available)
    return rounded(max(grid.extent_mm / size)) if size else None


def rounded(edge):
    """The next larger round number."""
    power = 10.0 ** math.floor(math.log10(edge))
    return next(step * power for step in (*ROUND, 10) if step * power >= edge * (1 - 1e-9))


def sentence(plan, device, available):
    """What is to be expected: voxels, memory and time."""
    size = " x ".join(map(str, plan.grid["size"]))
    memory = _("about {need} of memory").format(need=gigabytes(neededBytes(plan)))
    if available is not None:
        memory = _("about {need} of {free} free memory").format(need=gigabytes(neededBytes(plan)), free=gigabytes(available))
    seconds = expectedSeconds(plan, device)
    if seconds is None:
        return _("{size} voxels, {memory}; how long is not known for these settings.").format(size=size, memory=memory)
    return _("{size} voxels, {memory}, about {time}.").format(size=size, memory=memory, time=duration(seconds))


def gigabytes(n):
    return _("{n:.1f} GB").format(n=n / 1e9)


def duration(seconds):
    """A time as a person says it."""
    if seconds < 90:
        return _("{n} s").format(n=max(1, round(seconds)))
    if seconds < 5400:
        return _("{n} min").format(n=round(seconds / 60))
    return _("{n:.1f} h").format(n=seconds / 3600)
