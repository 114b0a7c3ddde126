"""Weights of rays that are measured twice, for programs whose filtered back-projection has none; this project's FDK weighs by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..errors import InputError
from .base import LINE_INTEGRALS, Acquisition, Correction, history

WEIGHED = "redundancy_weights"
"""Key of a scan's provenance that says that its rows are weighed: they are no line integrals any more."""


def is_weighed(data) -> bool:
    """Whether weights of redundant rays were applied to a scan or raw intensities: what is left are no line integrals."""
    found = [entry.get("found") for entry in history(data)]
    return any(isinstance(each, dict) and each.get(WEIGHED) is True for each in found)


class _Weights(Correction):
    domain: ClassVar[str] = LINE_INTEGRALS
    needed_for: ClassVar[str]

    def needed(self, data: Acquisition) -> bool:
        raise NotImplementedError

    def apply(self, data: Acquisition):
        if not self.needed(data):
            if self.mode == "on":
                raise InputError(f"{self.name}: this is no {self.needed_for}: leave it off", "bad-correction")
            return data, {WEIGHED: False}
        from ..classical.fdk import redundancy_weights

        # Rays that are measured twice add up to 2, those that are measured once and count as two have 2: the mean over a full circle is 1.
        weights = 2 * redundancy_weights(data.geometry)[:, None, :]
        return replace(data, values=(data.values * weights).astype(np.float32)), {WEIGHED: True}


class DisplacedDetector(_Weights):
    """Wang's weights of a detector that reaches further on one side, on a full circle; measured: where the geometry has one."""

    name: ClassVar[str] = "displaced-detector"
    title: ClassVar[str] = "Displaced detector (weights)"
    needed_for: ClassVar[str] = "full circle with a displaced detector"

    def needed(self, data: Acquisition) -> bool:
        from ..classical.fdk import is_displaced

        return data.geometry.is_full_circle() and is_displaced(data.geometry)


class ShortScan(_Weights):
    """Parker's weights of an arc of half a turn and more; measured: where the geometry is one."""

    name: ClassVar[str] = "parker"
    title: ClassVar[str] = "Short scan (Parker's weights)"
    needed_for: ClassVar[str] = "short scan"

    def needed(self, data: Acquisition) -> bool:
        from ..classical.fdk import orbit_angles

        return not data.geometry.is_full_circle() and orbit_angles(data.geometry)[1] >= np.pi
