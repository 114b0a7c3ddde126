"""What can be said of a scan, a grid and a method before the work starts: whether rays meet the grid, how well the views cover it, whether
the memory holds it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid
from ..machine import available_memory_bytes
from ..scan import Scan
from .base import Method, MethodOptions
from .memory import PROGRAM_BYTES, fitting_size

_SAMPLES, _VIEWS = 12, 64
_FEW, _SHARE = 0.25, 0.05
_FLAT = 0.5
_SLACK_RAD = np.radians(2.0)


def check_memory(method: Method, scan: Scan, grid: Grid, options: MethodOptions, available: float | None) -> None:
    """Refuse what the memory cannot hold, with what it needs and what to lower.

    Parameters
    ----------
    method, scan, grid, options
        What is to run.
    available : float or None
        Bytes that are free; None where the system does not say.

    Raises
    ------
    InputError
    """

    def need(grid: Grid = grid, options: MethodOptions = options) -> float:
        return PROGRAM_BYTES + method.memory_bytes(grid, scan, options)

    if fits_memory(method, scan, grid, options, available):
        return
    ways = [f"--set {name}={value}" for name in method.memory_options if (value := _fitting_option(options, name, need, available))]
    if size := fitting_size(grid, need, available):
        spacing = np.asarray(grid.extent_mm) / size
        ways.append(f"--size {' '.join(map(str, size))} or smaller (spacing {triple(spacing)} mm)")
    way_out = f"give {', or '.join(ways)}" if ways else "the projections alone fill it; bin the detector or take fewer views"
    raise InputError(
        f"a volume of {' x '.join(map(str, grid.size))} voxels needs about {need() / 1e9:.1f} GB with {method.name}, "
        f"{available / 1e9:.1f} GB are free: {way_out}",
        "too-large",
    )


def fits_memory(method: Method, scan: Scan, grid: Grid, options: MethodOptions, available: float | None) -> bool:
    """Whether `available` bytes hold what is to run; so it is taken where the system does not say."""
    return available is None or PROGRAM_BYTES + method.memory_bytes(grid, scan, options) <= available


def free_bytes(device: str) -> float | None:
    """Memory of "cpu" or "cuda" that is free; None where the system does not say."""
    if device != "cuda":
        return available_memory_bytes()
    import torch

    return torch.cuda.mem_get_info()[0]


def _fitting_option(options: MethodOptions, name: str, need, available: float) -> int | None:
    """The largest lower value of a whole-numbered option with which the method fits."""
    return next((value for value, lowered in _lowered(options, name) if need(options=lowered) <= available), None)


def halved(method: Method, options: MethodOptions) -> Iterator[tuple[str, int]]:
    """The options that decide how much memory a method takes, with half of their present values or less."""
    for name in method.memory_options:
        half = (options.chosen(name) or 0) // 2
        found = next((value for value, _ in _lowered(options, name) if value <= half), None)
        if found:
            yield name, found


def _lowered(options: MethodOptions, name: str) -> Iterator[tuple[int, MethodOptions]]:
    from pydantic import ValidationError

    value = options.chosen(name) or 0
    while value > 1:
        value = value - 1 if value <= 64 else value // 2
        try:
            yield value, type(options)(**options.model_dump() | {name: value})
        except ValidationError:
            continue


def rays_meet(geometry: Geometry, grid: Grid) -> bool:
    """Whether the shadow of the grid's box falls on the detector in at least one view."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    index = np.array([[i, j, k] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * np.asarray(grid.size) - 0.5
    depth, u, v = geometry.shadows(_world(grid, index))
    if (depth <= 0).any():
        return True
    half_u, half_v = nu * du / 2, nv * dv / 2
    on_detector = (u.min(1) < half_u) & (u.max(1) > -half_u) & (v.min(1) < half_v) & (v.max(1) > -half_v)
    return bool(on_detector.any())


def coverage_warnings(geometry: Geometry, grid: Grid) -> list[str]:
    """What the views do not show of the grid, one sentence each: an orbit that is too short, voxels that few views see."""
    found = [_short_arc(geometry, grid), _rarely_seen(geometry, grid)]
    return [sentence for sentence in found if sentence]


def _short_arc(geometry: Geometry, grid: Grid) -> str | None:
    """Half a turn and the fan are what every ray through the object needs to be measured at least once."""
    source = geometry.source - np.asarray(geometry.isocentre_mm)
    flat = (np.abs(source[:, 2]) < _FLAT * np.linalg.norm(source, axis=1)).all()
    if not flat or geometry.is_full_circle():
        return None
    angles = np.sort(geometry.gantry_angles_rad)
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    arc = 2 * np.pi - gaps.max()
    radius = min(geometry.field_of_view()[0] or np.inf, max(grid.extent_mm[:2]) / 2)
    needed = np.pi + 2 * np.arcsin(min(1.0, radius / geometry.sid_mm.mean()))
    if arc >= needed - _SLACK_RAD:
        return None
    return (
        f"the views span {np.degrees(arc):.0f} degrees, half a turn and the fan are {np.degrees(needed):.0f}: "
        "edges that no view looks along will be blurred or missing"
    )


def _rarely_seen(geometry: Geometry, grid: Grid) -> str | None:
    share = float((seen_share(geometry, grid) < _FEW).mean())
    if share <= _SHARE:
        return None
    return (
        f"{100 * share:.0f} % of the grid's voxels are seen by less than a quarter of the views: do not trust them; "
        "give a smaller grid about the isocentre or a scan that covers it"
    )


def seen_share(geometry: Geometry, grid: Grid) -> np.ndarray:
    """Share of the views, 0 to 1, on whose detector a point falls, for points spread evenly over the grid (a dozen along each axis)."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    if geometry.views > _VIEWS:
        geometry = geometry[np.linspace(0, geometry.views - 1, _VIEWS).round().astype(int)]
    counts = np.minimum(grid.size, _SAMPLES)
    ticks = [(np.arange(count) + 0.5) * n / count - 0.5 for count, n in zip(counts, grid.size)]
    index = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    depth, u, v = geometry.shadows(_world(grid, index))
    return ((depth > 0) & (np.abs(u) < nu * du / 2) & (np.abs(v) < nv * dv / 2)).mean(axis=0)


def _world(grid: Grid, index: np.ndarray) -> np.ndarray:
    return index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]


def triple(values) -> str:
    """Three numbers in brackets, for a message."""
    return "(" + ", ".join(f"{float(value):.4g}" for value in values) + ")"
