"""Visual information fidelity in the pixel domain (Sheikh and Bovik 2006, IEEE Trans. Image Process. 15:430, their VIFp).

Both images are seen through a noisy eye. At four scales, in windows of 17, 9, 5 and 3 pixels, the reference c and the image d = g c + v
have variances and a covariance under a Gaussian; the fidelity is the information that the eye takes from the image over that which it
takes from the reference, ``sum log(1 + g^2 s_c / (s_v + s_n)) / sum log(1 + s_c / s_n)``, with s_n = 2 where grey values go to 255.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CONVENTION = (
    "VIF: pixel-domain visual information fidelity (VIFp, Sheikh and Bovik 2006; 4 scales, Gaussian windows of 17, 9, 5, 3 pixels with "
    "sigma N/5, no padding, noise variance 2), mean over axial slices, grey values 0 to 255 after HU [{0:g}, {1:g}], clipped; slices "
    "whose reference is uniform are skipped"
)
_WINDOWS = (17, 9, 5, 3)
_NOISE = 2.0
_TINY = 1e-10
_CHUNK_VOXELS = 2**18


def vif(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean over axial slices of the visual information fidelity of `image`; 1 for the reference itself, above 1 for more contrast.

    Parameters
    ----------
    image, reference : ndarray (z, y, x)
        Grey values 0 to 1.

    Returns
    -------
    float
        NaN where no slice of the reference holds anything, or slices are too small for four scales (41 pixels).
    """
    step = max(1, _CHUNK_VOXELS // (image.shape[1] * image.shape[2]))
    parts = [slice(start, start + step) for start in range(0, image.shape[0], step)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        values = np.concatenate(list(pool.map(lambda part: _of_slices(image[part], reference[part]), parts)))
    values = values[~np.isneginf(values)]
    return float(values.mean()) if values.size else math.nan


def _of_slices(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The fidelity of each slice; minus infinity where the reference is uniform or the slice is too small."""
    d, c = (255 * np.asarray(stack, dtype=np.float64) for stack in (image, reference))
    taken, offered = np.zeros(len(c)), np.zeros(len(c))
    for scale, width in enumerate(_WINDOWS):
        taps = _gaussian(width)
        if scale:
            d, c = (_valid(stack, taps)[:, ::2, ::2] for stack in (d, c))
        if min(c.shape[1:]) < width:
            return np.full(len(c), -np.inf)
        for total, part in zip((taken, offered), _information(d, c, taps)):
            total += part
    return np.divide(taken, offered, out=np.full(len(c), -np.inf), where=~(offered <= _TINY))


def _information(d: np.ndarray, c: np.ndarray, taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the eye takes of each slice of `d`, and of `c`, at one scale."""
    mean_d, mean_c = _valid(d, taps), _valid(c, taps)
    variance_c = np.maximum(_valid(c * c, taps) - mean_c**2, 0)
    variance_d = np.maximum(_valid(d * d, taps) - mean_d**2, 0)
    covariance = _valid(c * d, taps) - mean_c * mean_d
    gain = covariance / (variance_c + _TINY)
    seen = (variance_c >= _TINY) & (variance_d >= _TINY) & (gain > 0)
    rest = np.maximum(variance_d - gain * covariance, _TINY)
    signal = np.where(seen | np.isnan(gain), gain**2 * variance_c / (rest + _NOISE), 0)
    offered = np.where(variance_c >= _TINY, variance_c, 0)
    return np.log1p(signal).sum(axis=(1, 2)), np.log1p(offered / _NOISE).sum(axis=(1, 2))


def _gaussian(width: int) -> np.ndarray:
    taps = np.exp(-0.5 * ((np.arange(width) - width // 2) * 5 / width) ** 2)
    return taps / taps.sum()


def _valid(stack: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """`stack` (slice, row, column) under the window, where the window lies within the slice."""
    from scipy.ndimage import correlate1d

    half = len(taps) // 2
    rows = correlate1d(stack, taps, axis=1, mode="constant")[:, half : stack.shape[1] - half]
    return correlate1d(rows, taps, axis=2, mode="constant")[:, :, half : stack.shape[2] - half]
