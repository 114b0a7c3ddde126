"""Lag: what a flat panel still says of the frames before (Hsieh, Gurmen and King 2000, IEEE TMI 19(9)).

    y_k = b_0 x_k + sum_n b_n sum_{j <= k} x_j exp(-a_n (k - j)),      b_0 = 1 - sum_n b_n

Frame by frame the state S_n of each decay is known from those before, so that x_k follows:

    x_k = (y_k - sum_n b_n exp(-a_n) S_n) / sum_{n >= 0} b_n,          S_n <- x_k + exp(-a_n) S_n
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import INTENSITIES, Acquisition, Correction, parameter


class Lag(Correction):
    """A sum of decays, undone frame by frame. The views must be all of the scan's frames, in the order in which they were taken."""

    name: ClassVar[str] = "lag"
    title: ClassVar[str] = "Lag"
    domain: ClassVar[str] = INTENSITIES
    unmeasurable: ClassVar[str] = "it takes frames after the beam went off; give lag.rates and lag.shares of your detector"

    rates: tuple[float, ...] = parameter(
        (0.7055, 0.1141, 0.0212, 0.0033), "1/frame", "decays a_n; by default of a flat panel as itk-rtk's example has them"
    )
    shares: tuple[float, ...] = parameter((2.911e-3, 0.4454e-3, 0.0748e-3, 0.0042e-3), "", "shares b_n of the signal, one for each decay")

    def apply(self, data: Acquisition):
        self._check(data)
        decays, shares = np.exp(-np.asarray(self.rates)), np.asarray(self.shares)
        states = np.zeros((len(decays), *data.geometry.detector_shape))
        out = np.empty_like(data.values)
        for k, frame in enumerate(data.values):
            states *= decays[:, None, None]
            x = frame - np.tensordot(shares, states, axes=1)  # the shares with b_0 add up to 1
            states += x
            out[k] = x
        return replace(data, values=np.maximum(out, 0)), {}

    def _check(self, data: Acquisition):
        if len(self.rates) != len(self.shares) or not self.rates:
            raise InputError(
                f"lag has {len(self.rates)} rates and {len(self.shares)} shares: give one share for each rate", "bad-correction"
            )
        if min(self.rates) <= 0 or min(self.shares) < 0 or sum(self.shares) >= 0.5:
            raise InputError("lag: rates must be above 0, shares 0 or more and together below .5", "bad-correction")
        angles = data.geometry.gantry_angles_rad
        steps = np.angle(np.exp(1j * np.diff(angles)))
        if len(steps) and not ((steps > 0).all() or (steps < 0).all()):
            raise InputError(
                "lag: the views are not in the order in which the gantry turned: sort them, and leave none out", "bad-correction"
            )
