"""novel-views: X-rays from where none was taken, as a scan folder."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from .. import formats
from ..jobs.files import check_place
from ..jobs.tasks import grid_about
from ..scan import Scan
from .running import view_of
from .scan import absolute


def write_novel_views(
    scan: Path, out: Path, views: int, orbit_deg: tuple[float, float], weights: str, size: tuple | None, device: str, console: Console
) -> Scan:
    """Render X-rays of a scan's patient with its machine and write them; returns them.

    Parameters
    ----------
    orbit_deg : tuple of float
        Length of the orbit and first gantry angle.
    size : tuple of int or None
        Gaussians along x, y, z of the field of view.
    """
    from ..methods.novel_views import novel_views, orbit_like

    out = absolute(out)
    check_place(out, folder=True)
    with view_of("novel-views", console) as view:
        view.take({"event": "stage", "name": "reading the scan"})
        of = formats.read_scan(absolute(scan))
        geometry = orbit_like(of.geometry, views, *map(math.radians, orbit_deg))
        grid = grid_about(of.geometry, size, None) if size else None
        view.take({"event": "stage", "name": "rendering"})
        made = novel_views(of, geometry, weights, grid, device)
        view.take({"event": "stage", "name": "writing the scan"})
        formats.write_scan(made, out)
    return made
