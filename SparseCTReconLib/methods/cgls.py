"""CGLS as a method: least squares, stopped early."""

from __future__ import annotations

import torch

from ..classical.cgls import cgls
from ..operators import projector
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

    def run(self, scan, grid, options, device="cpu", resume=None):
        A = projector(scan.geometry, grid, device)
        y = A.projections(scan.projections)
        start, done = (A.volume(resume["x"]), int(resume["step"])) if resume else (None, 0)
        scale = float(torch.linalg.vector_norm(y)) or 1.0
        yield from iterate_states(
            cgls(A, y, start),
            "iterating",
            options.iterations,
            done,
            volume=lambda iterate: iterate[0].cpu().numpy(),
            metrics=lambda iterate: {"residual": iterate[1] / scale},
            arrays=lambda iterate: {"x": iterate[0].cpu().numpy()},
        )
