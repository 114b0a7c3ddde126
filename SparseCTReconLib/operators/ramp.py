"""The ramp filter along detector rows, plain or with a window, as a linear self-adjoint operator.

The kernel is the band-limited ramp sampled in space (Kak and Slaney 1988, eq. 61), which keeps the mean right where a ramp sampled in
frequency does not; rows are padded with zeros so that nothing wraps around. A symmetric kernel makes the operator its own adjoint.
"""

from __future__ import annotations

import numpy as np
import torch

from ..errors import InputError, nearest_name

WINDOWS = {
    "ram-lak": lambda f: np.ones_like(f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(np.pi * f),
    "cosine": lambda f: np.cos(np.pi * f / 2),
}
"""Apodisation over the frequency as a fraction (0 to 1) of the Nyquist frequency."""


class RampFilter:
    """Convolution of every detector row with the ramp.

    Parameters
    ----------
    columns : int
        Length of a row.
    pitch_mm : float
        Distance of neighbouring columns, at the isocentre for FDK.
    window : str
        A name of `WINDOWS`.
    """

    def __init__(self, columns: int, pitch_mm: float, window: str = "ram-lak"):
        if window not in WINDOWS:
            raise InputError(f"no ramp window {window!r}{nearest_name(window, WINDOWS)}", "bad-option")
        self.columns = columns
        self.length = 1 << int(np.ceil(np.log2(2 * columns)))
        n = np.minimum(np.arange(self.length), self.length - np.arange(self.length))
        kernel = np.zeros(self.length)
        kernel[0] = 1 / (4 * pitch_mm)
        odd = n % 2 == 1
        kernel[odd] = -1 / (np.pi**2 * n[odd] ** 2 * pitch_mm)
        response = np.fft.rfft(kernel).real
        response *= WINDOWS[window](np.linspace(0, 1, len(response)))
        self.response = torch.from_numpy(response.astype(np.float32))

    def __call__(self, projections: torch.Tensor) -> torch.Tensor:
        """Filter projections [..., u]; the unit is that of the projections per mm."""
        spectrum = torch.fft.rfft(projections, n=self.length, dim=-1) * self.response.to(projections.device)
        return torch.fft.irfft(spectrum, n=self.length, dim=-1)[..., : self.columns]

    T = __call__

    def few_rows(self, rows: np.ndarray) -> np.ndarray:
        """Filter rows (n, u), float32, in this thread: on a busy machine torch's threads wait for each other longer than that takes."""
        from scipy import fft

        spectrum = fft.rfft(rows, n=self.length, axis=-1) * self.response.numpy()
        return fft.irfft(spectrum, n=self.length, axis=-1)[:, : self.columns]
