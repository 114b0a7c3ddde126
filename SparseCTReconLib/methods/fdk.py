"""FDK as a method."""

from __future__ import annotations

from typing import Literal

from ..classical.truncation import fdk_of
from .base import Method, MethodOptions, State, option


class FDKOptions(MethodOptions):
    window: Literal["hann", "cosine", "ram-lak"] = option("hann", "", "Window of the ramp: hann is smoothest, ram-lak sharpest.")


class FDK(Method):
    name = "fdk"
    title = "FDK"
    summary = "Filtered back-projection for cone beams: done in about a second, streaked where views are few."
    citation = "Feldkamp LA, Davis LC, Kress JW. Practical cone-beam algorithm. J Opt Soc Am A 1(6), 1984. doi:10.1364/JOSAA.1.000612"
    needs_whole_object = False
    poor_on = {
        "arc": "leaves out what the missing views would have shown; iterative methods are 4 to 10 dB better",
        "gaps": "lets the views beside a gap stand for it; iterative methods are better",
        "no circle": "weighs views as if they did and may be wrong all over; take another method",
    }
    Options = FDKOptions

    def run(self, scan, grid, options, device="cpu", resume=None):
        volume = fdk_of(scan, grid, options.window)
        yield State("filtered back-projection", 1, 1, lambda: volume.numpy())
