"""OS-SART as a method."""

from __future__ import annotations

import torch

from ..classical.os_sart import os_sart
from ..classical.truncation import is_truncated
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from .base import Method, MethodOptions, iterate_states, option

SLOWED = 0.9
"""Of the voxels beyond what a truncated scan sees: 28.5 dB within it instead of 24.3 on a torso; elsewhere it costs .7 dB."""


class OSSARTOptions(MethodOptions):
    iterations: int = option(20, "passes", "Passes over all views.", ge=1, le=1000)
    views_per_subset: int = option(
        5, "views", "Views in a subset; fewer are faster at first and noisier in the end.", ge=1, le=1000, advanced=True
    )
    relaxation: float = option(1.0, "", "Length of the first pass's steps.", gt=0, lt=2, advanced=True)
    decay: float = option(0.97, "", "Factor on the relaxation from pass to pass.", gt=0, le=1, advanced=True)


class OSSART(Method):
    name = "os-sart"
    title = "OS-SART"
    summary = "Algebraic reconstruction with ordered subsets, non-negative: fewer streaks than FDK, no prior."
    citation = (
        "Wang G, Jiang M. Ordered-subset simultaneous algebraic reconstruction techniques (OS-SART). J X-Ray Sci Technol 12(3), 2004."
    )
    Options = OSSARTOptions
    poor_on = {
        "arc": "has nothing to tell what is missing; admm-tv is 4 dB better",
        "truncated": "may be some 20 HU too low towards the edge; admm-tv and cgls are better",
    }

    def run(self, scan, grid, options, device="cpu", resume=None):
        A = projector(scan.geometry, grid, device)
        y = A.projections(scan.projections)
        neighbour = neighbour_weight(scan, grid)
        subsets = max(1, round(scan.views / options.views_per_subset))
        start, done = (A.volume(resume["x"]), int(resume["step"])) if resume else (None, 0)
        scale = float(torch.linalg.vector_norm(y)) or 1.0
        yield from iterate_states(
            os_sart(A, y, subsets, options.relaxation, options.decay, start, done, SLOWED * is_truncated(scan)),
            "iterating",
            options.iterations,
            done,
            volume=lambda iterate: voxel_means(iterate[0].cpu().numpy(), neighbour),
            metrics=lambda iterate: {"residual": iterate[1] / scale},
            arrays=lambda iterate: {"x": iterate[0].cpu().numpy()},
        )
