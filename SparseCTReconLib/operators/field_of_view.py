"""Which voxels the views see: all of them, as much as matters, or too little.

A line through a voxel is measured from either end. What a view misses is no loss where other views look along the same direction: so it is
on a full circle with a displaced detector. Directions are taken about the orbit's axis, modulo half a turn, in sectors that hold several
views each.
"""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry
from ..grid import Grid
from ._jit import kernel, run_threaded
from .backprojection import projection_matrices

FEW, ENOUGH, EVERY = 0, 1, 2
"""Too few views see the voxel; those that miss it look along directions that others see; all see it."""

LABELS = {FEW: "seen too rarely", ENOUGH: "seen by enough views", EVERY: "seen by every view"}

VIEWS_PER_SECTOR, FEWEST_SECTORS, MOST_SECTORS = 3, 4, 60


@kernel
def _look(start, stop, matrices, sources, sectors, detector_shape, out):
    """Mark the voxels of the planes start <= x < stop of `out` [x, y, z]; `sources` (views, 2, 4): the map from voxel indices
    to mm from the source, in two directions across the axis."""
    _, ny, nz = out.shape
    nv, nu = detector_shape
    views = len(matrices)
    for i in range(start, stop):
        for j in range(ny):
            for k in range(nz):
                seen, covered, all_of_them = 0, np.uint64(0), np.uint64(0)
                for view in range(views):
                    m = matrices[view]
                    depth = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
                    u = (m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]) / depth
                    v = (m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]) / depth
                    seen += depth > 0 and -0.5 <= u <= nu - 0.5 and -0.5 <= v <= nv - 0.5
                if seen == views:
                    out[i, j, k] = 2
                    continue
                for view in range(views):
                    m, s = matrices[view], sources[view]
                    a = s[0, 0] * i + s[0, 1] * j + s[0, 2] * k + s[0, 3]
                    b = s[1, 0] * i + s[1, 1] * j + s[1, 2] * k + s[1, 3]
                    turn = np.arctan2(b, a) / np.pi + 1.0
                    bit = np.uint64(1) << np.uint64(int((turn - np.floor(turn)) * sectors))
                    all_of_them |= bit
                    depth = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
                    u = (m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]) / depth
                    v = (m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]) / depth
                    if depth > 0 and -0.5 <= u <= nu - 0.5 and -0.5 <= v <= nv - 0.5:
                        covered |= bit
                out[i, j, k] = 1 if covered == all_of_them else 0


def field_of_view(geometry: Geometry, grid: Grid) -> np.ndarray:
    """How well each voxel's centre is seen: uint8 [z, y, x] of `FEW`, `ENOUGH` and `EVERY`."""
    out = np.zeros(grid.size, np.uint8)
    sectors = int(np.clip(geometry.views // VIEWS_PER_SECTOR, FEWEST_SECTORS, MOST_SECTORS))
    run_threaded(
        _look, grid.size[0], projection_matrices(geometry, grid), _from_sources(geometry, grid), sectors, geometry.detector_shape, out
    )
    return out.transpose(2, 1, 0)


def _from_sources(geometry: Geometry, grid: Grid) -> np.ndarray:
    """Maps (views, 2, 4) from voxel indices (x, y, z, 1) to mm from each source, along two directions across the orbit's axis."""
    across = orbit_plane(geometry)
    linear, offset = across @ grid.index_to_world[:3, :3], across @ (grid.index_to_world[:3, 3] - geometry.source).T
    return np.concatenate([np.broadcast_to(linear, (geometry.views, 2, 3)), offset.T[..., None]], axis=2)


def orbit_plane(geometry: Geometry) -> np.ndarray:
    """Two unit vectors (2, 3) across the axis about which the sources lie: those along which they are spread most."""
    relative = geometry.source - np.asarray(geometry.isocentre_mm)
    _, vectors = np.linalg.eigh(relative.T @ relative)
    return vectors[:, :0:-1].T
