"""Dark and flat field: what the detector says without a beam, and what each pixel makes of the beam without an object.

T = (I - dark) / (flat - dark)
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def field_of(frames: np.ndarray, shape: tuple[int, int], what: str) -> np.ndarray:
    """A field (v, u), float32, of one image of the detector or of several, which are averaged.

    Raises
    ------
    InputError
        Where the field has other pixels than the detector or values that are not finite.
    """
    frames = np.asarray(frames)
    if frames.ndim not in (2, 3) or frames.shape[-2:] != tuple(shape):
        raise InputError(
            f"the {what} has {frames.shape} pixels, the detector {tuple(shape)} (v, u): give one image of the detector", "bad-stack"
        )
    if not np.isfinite(frames).all():
        raise InputError(f"the {what} has values that are not finite: take another image", "not-finite")
    return frames.reshape(-1, *shape).mean(axis=0, dtype=np.float64).astype(np.float32)


def gain_of(dark: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """What each pixel (v, u) makes of the beam; 0 where it makes nothing of it.

    Raises
    ------
    InputError
        Where that is most of them.
    """
    gain = np.maximum(flat - dark, 0)
    if (gain == 0).mean() > 0.5:
        raise InputError("the flat field is no brighter than the dark field: the two may be exchanged", "bad-correction")
    return gain


def transmissions(intensities: np.ndarray, dark: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(I - dark) / gain of images [..., v, u], float32; 0 for pixels without gain, below 0 where they are darker than the dark field."""
    return np.divide(intensities - dark, gain, out=np.zeros(intensities.shape, np.float32), where=gain > 0, dtype=np.float32)
