"""The voxels that a method works on where the object reaches beyond those that were asked for.

Whatever a ray passes through counts in its line integral. A method that has no voxels there puts it where it has some: a bright rim, and
streaks all over. So it works on a larger grid, from which the asked one is cut out in the end.

How far the object reaches, the projections say: a point is outside of it where a view sees nothing but air, and where no row of a view can
go on as far as that (a cylinder of water with the value and the slope of the row's end, see `classical.truncation`). What no view sees
does not count in any line integral either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..classical.truncation import air_level, reach_mm
from ..geometry import Geometry
from ..grid import Grid
from ..scan import Scan
from .base import State
from .memory import voxels

LEAST_GAIN = 0.02
"""Share of the rays' way through the object that must lie beyond the grid for a larger one to be worth its time."""

LARGEST = 5.0
"""Times as many voxels as were asked for that a method works on at most, unless they are few."""

SMALL = 1_000_000
"""Voxels that a method may always work on."""

_VIEWS, _BLOCKS, _POINTS = 24, 48, 32
_MOST_ROWS = 90
"""Percentile of the rows' reach that is a view's: noise makes some of them far too long."""

_NEAREST = 0.1
"""Share of the distance from source to detector within which there is no object."""


@dataclass(frozen=True)
class Domain:
    """Where a method works.

    Parameters
    ----------
    grid : Grid
        Its voxels.
    window : tuple of slice
        Where in an array [z, y, x] on `grid` the voxels lie that were asked for.
    beyond : float
        Share of the rays' way through the object that lies beyond the asked grid, 0 to 1.
    object_grid : Grid, optional
        The same voxels about the whole object, where they are too many to work on; see `surroundings`.
    """

    grid: Grid
    window: tuple[slice, slice, slice]
    beyond: float
    object_grid: Grid | None = None

    @property
    def said(self) -> str:
        """What a volume's provenance says of it; empty where it is the asked grid and the whole object."""
        if not self.is_larger and self.object_grid is None:
            return ""
        sizes = (" x ".join(map(str, size)) for size in (self.grid.size, self.window_size))
        said = f"{next(sizes)} voxels about the {next(sizes)} asked for: {100 * self.beyond:.0f} % of the rays' way lies beyond those"
        return f"{said}; what lies further out was taken out of the projections as coarse voxels show it" if self.object_grid else said

    @property
    def window_size(self) -> tuple[int, int, int]:
        """Voxels along x, y, z that were asked for."""
        return tuple(part.stop - part.start for part in reversed(self.window))

    @property
    def is_larger(self) -> bool:
        """Whether there are voxels that were not asked for."""
        return any(part != slice(0, n) for part, n in zip(self.window, self.grid.shape))

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The asked part of an array [z, y, x]; the array itself where that is all."""
        return np.ascontiguousarray(array[self.window]) if self.is_larger else array


class Cut:
    """Cuts the asked voxels out of the volumes of a run's states."""

    def __init__(self, domain: Domain):
        self._domain = domain
        self._known: dict[str, tuple[Callable, Callable]] = {}

    def __call__(self, state: State) -> State:
        """`state` with volumes on the asked grid, and its own volume as `whole`."""
        if not self._domain.is_larger:
            return state
        others = {name: self._same(name, volume) for name, volume in state.others.items()}
        return replace(state, volume=self._cut(state.volume), whole=state.volume, others=others)

    def _cut(self, volume: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
        return lambda: self._domain.cut(volume())

    def _same(self, name: str, volume: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
        """The same callable for the same one: that says there is no new volume."""
        known, cut = self._known.get(name, (None, None))
        if known is not volume:
            cut = self._cut(volume)
            self._known[name] = volume, cut
        return cut


def whole(grid: Grid, beyond: float = 0.0, object_grid: Grid | None = None) -> Domain:
    """The asked grid itself."""
    return Domain(grid, tuple(slice(0, n) for n in grid.shape), beyond, object_grid)


def domain(scan: Scan, grid: Grid, fits: Callable[[Grid], bool] = lambda grid: True) -> Domain:
    """The asked grid with as many voxels around it as the object needs; itself where that gains nothing.

    Parameters
    ----------
    scan : Scan
    grid : Grid
        The voxels that were asked for.
    fits : callable
        Whether the memory holds a grid.
    """
    points, seen = _object(scan, grid)
    if not len(points):
        return whole(grid)
    last = np.asarray(grid.size) - 0.5
    blurred = _block_mm(scan.geometry) / np.asarray(grid.spacing_mm)
    outside = ((points < -0.5 - blurred) | (points > last + blurred)).any(axis=1)
    beyond = float(seen[outside].sum() / seen.sum())
    if beyond < LEAST_GAIN:
        return whole(grid, beyond)
    before, after = np.maximum(-0.5 - points.min(axis=0), 0), np.maximum(points.max(axis=0) - last, 0)
    before, after = (np.where(side > 0, side + blurred, 0) for side in (before, after))
    return _widened(grid, before, after, beyond, fits)


def _block_mm(geometry: Geometry) -> float:
    """Edge at the isocentre of the larger side of the blocks of pixels by which the object is known."""
    size, pitch = np.asarray(geometry.detector_shape), np.asarray(geometry.pixel_mm)
    return float((size / np.minimum(size, _BLOCKS) * pitch).max() * (geometry.sid_mm / geometry.sdd_mm).mean())


def _widened(grid: Grid, before: np.ndarray, after: np.ndarray, beyond: float, fits: Callable[[Grid], bool]) -> Domain:
    """The grid with voxels before and after it along x, y, z; fewer of them on all sides where that would be too many."""
    most, all_of_it = max(SMALL, LARGEST * voxels(grid)), None
    for share in np.linspace(1, 0, 41)[:-1]:
        low, high = (np.ceil(share * side - 1e-6).astype(int) for side in (before, after))
        origin = (grid.index_to_world @ [*(-low), 1.0])[:3]
        larger = Grid(tuple(np.asarray(grid.size) + low + high), grid.spacing_mm, tuple(origin), grid.direction)
        if voxels(larger) <= most and fits(larger):
            return Domain(larger, tuple(slice(int(a), int(a) + n) for a, n in zip(low[::-1], grid.shape)), beyond, all_of_it)
        all_of_it = all_of_it or larger
    return whole(grid, beyond, all_of_it)


def _object(scan: Scan, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Points that may belong to the object: (n, 3) in voxel indices x, y, z of `grid`, and how many views see each.

    They lie on a lattice, looked through twice: within what the detector can know of, and within what is left of that.
    """
    views = _Views(scan)
    low, high = _reachable(scan.geometry, grid)
    for _ in range(2):
        ticks = [np.linspace(a, b, _POINTS) for a, b in zip(low, high)]
        index = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
        kept, seen = views.look(index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3])
        index, seen = index[kept], seen[kept]
        if not len(index):
            break
        step = (high - low) / (_POINTS - 1)
        low, high = index.min(axis=0) - step, index.max(axis=0) + step
    return index, seen


def _reachable(geometry: Geometry, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A box in voxel indices, (3,) each, about all that the detector sees and as much again."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    rows, columns = np.abs(geometry.principal_point_mm).max(axis=0)[::-1] + (nv * dv / 2, nu * du / 2)
    half = 2 * float((geometry.sid_mm / geometry.sdd_mm).max() * max(rows, columns))
    corners = np.asarray(geometry.isocentre_mm) + half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    index = corners @ grid.world_to_index[:3, :3].T + grid.world_to_index[:3, 3]
    return index.min(axis=0), index.max(axis=0)


class _Views:
    """Some of a scan's views, binned, and how far the object reaches beyond each."""

    def __init__(self, scan: Scan):
        picked = np.unique(np.linspace(0, scan.views - 1, min(_VIEWS, scan.views)).round().astype(int))
        self.geometry, projections = scan.geometry[picked], scan.projections[picked]
        self.inside = binned(projections) > air_level(projections)
        self.beyond_u, self.beyond_v = (
            np.percentile(reach_mm(stack, geometry, scan.mu_water), _MOST_ROWS, axis=1)
            for stack, geometry in ((projections, self.geometry), (projections.transpose(0, 2, 1), _turned(self.geometry)))
        )

    def look(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which points (n, 3) may belong to the object, and how many views see each."""
        geometry = self.geometry
        (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
        depth, u, v = geometry.shadows(points_mm)
        possible = depth > _NEAREST * geometry.sdd_mm[:, None]
        half_u, half_v = nu * du / 2, nv * dv / 2
        possible &= (u >= -half_u - self.beyond_u[:, :1]) & (u <= half_u + self.beyond_u[:, 1:])
        possible &= (v >= -half_v - self.beyond_v[:, :1]) & (v <= half_v + self.beyond_v[:, 1:])
        rows, columns = self.inside.shape[1:]
        row, column = (
            np.clip(np.nan_to_num((place + half) / (2 * half) * count), 0, count - 1).astype(int)
            for place, half, count in ((v, half_v, rows), (u, half_u, columns))
        )
        possible &= self.inside[np.arange(len(row))[:, None], row, column]
        seen = ((depth > 0) & (np.abs(u) <= half_u) & (np.abs(v) <= half_v)).sum(axis=0)
        return possible.all(axis=0) & (seen > 0), seen


def _turned(geometry: Geometry) -> Geometry:
    """Rows for columns."""
    shape, pitch = geometry.detector_shape[::-1], geometry.pixel_mm[::-1]
    return Geometry(geometry.source, geometry.detector, geometry.v, geometry.u, shape, pitch, geometry.isocentre_mm)


def binned(projections: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels, (views, rows, columns): about 48 along an axis, all where there are no more."""
    for axis in (1, 2):
        first = np.linspace(0, projections.shape[axis], min(_BLOCKS, projections.shape[axis]), endpoint=False).astype(int)
        counts = np.diff(np.append(first, projections.shape[axis]))
        sums = np.add.reduceat(projections, first, axis=axis, dtype=np.float64)
        projections = sums / np.expand_dims(counts, tuple({0, 1, 2} - {axis}))
    return projections
