"""ADMM for total variation (Boyd et al. 2011, section 6.4): minimise 0.5 |A x - y|^2 + lambda TV(x) subject to x >= 0.

x  <- argmin 0.5 |A x - y|^2 + rho/2 |x - z + u|^2      a few conjugate gradient steps, warm started
z  <- prox_{lambda/rho TV, >= 0}(x + u)                 fast gradient projection
u  <- u + x - z
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..operators import Projector
from ..operators.tv import TotalVariationProx
from .cgls import dot


@dataclass
class ADMMState:
    """Iterates of ADMM: `z` is the non-negative, denoised volume, the result; all [z, y, x] in 1/mm."""

    x: torch.Tensor
    z: torch.Tensor
    u: torch.Tensor
    residual: float = float("nan")


def admm_tv(
    A: Projector, y: torch.Tensor, weight: float, rho: float, cg_steps: int, prox: TotalVariationProx, state: ADMMState | None = None
) -> Iterator[ADMMState]:
    """Yield the iterates for ever; see the module for the meaning of the parameters.

    Parameters
    ----------
    A : Projector
        The operator.
    y : tensor (views, v, u)
        Line integrals.
    weight, rho : float
        lambda and the penalty of ADMM, both in mm^2 as A'A has them (`mean_curvature`).
    cg_steps : int
        Conjugate gradient steps of each x-update.
    prox : TotalVariationProx
        The proximal map, which carries its dual variable.
    state : ADMMState, optional
        Where to start.
    """
    state = state or ADMMState(A.zeros(), A.zeros(), A.zeros())
    back = A.T(y)
    while True:
        right = back + rho * (state.z - state.u)
        x = conjugate_gradient(A, state.x, right, rho, cg_steps)
        z = prox(x + state.u, weight / rho)
        state = ADMMState(x, z, state.u + x - z)
        yield state


def conjugate_gradient(A: Projector, x: torch.Tensor, right: torch.Tensor, rho: float, steps: int) -> torch.Tensor:
    """Some steps towards the solution of (A'A + rho) x = right, from `x`."""
    x = x.clone()
    r = right - A.T(A(x)) - rho * x
    p, gamma = r.clone(), dot(r, r)
    for _ in range(steps):
        if gamma == 0:
            break
        q = A.T(A(p)).add_(p, alpha=rho)
        alpha = gamma / dot(p, q)
        x.add_(p, alpha=alpha)
        r.sub_(q, alpha=alpha)
        gamma, previous = dot(r, r), gamma
        p.mul_(gamma / previous).add_(r)
    return x


def mean_curvature(A: Projector, seed: int = 0) -> float:
    """Mean diagonal element of A'A in mm^2, estimated with random signs (Hutchinson): what regularisation is measured against."""
    signs = torch.randint(0, 2, A.volume_shape, generator=torch.Generator().manual_seed(seed)).float().mul_(2).sub_(1)
    p = A(signs.to(A.device))
    return float(p.square().sum(dtype=torch.float64)) / signs.numel()
