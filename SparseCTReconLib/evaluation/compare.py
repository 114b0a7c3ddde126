"""A reconstruction against its reference, on the reconstruction's grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..units import AIR_HU, MU_WATER, mu_to_hu
from . import metrics

IN_VIEW = "over the voxels of the scan's field of view: seen by enough views, so that each direction is looked along"

_SAMPLES_AT_ONCE = 2**24


def evaluate(
    recon: Volume, reference: Volume, window_hu: tuple[float, float] = metrics.WINDOW_HU, geometry: Geometry | None = None
) -> dict:
    """Figures of `recon` against `reference`, which is resampled onto the grid of `recon`.

    Parameters
    ----------
    recon, reference : Volume
        In HU or 1/mm.
    window_hu : tuple of float
        HU that PSNR and SSIM map to 0 and 1.
    geometry : Geometry, optional
        Of the scan that `recon` was made from: figures within its field of view are given too.

    Returns
    -------
    dict
        psnr_db, ssim, rmse_hu, vif; the first three over the body only as body_psnr_db, ...; compared_fraction (the part of the grid
        that lies within the reference: other voxels do not count); with a geometry fov_psnr_db, ... over the voxels that enough views
        see, and fov_fraction, their part of the grid; conventions {figure: what it is}.

    Raises
    ------
    InputError
        Where the two volumes do not overlap or are not finite.
    """
    return image_figures(aligned(recon, reference), window_hu, geometry) | {"conventions": conventions(window_hu, geometry is not None)}


def image_figures(
    pair: Pair, window_hu: tuple[float, float] = metrics.WINDOW_HU, geometry: Geometry | None = None, scanned: Grid | None = None
) -> dict:
    """What `evaluate` returns, without the conventions, of volumes that are on the same voxels already; None where undefined. `scanned`:
    where these voxels are to the `geometry`, if not where they are in the pair."""
    image, truth, counted = pair.image, pair.truth, None if pair.whole else pair.within
    body = metrics.body_mask(truth) & pair.within
    view = None if geometry is None else _in_view(geometry, scanned or pair.grid) & pair.within
    ssim, body_ssim, *fov_ssim = metrics.ssims(image, truth, (counted, body, *([] if view is None else [view])), window_hu)
    found = {
        "psnr_db": metrics.psnr(image, truth, counted, window_hu),
        "ssim": ssim,
        "rmse_hu": metrics.rmse(image, truth, counted),
        "vif": metrics.vif(image, truth, window_hu),
        "body_psnr_db": metrics.psnr(image, truth, body, window_hu),
        "body_ssim": body_ssim,
        "body_rmse_hu": metrics.rmse(image, truth, body),
    }
    if view is not None:
        found |= {
            "fov_psnr_db": metrics.psnr(image, truth, view, window_hu),
            "fov_ssim": fov_ssim[0],
            "fov_rmse_hu": metrics.rmse(image, truth, view),
            "fov_fraction": float(view.mean()),
        }
    figures = {name: round(value, 6) if math.isfinite(value) else None for name, value in found.items()}
    return {**figures, "compared_fraction": round(float(pair.within.mean()), 6)}


def _in_view(geometry: Geometry, grid: Grid) -> np.ndarray:
    from ..operators.field_of_view import ENOUGH, field_of_view

    return field_of_view(geometry, grid) >= ENOUGH


def conventions(window_hu: tuple[float, float] = metrics.WINDOW_HU, in_view: bool = False) -> dict[str, str]:
    """What each figure of `evaluate` is; `in_view`: those within the field of view, too."""
    named = metrics.conventions(window_hu)
    seen = {f"fov_{name}": f"{text}; {IN_VIEW}" for name, text in named.items() if name != "vif"} if in_view else {}
    return seen | named | {f"body_{name}": f"{text}; {metrics.BODY}" for name, text in named.items() if name != "vif"}


@dataclass(frozen=True)
class Pair:
    """A reconstruction and its reference on the same voxels.

    Parameters
    ----------
    image, truth : ndarray (z, y, x), float32
        HU; air in both where the reference does not reach.
    within : ndarray of bool (z, y, x)
        Voxels within the reference.
    grid : Grid
        That of the reconstruction.
    """

    image: np.ndarray
    truth: np.ndarray
    within: np.ndarray
    grid: Grid

    def with_image(self, recon: Volume) -> Pair:
        """The same reference beside another reconstruction on the same grid."""
        image = in_hu(recon)
        check_finite(image, "reconstruction")
        return Pair(np.where(self.within, image, np.float32(AIR_HU)), self.truth, self.within, self.grid)

    @property
    def whole(self) -> bool:
        """Whether the reference reaches everywhere."""
        return bool(self.within.all())


def aligned(recon: Volume, reference: Volume) -> Pair:
    """`reference` resampled onto the grid of `recon`, beside it.

    Raises
    ------
    InputError
        Where the two volumes do not overlap, or one has voxels that are no finite numbers.
    """
    image = in_hu(recon)
    check_finite(image, "reconstruction")
    check_finite(in_hu(reference), "reference")
    truth, within = resample(reference, recon.grid)
    if not within.any():
        raise InputError(
            f"the reconstruction about LPS {_position(recon.grid)} and the reference about {_position(reference.grid)} do not overlap: "
            "give the reference that the scan was made of",
            "no-overlap",
        )
    return Pair(np.where(within, image, np.float32(AIR_HU)), truth, within, recon.grid)


def check_finite(hu: np.ndarray, what: str) -> None:
    """Refuse voxels that are NaN or infinite."""
    bad = hu.size - int(np.isfinite(hu).sum())
    if bad:
        raise InputError(f"{bad} of {hu.size} voxels of the {what} are not finite numbers: reconstruct or export it again", "not-finite")


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
    return np.where(within, values, np.float32(AIR_HU)), within


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
