"""ADMM for total variation, linearised, with ordered subsets: minimise 0.5 |A x - y|_W^2 + lambda TV(x), x >= 0.

The linearised augmented Lagrangian method of Nien and Fessler (2015, IEEE Trans. Med. Imaging 34(2), algorithm 2), D >= |A'W A|:

    s <- rho zeta + (1 - rho) g
    x <- prox_{lambda / (rho D) TV, >= 0}(x - s / (rho D))       fast gradient projection
    zeta <- S A_s' W_s (A_s x - y_s)                            one of S subsets of the views in turn
    g <- (rho zeta + g) / (rho + 1)
    rho <- pi / (l + 1) sqrt(1 - (pi / (2 l + 2))^2)            after l updates

Reweighted (Candes, Wakin and Boyd 2008, J. Fourier Anal. Appl. 14), total variation stops pulling at the edges that it has found:
w = eps / (eps + |forward differences of x|), a few times over.

With a conjugate-gradient x-update instead, a step costs as much as four passes over the data; here a pass makes S steps. Subsets whose
gradients differ too much let the iterates grow: the residual tells, and the number of subsets is halved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from ..operators import Projector
from ..operators.tv import TotalVariationProx
from .os_sart import spread_order

log = logging.getLogger("SparseCTReconLib.admm_tv")

GROWTH = 1.2
"""Residual of a pass over the smallest so far from which on the subsets are taken to disagree."""

EDGE = 0.2
"""eps over the attenuation of water: an edge of 200 HU weighs half."""

RESTART = 20
"""Updates that rho takes for done when the weights have changed: the volume is nearly right already."""


@dataclass(frozen=True)
class ADMMState:
    """Iterates after a pass: `x`, the result; `zeta` and `g`, the subset's and the split gradient; all [z, y, x]."""

    x: torch.Tensor
    zeta: torch.Tensor | None
    g: torch.Tensor | None
    updates: int
    subsets: int
    residual: float = float("inf")


class SubsetGradients:
    """Gradients of the data term, estimated from one subset of the views and scaled to all of them."""

    def __init__(self, A: Projector, y: torch.Tensor, weights: torch.Tensor, subsets: int):
        self.order = spread_order(subsets)
        self.parts = [(A[k::subsets], y[k::subsets].clone(), weights[k::subsets].clone()) for k in range(subsets)]

    def __call__(self, subset: int, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The gradient [z, y, x], and the subset's share of the data term, doubled."""
        part, measured, weights = self.parts[subset]
        residual = part(x).sub_(measured)
        weighted = residual * weights
        squared = float((residual * weighted).sum())
        return part.T(weighted.mul_(len(self.parts))), squared


def admm_tv(
    A: Projector, y: torch.Tensor, weights: torch.Tensor, tv_weight: float, prox: TotalVariationProx, start: ADMMState
) -> Iterator[ADMMState]:
    """Yield the state after each pass over all views, for ever.

    Parameters
    ----------
    A : Projector
        The operator.
    y : tensor (views, v, u)
        Line integrals.
    weights : tensor (views, v, u)
        The diagonal of W, 0 to 1.
    tv_weight : float
        lambda in mm^2 (x is in 1/mm and A'A in mm^2).
    prox : TotalVariationProx
        The proximal map, which carries its dual variable.
    start : ADMMState
        `ADMMState(A.zeros(), None, None, 0, subsets)` to begin with.
    """
    bound = float(A.T(A(torch.ones_like(A.zeros())).mul_(weights)).max())
    gradients = SubsetGradients(A, y, weights, start.subsets)
    state = best = start
    while True:
        after = one_pass(gradients, tv_weight, prox, bound, state)
        if after.residual > GROWTH * best.residual and after.subsets > 1:
            log.info("subsets of the views disagree: going on with %d instead of %d", after.subsets // 2, after.subsets)
            gradients = SubsetGradients(A, y, weights, after.subsets // 2)
            state = ADMMState(best.x, None, None, 0, after.subsets // 2)
            continue
        best = after if after.residual < best.residual else best
        state = after
        yield state


def reweighted(
    A: Projector,
    y: torch.Tensor,
    weights: torch.Tensor,
    tv_weight: float,
    prox: TotalVariationProx,
    start: ADMMState,
    eps: float,
    turns: list[int],
) -> Iterator[ADMMState]:
    """Yield the state after each pass: `turns[0]` passes, then the voxels' weights from what there is, `turns[1]` passes, and so on.

    Parameters are those of `admm_tv`, and `eps` in 1/mm.
    """
    state = start
    for number, passes in enumerate(turns):
        if number:
            prox.weigh(edge_weights(state.x.cpu().numpy(), eps))
            state = ADMMState(state.x, None, None, RESTART, state.subsets)
        for after in islice(admm_tv(A, y, weights, tv_weight, prox, state), passes):
            yield (state := after)


def edge_weights(x: np.ndarray, eps: float) -> np.ndarray:
    """eps / (eps + |forward differences|) of a volume [z, y, x], 1 where it is flat."""
    squares = sum(np.square(np.diff(x, axis=axis, append=x.take([-1], axis))) for axis in range(3))
    return (eps / (eps + np.sqrt(squares))).astype(np.float32)


def one_pass(gradients: SubsetGradients, tv_weight: float, prox: TotalVariationProx, bound: float, state: ADMMState) -> ADMMState:
    """One update with every subset; the residual is |A x - y|_W, each view's with the x of its turn."""
    x, zeta, g, updates, squared = state.x, state.zeta, state.g, state.updates, 0.0
    if zeta is None:
        zeta, _ = gradients(gradients.order[-1], x)
    g = zeta if g is None else g
    for subset in gradients.order:
        rho = penalty(updates)
        step = 1 / (rho * bound)
        x = prox(x.sub(torch.lerp(g, zeta, rho), alpha=step), tv_weight * step)
        zeta, loss = gradients(subset, x)
        g = torch.lerp(g, zeta, rho / (rho + 1))
        updates += 1
        squared += loss
    return ADMMState(x, zeta, g, updates, state.subsets, squared**0.5)


def penalty(updates: int) -> float:
    """rho after some updates: 1 at first, then falling like pi / updates, which makes the steps longer."""
    if updates == 0:
        return 1.0
    n = updates + 1
    return float(np.pi / n * np.sqrt(1 - (np.pi / (2 * n)) ** 2))
