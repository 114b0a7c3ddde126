"""How much memory each method takes: numbers in, bytes out, without the methods and what they import.

Ten volumes and six stacks of projections are held by most; neural fields add their tables, activations and further volumes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np

from ..fields.hash_layout import HashGrid
from ..fields.limits import KEPT_BYTES
from ..grid import Grid

PROGRAM_BYTES = 0.5e9
"""Python, torch and the kernels."""

VOLUMES_HELD, STACKS_HELD = 10, 6

RESTORING_VOLUMES = 13
"""That the restoring network holds at its peak, as measured between 96 and 128 voxels cubed."""

GAUSSIAN_BYTES = 1500.0
"""Of a Gaussian: its parameters, moments and gradients, what autograd keeps of them, and a view's table; 970 were measured in steps on two
views, the rest is for copies while Gaussians are cloned."""

FIXER_BYTES, REPAIR_STACKS = 0.25e9, 4
"""Of a SliceFixer's weights and of the slices that it repairs at a time, as measured, with the box of voxels that a field or Gaussians are
drawn on; and stacks of slices that a repair holds."""

FIELD_OF_DIFFNR = {"rays": 2048, "sample_spacing": 2.0, "levels": 8, "log2_table": 22, "finest": 0, "restoration": "none"}
"""naf's options as diffnr-naf has them."""

BETTERED_VOLUMES = 32
"""That a network holds where it betters a first volume: what restores one, and features of it."""

DICE_STACKS = 90
"""Stacks of projections that DiCE's maps of the views take, with copies, in the paper's size."""

POINTS_BYTES = 0.3e9
"""Of what a network decodes at a time, and of its transformers' tokens."""

WEIGHTS_BYTES, COPIES = 0.1e9, 6
"""Of shipped weights, about; copies of a file of half precision while it is loaded, in its size."""

FEWEST_VOXELS = 8
"""Along the longest edge of a grid that is offered."""

INR_VOLUMES = {"ls": 3, "fls": 3, "admm": 12}
"""Voxel centres; ADMM's iterates and total variation's dual variable."""


def method_bytes(method: str, grid: Grid, projections: int, options: Mapping) -> float:
    """What a method holds at once.

    Parameters
    ----------
    method : str
        Its name; what is not listed here holds what most do.
    grid : Grid
        Voxels to reconstruct.
    projections : int
        Numbers in the scan's projections.
    options : mapping
        Values of the method's options by name.
    """
    more, stacks = _MORE.get(method), STACKS_HELD + (DICE_STACKS if method == "deepsparse" else 0)
    return 4.0 * (VOLUMES_HELD * voxels(grid) + stacks * projections) + (more(grid, options) if more else 0.0)


def voxels(grid: Grid) -> float:
    """Number of voxels; a float, which does not overflow."""
    return math.prod(map(float, grid.size))


def fitting_size(grid: Grid, need, available: float) -> tuple[int, int, int] | None:
    """The size of the largest grid over the box of `grid` for which `need`, bytes of a grid, is at most `available`; None where none is
    that is worth the name."""
    fits, too_large = 0.0, 1.0
    for _ in range(24):
        middle = (fits + too_large) / 2
        if need(_scaled(grid, middle)) <= available:
            fits = middle
        else:
            too_large = middle
    size = tuple(int(n * fits) for n in grid.size)
    return size if min(size) > 0 and max(size) >= FEWEST_VOXELS else None


def _scaled(grid: Grid, scale: float) -> Grid:
    size = tuple(max(1, int(n * scale)) for n in grid.size)
    return Grid(size, tuple(np.asarray(grid.extent_mm) / size), grid.origin_mm, grid.direction)


def tables_of(options: Mapping, grid: Grid) -> HashGrid:
    """The hash grid that a method's options ask for on a grid; what they leave out is `HashGrid`'s default."""
    finest = options.get("finest") or max(32, *grid.size)
    box = grid.extent_mm / grid.extent_mm.max()
    levels, rows = (options.get(name) or getattr(HashGrid, name) for name in ("levels", "log2_table"))
    return HashGrid(levels, 16, finest, rows, tuple(map(float, box.astype(np.float32))))


def _naf(grid: Grid, options: Mapping) -> float:
    tables = tables_of(options, grid)
    batch = batch_bytes(grid, options["rays"], options["sample_spacing"], tables.channels)
    restores = options["start"] != "nothing" and options["restoration"] != "none"
    mean = tables.table_bytes() * options["averaging"]
    return tables.training_bytes() + mean + max(batch, 4.0 * RESTORING_VOLUMES * voxels(grid) * restores)


def batch_bytes(grid: Grid, rays: int, spacing: float, channels: int) -> float:
    """Memory of a step's samples at most: places, features (channels) and gradients of these, of `rays` along the grid's diagonal."""
    samples = np.linalg.norm(grid.extent_mm) / (spacing * min(grid.spacing_mm))
    return 4.0 * rays * max(8.0, samples) * (2 * channels + 11)


def _inr(grid: Grid, options: Mapping) -> float:
    held = tables_of(options, grid).training_bytes() if options["architecture"] == "hash" else KEPT_BYTES
    return held + 4.0 * voxels(grid) * INR_VOLUMES[options["loss"]]


def _r2_gaussian(grid: Grid, options: Mapping) -> float:
    return GAUSSIAN_BYTES * max(options["gaussians"], options["most"])


def _repair(grid: Grid, options: Mapping) -> float:
    return FIXER_BYTES + 4.0 * voxels(grid) * (2 + REPAIR_STACKS * options["finer"] ** 2)


def _diffnr_naf(grid: Grid, options: Mapping) -> float:
    return _naf(grid, FIELD_OF_DIFFNR | {"start": options["start"], "averaging": options["start"] == "nothing"}) + _repair(grid, options)


def _diffnr_gaussian(grid: Grid, options: Mapping) -> float:
    return GAUSSIAN_BYTES * options["gaussians"] + _repair(grid, options)


def _weights(options: Mapping) -> float:
    """Of a network's weights; a file may be anything."""
    try:
        return max(WEIGHTS_BYTES, COPIES * float(os.stat(os.path.expanduser(options["weights"])).st_size))
    except OSError:
        return WEIGHTS_BYTES


def _feed_forward(grid: Grid, options: Mapping) -> float:
    return 4.0 * BETTERED_VOLUMES * voxels(grid) + POINTS_BYTES + _weights(options)


_MORE = {
    "naf": _naf,
    "inr": _inr,
    "r2-gaussian": _r2_gaussian,
    "diffnr-naf": _diffnr_naf,
    "diffnr-gaussian": _diffnr_gaussian,
    "deepsparse": _feed_forward,
    "x-grm": _feed_forward,
}
