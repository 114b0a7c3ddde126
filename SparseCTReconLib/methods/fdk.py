"""FDK as a method."""

from __future__ import annotations

from typing import Literal

import torch

from ..classical.fdk import fdk
from .base import Field, Method, MethodOptions, State


class FDKOptions(MethodOptions):
    window: Literal["hann", "cosine", "ram-lak"] = Field(
        "hann",
        description="Apodisation of the ramp filter: hann is smoothest, ram-lak sharpest and noisiest.",
        json_schema_extra={"unit": ""},
    )


class FDK(Method):
    name = "fdk"
    title = "FDK"
    summary = "Filtered back-projection for cone beams: done in about a second, streaked where views are few."
    citation = "Feldkamp LA, Davis LC, Kress JW. Practical cone-beam algorithm. J Opt Soc Am A 1(6), 1984. doi:10.1364/JOSAA.1.000612"
    Options = FDKOptions

    def run(self, scan, grid, options, device="cpu", resume=None):
        volume = fdk(torch.from_numpy(scan.projections), scan.geometry, grid, options.window)
        yield State("filtered back-projection", 1, 1, lambda: volume.numpy())
