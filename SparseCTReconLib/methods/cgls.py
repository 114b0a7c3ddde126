"""CGLS as a method: least squares, stopped early."""

from __future__ import annotations

import numpy as np
import torch

from ..classical.cgls import CGLSState, begin, cgls
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from .base import Method, MethodOptions, iterate_states, option


class CGLSOptions(MethodOptions):
    iterations: int = option(15, "iterations", "Iterations; stopping early is the only regularisation.", ge=1, le=1000)


class CGLS(Method):
    name = "cgls"
    title = "CGLS"
    summary = "Least squares by conjugate gradients: no prior at all; the number of iterations trades streaks for noise."
    citation = (
        "Hestenes MR, Stiefel E. Methods of conjugate gradients for solving linear systems. J Res NBS 49(6), 1952. doi:10.6028/jres.049.044"
    )
    Options = CGLSOptions
    poor_on = {"arc": "has nothing to tell what is missing; admm-tv is 5 dB better"}

    def run(self, scan, grid, options, device="cpu", resume=None):
        A = projector(scan.geometry, grid, device)
        y = A.projections(scan.projections)
        neighbour = neighbour_weight(scan, grid)
        scale = float(torch.linalg.vector_norm(y)) or 1.0
        if resume:
            start = CGLSState(A.volume(resume["x"]), A.projections(resume["r"]), A.volume(resume["p"]), float(resume["gamma"]))
        yield from iterate_states(
            cgls(A, start if resume else begin(A, y)),
            "iterating",
            options.iterations,
            int(resume["step"]) if resume else 0,
            volume=lambda state: voxel_means(state.x.cpu().numpy(), neighbour),
            metrics=lambda state: {"residual": float(torch.linalg.vector_norm(state.r)) / scale},
            arrays=lambda state: {name: np.array(value) for name, value in state._asdict().items()},
        )
