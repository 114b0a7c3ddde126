"""X-rays of a scan's patient from where none was taken, as X-GRM's Gaussians cast them."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from .. import methods, weights
from ..fields.anatomy import propose
from ..geometry import Geometry, default_grid
from ..grid import Grid
from ..networks import scan_range, xgrm_weights
from ..networks.xgrm_result import Reconstruction
from ..scan import Scan
from .admm_tv import first_volume
from .checks import check_memory, fits_memory, free_bytes
from .domain import domain
from .feed_forward import check_views
from .reconstruct import DISCLAIMER, choose_device
from .surroundings import without_surroundings

log = logging.getLogger(__name__)


def novel_views(scan: Scan, geometry: Geometry, weights: str = "auto", grid: Grid | None = None, device: str = "auto") -> Scan:
    """Render X-rays.

    Parameters
    ----------
    scan : Scan
        Three views or more.
    geometry : Geometry
        Of the X-rays to make, in the scan's frame; `orbit_like` gives a machine's.
    weights : str
        X-GRM's: a name, a file, or "auto" for what the scan seems to show.
    grid : Grid, optional
        Places of the Gaussians, and more around them where the object reaches beyond, see `domain`; by default those of the scan's field
        of view.
    device : str
        "auto", "cpu" or "cuda".

    Returns
    -------
    Scan
        Line integrals without noise; its provenance says that they were not measured, from which scan they come, and by which weights.

    Raises
    ------
    InputError
        For too few views, weights that are missing or no good, or a device that is not there.
    """
    method = methods.get("x-grm")
    check_views("X-GRM", scan)
    device, grid = choose_device(device, method), grid or default_grid(scan.geometry)
    options, free = method.Options(weights=weights), free_bytes(device)
    check_memory(method, scan, grid, options, free)
    network, file = xgrm_weights.load(_chosen(weights, scan))
    network = network.to(device)
    warning = scan_range.warning(file.card, file.name, scan, partial(scan_range.features, network, scan))
    if warning:
        log.warning(warning)
    provenance = {
        "novel_views": "rendered by X-GRM, not measured",
        "of_scan_sha256": scan.content_hash(),
        "weights": file.source,
        "warnings": warning,
        "disclaimer": DISCLAIMER,
    }
    works_on = domain(scan, grid, lambda larger: fits_memory(method, scan, larger, options, free))
    measured = without_surroundings(scan, works_on)
    first = first_volume(measured, works_on.grid) if network.size.around else None
    rendered = np.maximum(Reconstruction(network, measured, works_on.grid, first).xrays(geometry), 0)
    return Scan(rendered, geometry, None, scan.mu_water, provenance)


def _chosen(choice: str, scan: Scan):
    return weights.choose(choice, methods.get("x-grm").kind, scan.views, partial(propose, scan))


def orbit_like(geometry: Geometry, views: int, arc_rad: float = 2 * np.pi, start_rad: float = 0.0) -> Geometry:
    """A circular orbit of a scan's machine: its distances, its detector, centred."""
    distances = float(geometry.sid_mm.mean()), float(geometry.sdd_mm.mean())
    made = {"arc_rad": arc_rad, "start_rad": start_rad, "isocentre_mm": geometry.isocentre_mm}
    return Geometry.circular(views, *distances, geometry.detector_shape, geometry.pixel_mm, **made)
