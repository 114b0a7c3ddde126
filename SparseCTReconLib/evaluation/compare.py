"""A reconstruction against its reference, on the reconstruction's grid."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError
from ..grid import Grid, Volume
from ..units import MU_WATER, mu_to_hu
from . import metrics

_SAMPLES_AT_ONCE = 2**24


def evaluate(recon: Volume, reference: Volume, window_hu: tuple[float, float] = metrics.WINDOW_HU) -> dict:
    """Figures of `recon` against `reference`, which is resampled onto the grid of `recon`.

    Parameters
    ----------
    recon, reference : Volume
        In HU or 1/mm.
    window_hu : tuple of float
        HU that PSNR and SSIM map to 0 and 1.

    Returns
    -------
    dict
        psnr_db, ssim, rmse_hu; the same over the body only as body_psnr_db, ...; compared_fraction (the part of the grid that lies within
        the reference: other voxels do not count); conventions {figure: what it is}.

    Raises
    ------
    InputError
        Where the two volumes do not overlap.
    """
    image = in_hu(recon)
    truth, covered = resample(reference, recon.grid)
    if not covered.any():
        raise InputError(
            f"the reconstruction about LPS {_position(recon.grid)} and the reference about {_position(reference.grid)} do not overlap: "
            "give the reference that the scan was made of",
            "no-overlap",
        )
    image = np.where(covered, image, metrics.WINDOW_HU[0])
    counted = None if covered.all() else covered
    body = metrics.body_mask(truth) & covered
    found = {
        "psnr_db": metrics.psnr(image, truth, counted, window_hu),
        "ssim": metrics.ssim(image, truth, counted, window_hu),
        "rmse_hu": metrics.rmse(image, truth, counted),
        "body_psnr_db": metrics.psnr(image, truth, body, window_hu),
        "body_ssim": metrics.ssim(image, truth, body, window_hu),
        "body_rmse_hu": metrics.rmse(image, truth, body),
    }
    named = metrics.conventions(window_hu)
    named |= {f"body_{name}": f"{text}; {metrics.BODY}" for name, text in named.items()}
    figures = {name: round(value, 6) if math.isfinite(value) else None for name, value in found.items()}
    return {**figures, "compared_fraction": round(float(covered.mean()), 6), "conventions": named}


def in_hu(volume: Volume) -> np.ndarray:
    """Values of `volume` in HU, with the attenuation of water that it says it was made with."""
    if volume.unit == "HU":
        return np.asarray(volume.array, dtype=np.float32)
    return np.asarray(mu_to_hu(volume.array, float(volume.attributes.get("SparseCTRecon.mu_water_per_mm", MU_WATER))), dtype=np.float32)


def resample(volume: Volume, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """`volume` in HU on `grid`, and which voxels of `grid` lie within it.

    Where the grid is coarser, the mean over each of its voxels is taken (of linear samples as dense as the volume's own), so that nothing
    is aliased; where it is finer or equal, one linear sample.

    Returns
    -------
    values : ndarray (z, y, x), float32
        Air (-1000 HU) outside.
    within : ndarray of bool (z, y, x)
    """
    if volume.grid.matches(grid):
        return in_hu(volume).copy(), np.ones(grid.shape, bool)
    samples = _samples_per_voxel(volume.grid, grid)
    image = _image(Volume(in_hu(volume), volume.grid))
    slices = max(1, int(_SAMPLES_AT_ONCE // (grid.size[0] * grid.size[1] * np.prod(samples))))
    parts = [_slab(image, grid, start, min(start + slices, grid.size[2]), samples) for start in range(0, grid.size[2], slices)]
    values = np.concatenate(parts)
    within = np.isfinite(values)
    return np.where(within, values, np.float32(-1000)), within


def _samples_per_voxel(source: Grid, target: Grid) -> np.ndarray:
    """Samples along each axis of the target that follow each other no further apart than the source's voxels."""
    steps = np.abs(source.direction.T @ target.direction) * np.asarray(target.spacing_mm)
    ratio = (steps / np.asarray(source.spacing_mm)[:, None]).max(axis=0)
    return np.maximum(1, np.ceil(ratio - 1e-3)).astype(int)


def _slab(image, grid: Grid, start: int, stop: int, samples: np.ndarray) -> np.ndarray:
    """Means over the voxels of slices `start` to `stop`; NaN where a sample lies outside `image`."""
    import SimpleITK

    fine_spacing = np.asarray(grid.spacing_mm) / samples
    first = (1 / samples - 1) / 2 + [0, 0, start]
    filter_ = SimpleITK.ResampleImageFilter()
    filter_.SetSize([int(n) for n in np.array([grid.size[0], grid.size[1], stop - start]) * samples])
    filter_.SetOutputSpacing(fine_spacing.tolist())
    filter_.SetOutputOrigin((grid.index_to_world @ [*first, 1.0])[:3].tolist())
    filter_.SetOutputDirection(grid.direction.ravel().tolist())
    filter_.SetInterpolator(SimpleITK.sitkLinear)
    filter_.SetDefaultPixelValue(math.nan)
    fine = filter_.Execute(image)
    mx, my, mz = samples
    shape = (stop - start, mz, grid.size[1], my, grid.size[0], mx)
    return SimpleITK.GetArrayViewFromImage(fine).reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)


def _image(volume: Volume):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array, dtype=np.float32))
    image.SetSpacing(volume.grid.spacing_mm)
    image.SetOrigin(volume.grid.origin_mm)
    image.SetDirection(volume.grid.direction.ravel().tolist())
    return image


def _position(grid: Grid) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in grid.centre_mm) + ") mm"
