"""A cone-beam scan of a CT, as a detector would have measured it.

The object is finer than any grid it is reconstructed on and the detector finer than its pixels, so that the reconstruction does not
invert the very model that made the data: the CT is refined to the detector's resolution at the isocentre, rays are cast to a quarter
of each pixel, and intensities, not line integrals, are averaged over the pixel.

    I = Poisson(I0 <exp(-integral mu dl)> + scatter) + N(0, electronic noise)        p = -ln(I / I0)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .grid import Grid, Volume
from .machine import available_memory_bytes
from .scan import Scan, line_integrals
from .units import MU_WATER, hu_to_mu

log = logging.getLogger("SparseCTReconLib.simulate")

SUPERSAMPLING = 2
LARGEST_REFINED = 400_000_000
BYTES_PER_REFINED_VOXEL = 24
MOST_PHOTONS = 1e15
BODY_HU = -300.0


def simulate(
    ct: Volume,
    views: int = 50,
    *,
    preset: str = "linac",
    geometry: Geometry | None = None,
    photons: float | None = 1e5,
    electronic_noise: float = 10.0,
    scatter_fraction: float = 0.0,
    seed: int = 0,
    mu_water: float = MU_WATER,
    isocentre_mm: tuple[float, float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **geometry_changes,
) -> Scan:
    """Simulate a noisy scan of a CT.

    Parameters
    ----------
    ct : Volume
        HU, any size, spacing and orientation.
    views : int
        Number of views; ignored where `geometry` is given.
    preset : str
        Machine, a name of `geometry.PRESETS`; `geometry_changes` (arc_rad, start_rad, offset_mm, detector_shape, pixel_mm, sid_mm,
        sdd_mm) override it.
    geometry : Geometry, optional
        Poses to use instead of a preset.
    photons : float or None
        Photons that reach a pixel without an object; None for a scan without any noise.
    electronic_noise : float
        Standard deviation of the readout, in photons.
    scatter_fraction : float
        Scattered over all photons in the object's shadow, 0 to below 1; spread evenly over each view.
    seed : int
        Of the noise, 0 or more.
    mu_water : float
        Attenuation of water in 1/mm.
    isocentre_mm : tuple, optional
        LPS position of the isocentre; the CT's middle by default.
    progress : callable, optional
        Called with views done and views to do.

    Returns
    -------
    Scan
        Line integrals [view, v, u]; its provenance tells all of the above.
    """
    _check(ct, photons, electronic_noise, scatter_fraction, seed)
    if geometry is not None:
        preset = None
    else:
        centre = tuple(ct.grid.centre_mm if isocentre_mm is None else isocentre_mm)
        geometry = Geometry.preset(preset, views, isocentre_mm=centre, **geometry_changes)
    _warn_of_truncation(ct, geometry)
    beam = _with_scatter(_expected_intensity(ct, geometry, mu_water, progress), scatter_fraction)
    settings = {
        "photons": photons,
        "electronic_noise": electronic_noise,
        "scatter_fraction": scatter_fraction,
        "seed": seed,
        "preset": preset,
        "ct_grid": ct.grid.to_dict(),
    }
    ours = {key: value for key, value in ct.attributes.items() if key.startswith("SparseCTRecon.")}  # all else may name the patient
    provenance = {"origin": "simulated", **settings, "ct": ours}
    if photons is None:
        return Scan(-np.log(beam.clip(np.finfo(np.float32).tiny)), geometry, None, mu_water, provenance)
    counts = _measure(beam, photons, electronic_noise, np.random.default_rng(seed))
    return Scan(line_integrals(counts, photons), geometry, photons, mu_water, provenance)


def _check(ct, photons, electronic_noise, scatter_fraction, seed):
    if ct.unit != "HU":
        raise InputError(f"the CT is in {ct.unit}: give it in HU", "bad-unit")
    if photons is not None and not 1 <= photons <= MOST_PHOTONS:
        raise InputError(
            f"{photons} photons per pixel: give at least 1 and at most {MOST_PHOTONS:g}, or none at all for a noiseless scan", "bad-photons"
        )
    if seed < 0:
        raise InputError(f"seed {seed}: give 0 or more", "bad-option")
    if not (np.isfinite(electronic_noise) and electronic_noise >= 0):
        raise InputError(f"electronic noise of {electronic_noise} photons: give 0 or more", "bad-photons")
    if not 0 <= scatter_fraction < 1:
        raise InputError(f"a scatter fraction of {scatter_fraction}: give 0 or more and less than 1", "bad-photons")


def _expected_intensity(ct, geometry, mu_water, progress):
    """Mean of exp(-p) over every pixel, float32 [view, v, u]."""
    from .operators import projector

    values, grid = refine(ct, float(np.min(geometry.pixel_mm) * (geometry.sid_mm / geometry.sdd_mm).min()))
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    s = SUPERSAMPLING
    fine = replace(geometry, detector_shape=(nv * s, nu * s), pixel_mm=(dv / s, du / s))
    A = projector(fine, grid)
    mu = A.volume(hu_to_mu(values, mu_water))
    primary = np.empty((geometry.views, nv, nu), dtype=np.float32)
    step = max(1, 4_000_000 // (nv * nu * s * s))
    for first in range(0, geometry.views, step):
        views = slice(first, min(first + step, geometry.views))
        p = A[views](mu).neg_().exp_()
        primary[views] = p.reshape(-1, nv, s, nu, s).mean(dim=(2, 4)).numpy()
        if progress:
            progress(views.stop, geometry.views)
    return primary


def refine(ct: Volume, spacing_mm: float) -> tuple[np.ndarray, Grid]:
    """The CT on voxels no larger than `spacing_mm` along each axis, as far as memory allows: each of its own is a uniform box, whose mean
    stays what it was."""
    import torch

    factors = np.maximum(1, np.ceil(np.array(ct.grid.spacing_mm) / spacing_mm - 1e-3)).astype(int)
    largest = min(LARGEST_REFINED, (available_memory_bytes() or np.inf) / BYTES_PER_REFINED_VOXEL)
    if np.prod(factors * ct.grid.size, dtype=float) > largest:
        log.warning("the memory does not suffice to refine the CT to %.2g mm: fine detail of the projections will be blurred", spacing_mm)
    while np.prod(factors * ct.grid.size, dtype=float) > largest and factors.max() > 1:
        factors[factors.argmax()] -= 1
    values = np.asarray(ct.array, dtype=np.float32)
    if factors.max() == 1:
        return values, ct.grid
    size = tuple(int(n) for n in factors * ct.grid.size)
    spacing = np.array(ct.grid.spacing_mm) / factors
    first = ct.grid.index_to_world[:3, :3] @ ((1 / factors - 1) / 2) + ct.grid.origin_mm
    fine = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size=size[::-1], mode="nearest")
    return fine[0, 0].numpy(), Grid(size, tuple(spacing), tuple(first), ct.grid.direction)


def _with_scatter(primary, scatter_fraction):
    """Intensity with what the object scatters: in each view a constant, by its fraction of all photons in the object's shadow."""
    for image in primary:
        shadow = image[image < 0.9]
        if shadow.size:
            image += scatter_fraction / (1 - scatter_fraction) * shadow.mean()
    return primary


def _measure(beam, photons, electronic_noise, rng):
    """Photon counts, float32 [view, v, u], never negative."""
    counts = np.empty_like(beam)
    for view, mean in enumerate(beam):
        counts[view] = rng.poisson(photons * mean.astype(np.float64)) + rng.normal(0, electronic_noise, mean.shape)
    return counts.clip(0)


def _warn_of_truncation(ct, geometry):
    """Say so where a body reaches sideways out of the field of view: its reconstruction will be wrong near the edge."""
    coarse = ct.array[::4, ::4, ::4]
    index = np.argwhere(coarse > BODY_HU)[:, ::-1] * 4
    if not len(index):
        return
    matrix = ct.grid.index_to_world
    relative = index @ matrix[:3, :3].T + matrix[:3, 3] - geometry.isocentre_mm
    radius, _ = geometry.field_of_view()
    outside = float((np.hypot(relative[:, 0], relative[:, 1]) > radius).mean())
    if outside > 0.01:
        log.warning(
            "%.0f %% of the body lies outside the field of view (radius %.0f mm): the projections are truncated; "
            "use a larger detector or a half-fan offset (preset linac-half-fan)",
            100 * outside,
            radius,
        )
