"""ADMM-TV as a method: total variation with a weight that follows the data, plain or reweighted at the edges it finds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..classical.admm_tv import EDGE, RESTART, ADMMState, edge_weights, reweighted
from ..classical.weights import measurement_weights, total_variation_weight
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from ..operators.tv import TotalVariationProx
from .base import Method, MethodOptions, iterate_states, option

PASSES, UPDATES = (40, 10), (200, 40)
"""What convergence takes, and what each reweighting: passes over all views, and updates with a subset of them; the larger one counts."""


class ADMMTVOptions(MethodOptions):
    iterations: int | None = option(
        None,
        "passes",
        "Passes over all views, those for reweightings included. Default: enough to converge, more for fewer views.",
        ge=1,
        le=5000,
    )
    strength: float = option(
        1.0, "", "Factor on the weight of total variation, which follows views, grid and noise; 2 is visibly smoother.", gt=0, le=100
    )
    reweightings: int = option(0, "", "Times that the weight is lowered at the edges found so far; 2 keeps edges' contrast.", ge=0, le=20)
    views_per_subset: int = option(
        5, "views", "Views in a subset; fewer are faster, as long as the subsets agree.", ge=1, le=1000, advanced=True
    )
    prox_iterations: int = option(3, "iterations", "Iterations of the total-variation step in each update.", ge=1, le=100, advanced=True)

    def turns(self, views: int) -> list[int]:
        """Passes before the first reweighting, between reweightings, and after the last."""
        turns = [max(passes, -(-updates // self.subsets(views))) for passes, updates in zip(PASSES, UPDATES)]
        turns = [turns[0], *[turns[1]] * self.reweightings]
        if self.iterations is None:
            return turns
        ends = np.round(np.cumsum(turns) * self.iterations / sum(turns)).astype(int)
        return np.diff(ends, prepend=0).tolist()

    def subsets(self, views: int) -> int:
        """Subsets of the views."""
        return max(1, round(views / self.views_per_subset))


class ADMMTV(Method):
    name = "admm-tv"
    title = "ADMM-TV"
    summary = "Total variation, non-negative: sharp edges, no streaks, thin texture lost; the classical method to beat."
    citation = (
        "Nien H, Fessler JA. Fast X-ray CT image reconstruction using a linearized augmented Lagrangian method with ordered subsets. "
        "IEEE Trans Med Imaging 34(2), 2015. doi:10.1109/TMI.2014.2358499"
    )
    Options = ADMMTVOptions
    presets = {"recommended": {}, "reweighted": {"reweightings": 2}}

    def run(self, scan, grid, options, device="cpu", resume=None):
        turns = options.turns(scan.views)
        solver = Solver(scan, grid, options, device)
        done = solver.resume(resume) if resume else 0
        scale = float(torch.linalg.vector_norm(solver.y)) or 1.0
        neighbour = neighbour_weight(scan, grid)
        yield from iterate_states(
            solver.states(turns, done),
            "iterating",
            sum(turns),
            done,
            volume=lambda state: voxel_means(state.x.cpu().numpy(), neighbour),
            metrics=lambda state: {"residual": state.residual / scale},
            arrays=solver.arrays,
        )


def first_volume(scan, grid) -> np.ndarray:
    """What a learned network is given to better: ADMM-TV, reweighted at the edges that it finds, in 1/mm [z, y, x]; made on the CPU."""
    *_, last = ADMMTV().run(scan, grid, ADMMTVOptions(**ADMMTV.presets["reweighted"]))
    return last.volume()


def remaining(turns: list[int], done: int) -> list[int]:
    """What is left of the turns after some passes, the present one first even if nothing of it is left."""
    ends = np.cumsum(turns)
    present = int(np.searchsorted(ends, done))
    return [int(ends[present]) - done, *turns[present + 1 :]] if present < len(turns) else [0]


class Solver:
    """The problem of a scan on a grid, and where the algorithm stands."""

    def __init__(self, scan, grid, options: ADMMTVOptions, device: str = "cpu"):
        self.A = projector(scan.geometry, grid, device)
        self.y = self.A.projections(scan.projections)
        self.prox = TotalVariationProx(self.A.volume_shape, options.prox_iterations)
        weights = measurement_weights(scan, grid)
        self.weights = torch.ones_like(self.y) if weights is None else self.A.projections(weights)
        self.tv_weight = options.strength * total_variation_weight(self.A)
        self.eps = EDGE * scan.mu_water
        self.state = ADMMState(self.A.zeros(), None, None, 0, options.subsets(scan.views))

    def begin(self, x: np.ndarray) -> None:
        """Go on from samples in 1/mm [z, y, x] that are nearly right, with total variation reweighted at their edges."""
        self.state = ADMMState(self.A.volume(x), None, None, RESTART, self.state.subsets)
        self.prox.weigh(edge_weights(x, self.eps))

    def states(self, turns: list[int], done: int = 0) -> Iterator[ADMMState]:
        """Yield the state after each pass that is left of the turns, between which total variation is reweighted, and keep it."""
        left = remaining(turns, done)
        for state in reweighted(self.A, self.y, self.weights, self.tv_weight, self.prox, self.state, self.eps, left):
            self.state = state
            yield state

    def arrays(self, state: ADMMState) -> dict[str, np.ndarray]:
        """What `resume` goes on from."""
        return {
            "x": state.x.cpu().numpy(),
            "g": state.g.cpu().numpy(),
            "dual": self.prox.dual,
            "edge_weights": self.prox.weights,
            "updates": np.array(state.updates),
            "subsets": np.array(state.subsets),
        }

    def resume(self, arrays) -> int:
        """Take over what `arrays` gave; returns the passes that are done."""
        x, g = self.A.volume(arrays["x"]), self.A.volume(arrays["g"])
        self.state = ADMMState(x, None, g, int(arrays["updates"]), int(arrays["subsets"]))
        self.prox.dual[...] = arrays["dual"]
        self.prox.weigh(arrays["edge_weights"])
        return int(arrays["step"])
