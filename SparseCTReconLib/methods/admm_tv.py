"""ADMM-TV as a method: total variation with a weight that follows the data."""

from __future__ import annotations

import numpy as np
import torch

from ..classical.admm_tv import ADMMState, admm_tv
from ..classical.weights import measurement_weights, total_variation_weight
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from ..operators.tv import TotalVariationProx
from .base import Method, MethodOptions, iterate_states, option


class ADMMTVOptions(MethodOptions):
    iterations: int = option(40, "passes", "Passes over all views.", ge=1, le=2000)
    strength: float = option(
        1.0, "", "Factor on the weight of total variation, which follows views, grid and noise; 2 is visibly smoother.", gt=0, le=100
    )
    views_per_subset: int = option(5, "views", "Views in a subset; fewer are faster, as long as the subsets agree.", ge=1, le=1000)
    prox_iterations: int = option(3, "iterations", "Iterations of the total-variation step in each update.", ge=1, le=100)


class ADMMTV(Method):
    name = "admm-tv"
    title = "ADMM-TV"
    summary = "Total variation, non-negative: sharp edges, no streaks, thin texture lost; the classical method to beat."
    citation = (
        "Nien H, Fessler JA. Fast X-ray CT image reconstruction using a linearized augmented Lagrangian method with ordered subsets. "
        "IEEE Trans Med Imaging 34(2), 2015. doi:10.1109/TMI.2014.2358499"
    )
    Options = ADMMTVOptions

    def run(self, scan, grid, options, device="cpu", resume=None):
        A = projector(scan.geometry, grid, device)
        y = A.projections(scan.projections)
        neighbour = neighbour_weight(scan, grid)
        prox = TotalVariationProx(A.volume_shape, options.prox_iterations)
        start, done = ADMMState(A.zeros(), None, None, 0, max(1, round(scan.views / options.views_per_subset))), 0
        if resume:
            x, g = A.volume(resume["x"]), A.volume(resume["g"])
            start, done = ADMMState(x, None, g, int(resume["updates"]), int(resume["subsets"])), int(resume["step"])
            prox.dual[...] = resume["dual"]
        weights = measurement_weights(scan, grid)
        weights = torch.ones_like(y) if weights is None else A.projections(weights)
        tv_weight = options.strength * total_variation_weight(A)
        scale = float(torch.linalg.vector_norm(y)) or 1.0
        yield from iterate_states(
            admm_tv(A, y, weights, tv_weight, prox, start),
            "iterating",
            options.iterations,
            done,
            volume=lambda state: voxel_means(state.x.cpu().numpy(), neighbour),
            metrics=lambda state: {"residual": state.residual / scale},
            arrays=lambda state: {
                "x": state.x.cpu().numpy(),
                "g": state.g.cpu().numpy(),
                "dual": prox.dual,
                "updates": np.array(state.updates),
                "subsets": np.array(state.subsets),
            },
        )
