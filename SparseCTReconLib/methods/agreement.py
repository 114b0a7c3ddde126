"""Agreement of a learned volume with the measurements, by ADMM-TV that begins with it and may be held to it:

    minimise  .5 |A x - y|_W^2 + lambda TV(x) + .5 rho |x - x_net|^2,   x >= 0          x_net: what the network has made

for a few passes over the views. The last term goes into total variation's proximal map,

    prox_{t (lambda TV + .5 rho |. - x_net|^2)}(b) = prox_{t lambda s TV}(s b + (1 - s) x_net),   s = 1 / (1 + t rho).

Where the network has bettered ADMM-TV's volume, the algorithm goes on with its dual variables. What comes of it is the result only as
long as it explains the measurements better than the network's volume.

Resources/Evidence/FEW_VIEWS.md has what passes, smoothness and closeness give with the weights that ship.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from ..classical.admm_tv import RESTART, ADMMState, admm_tv, edge_weights
from ..classical.weights import mean_curvature
from ..operators.averaging import voxel_means
from ..operators.tv import TotalVariationProx
from .admm_tv import Solver

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """How a volume is to be made to agree.

    Parameters
    ----------
    passes : int
        Over all views; 0 leaves the volume as it is.
    smoothness : float
        Factor on the weight of total variation.
    closeness : float
        rho over the mean curvature of the data term: what is measured less than that stays the network's.
    edges : bool
        Total variation pulls less at the edges of the network's volume.
    """

    passes: int
    smoothness: float
    closeness: float
    edges: bool


class Held:
    """Total variation's proximal map, held to a volume; as `admm_tv` calls it.

    Parameters
    ----------
    prox : TotalVariationProx
    towards : Tensor [z, y, x]
    rho, tv_weight : float
        In mm^2.
    """

    def __init__(self, prox: TotalVariationProx, towards: torch.Tensor, rho: float, tv_weight: float):
        self.prox, self.towards, self.rho, self.tv_weight = prox, towards, rho, tv_weight

    def __call__(self, b: torch.Tensor, weight: float) -> torch.Tensor:
        share = 1 / (1 + self.rho * weight / self.tv_weight)
        return self.prox(torch.lerp(self.towards, b, share), weight * share)


class Agreement:
    """A learned volume on its way to the measurements.

    Parameters
    ----------
    solver : Solver
        Of the problem; where it holds a state, the network has been shown its volume, and it is gone on from.
    neighbour : float
        See `operators.averaging`: the algorithm works on samples, the network on means over voxels.
    wish : Wish
    network : ndarray [z, y, x]
        The network's volume, 1/mm.
    before : ADMMState, optional
        Of which the network has been shown the means.
    """

    def __init__(self, solver: Solver, neighbour: float, wish: Wish, network: np.ndarray, before: ADMMState | None = None):
        self.solver, self.neighbour, self.wish, self.network = solver, neighbour, wish, network
        self.tv_weight = wish.smoothness * solver.tv_weight
        samples = solver.A.volume(2 * network - voxel_means(network, neighbour)).clamp_(min=0)
        if before is None:
            self.state = ADMMState(samples, None, None, 0, solver.state.subsets)
        else:
            self.state = ADMMState(samples, None, before.g, RESTART, before.subsets)
        self.prox = Held(solver.prox, samples, wish.closeness * mean_curvature(solver.A), self.tv_weight)
        self.limit = self._residual(samples)
        """|A x - y|_W of the network's volume."""
        self.done = 0

    def _residual(self, x: torch.Tensor) -> float:
        """As `admm_tv` counts it."""
        difference = self.solver.A(x) - self.solver.y
        return float((difference.square() * self.solver.weights).sum()) ** 0.5

    def states(self) -> Iterator[ADMMState]:
        """Yield the state after each pass that is left."""
        solver = self.solver
        if self.wish.edges and not self.done:
            solver.prox.weigh(edge_weights(self.state.x.cpu().numpy(), solver.eps))
        passes = admm_tv(solver.A, solver.y, solver.weights, self.tv_weight, self.prox, self.state)
        for state in islice(passes, self.wish.passes - self.done):
            self.state, self.done = state, self.done + 1
            yield state
        if self.wish.passes and not self.holds(self.state):
            log.info("the network's volume explains the measurements better than what was to agree with them: it stays")

    def holds(self, state: ADMMState) -> bool:
        """Whether a state explains the measurements better than the network's volume."""
        return state.residual < self.limit

    def volume(self, state: ADMMState) -> np.ndarray:
        """What is to be shown of a state, 1/mm [z, y, x]: its means, or the network's volume where that is better."""
        return voxel_means(state.x.cpu().numpy(), self.neighbour) if self.holds(state) else self.network

    def fact(self, state: ADMMState) -> str:
        """How the residual has changed, for the provenance."""
        scale = float(self.solver.y.norm()) or 1.0
        kept = "kept" if self.holds(state) else "left out"
        before, after = self.limit / scale, state.residual / scale
        return f"{kept}: weighted residual {before:.4g} of the network's volume, {after:.4g} after {self.done} passes"

    def arrays(self, state: ADMMState) -> dict[str, np.ndarray]:
        """What `resume` goes on from: of the newest state."""
        return {
            **self.solver.arrays(state),
            "network": self.network,
            "agreed": np.array(self.done),
            "start": self.prox.towards.cpu().numpy(),
        }

    def resume(self, arrays) -> None:
        """Take over what `arrays` gave."""
        self.solver.resume(arrays)
        self.state = replace(self.solver.state, zeta=None)
        self.prox.towards = self.solver.A.volume(arrays["start"])
        self.limit, self.done = self._residual(self.prox.towards), int(arrays["agreed"])
