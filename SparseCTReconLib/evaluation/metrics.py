"""Image quality against a reference. Published figures are not comparable across papers: each of these names its convention.

Values are mapped from a window in HU to [0, 1] and clipped before PSNR and SSIM; the root mean square error stays in HU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import vif as _vif

WINDOW_HU = (-1000.0, 1000.0)
DENTAL_WINDOW_HU = (-1000.0, 3000.0)

CONVENTIONS = {
    "psnr_db": "PSNR: over the volume (3D), range 1 after HU [{0:g}, {1:g}] -> [0, 1], clipped",
    "ssim": "SSIM: mean over the three axes of 2D SSIM per slice (11x11 Gaussian, sigma 1.5, zero padding, K1 .01, K2 .03, range 1 "
    "after HU [{0:g}, {1:g}] -> [0, 1], clipped; slices whose reference is empty are skipped), as R2-Gaussian",
    "rmse_hu": "RMSE: root mean square error in HU, not clipped",
    "vif": _vif.CONVENTION,
}
BODY = "over the voxels of the body: the reference's largest region above -500 HU with its holes filled slice by slice"

_TAPS = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_TAPS /= _TAPS.sum()
_C1, _C2 = 0.01**2, 0.03**2
_CHUNK_VOXELS = 2**19


def conventions(window_hu: tuple[float, float] = WINDOW_HU) -> dict[str, str]:
    """The convention behind each figure, by the figure's name."""
    return {name: text.format(*window_hu) for name, text in CONVENTIONS.items()}


def unit_range(hu: np.ndarray, window_hu: tuple[float, float] = WINDOW_HU) -> np.ndarray:
    """`hu` mapped from the window to [0, 1] and clipped, float32."""
    low, high = window_hu
    return np.clip((np.asarray(hu, dtype=np.float32) - low) / (high - low), 0, 1)


def psnr(
    image_hu: np.ndarray, reference_hu: np.ndarray, counted: np.ndarray | None = None, window_hu: tuple[float, float] = WINDOW_HU
) -> float:
    """Peak signal-to-noise ratio in dB over the volume, peak 1 after the window; infinite where both are the same.

    Parameters
    ----------
    image_hu, reference_hu : ndarray (z, y, x)
        HU.
    counted : ndarray of bool (z, y, x), optional
        Voxels that count; all by default.
    window_hu : tuple of float
        HU that are mapped to 0 and 1.
    """
    difference = unit_range(image_hu, window_hu) - unit_range(reference_hu, window_hu)
    error = _mean_square(difference, counted)
    return math.inf if error == 0 else -10 * math.log10(error)


def rmse(image_hu: np.ndarray, reference_hu: np.ndarray, counted: np.ndarray | None = None) -> float:
    """Root mean square error in HU, not clipped, over the counted voxels."""
    return math.sqrt(_mean_square(np.asarray(image_hu, dtype=np.float32) - np.asarray(reference_hu, dtype=np.float32), counted))


def ssim(
    image_hu: np.ndarray, reference_hu: np.ndarray, counted: np.ndarray | None = None, window_hu: tuple[float, float] = WINDOW_HU
) -> float:
    """Structural similarity: the mean over the three axes of the mean over slices of 2D SSIM (Wang et al. 2004; R2-Gaussian's variant).

    Parameters
    ----------
    image_hu, reference_hu : ndarray (z, y, x)
        HU.
    counted : ndarray of bool (z, y, x), optional
        Voxels that count; others enter neither mean (their surroundings still shape the windows). All by default.
    window_hu : tuple of float
        HU that are mapped to 0 and 1.

    Returns
    -------
    float
        NaN where no slice of the reference holds anything.
    """
    return ssims(image_hu, reference_hu, (counted,), window_hu)[0]


def ssims(
    image_hu: np.ndarray,
    reference_hu: np.ndarray,
    counted: Sequence[np.ndarray | None],
    window_hu: tuple[float, float] = WINDOW_HU,
) -> list[float]:
    """`ssim` over each of several sets of voxels, in the time of one."""
    image, reference = unit_range(image_hu, window_hu), unit_range(reference_hu, window_hu)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        axes = [_axis_means(image, reference, counted, axis, pool) for axis in range(3)]
    return [float(value) for value in np.mean(axes, axis=0)]


def vif(image_hu: np.ndarray, reference_hu: np.ndarray, window_hu: tuple[float, float] = WINDOW_HU) -> float:
    """Visual information fidelity, the mean over axial slices; see `evaluation.vif`.

    Parameters
    ----------
    image_hu, reference_hu : ndarray (z, y, x)
        HU.
    window_hu : tuple of float
        HU that are mapped to 0 and 255.
    """
    return _vif.vif(unit_range(image_hu, window_hu), unit_range(reference_hu, window_hu))


def _axis_means(image, reference, counted, axis: int, pool: ThreadPoolExecutor) -> list[float]:
    parts = pool.map(lambda part: _slice_means(image, reference, counted, axis, part), _chunks(image.shape, axis))
    means = [np.concatenate(each) for each in zip(*parts)]
    return [float(each.mean()) if each.size else math.nan for each in means]


def _chunks(shape: tuple[int, ...], axis: int) -> Iterator[slice]:
    step = max(1, _CHUNK_VOXELS * shape[axis] // math.prod(shape))
    return (slice(start, start + step) for start in range(0, shape[axis], step))


def _slice_means(image, reference, counted, axis: int, part: slice) -> list[np.ndarray]:
    """SSIM over each set of counted voxels of each slice in `part` across `axis` whose reference is not empty."""
    a, b = (np.ascontiguousarray(np.moveaxis(volume, axis, 0)[part]) for volume in (image, reference))
    filled = b.max(axis=(1, 2)) > 0
    weights = [np.broadcast_to(True, a.shape) if each is None else np.moveaxis(each, axis, 0)[part] for each in counted]
    weights = [weight[filled] for weight in weights]
    if not any(weight.any() for weight in weights):
        return [np.empty(0) for _ in weights]
    values, means = _ssim_map(a[filled], b[filled]), []
    for weight in weights:
        counts = weight.sum(axis=(1, 2))
        sums = np.sum(values, axis=(1, 2), dtype=np.float64, where=weight)
        means.append(sums[counts > 0] / counts[counts > 0])
    return means


def _ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM (slice, row, column) of a stack of slices."""
    mean_a, mean_b = _window(a), _window(b)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _window(a * b) - product
    variances = _window(a**2 + b**2) - squares
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _window(stack: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    rows = correlate1d(stack, _TAPS, axis=1, mode="constant")
    return correlate1d(rows, _TAPS, axis=2, mode="constant")


def body_mask(reference_hu: np.ndarray) -> np.ndarray:
    """The body in a CT (bool, [z, y, x]): the largest region above -500 HU, its holes filled slice by slice."""
    from scipy import ndimage

    labels, count = ndimage.label(np.asarray(reference_hu) > -500)
    if count == 0:
        return np.zeros(labels.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == sizes.argmax()
    return np.stack([ndimage.binary_fill_holes(part) for part in largest])


def _mean_square(difference: np.ndarray, counted: np.ndarray | None) -> float:
    values = difference.ravel() if counted is None else difference[counted]
    return float(np.mean(np.square(values, dtype=np.float64))) if values.size else math.nan
