"""Conjugate gradient least squares: minimise |A x - y|^2 + damping |x - centre|^2 (Hestenes and Stiefel 1952; Bjorck 1996, alg. 7.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..operators import Projector


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Inner product, summed in blocks so that float32 keeps its digits."""
    return float((a * b).sum(dim=(1, 2)).sum(dtype=torch.float64))


class CGLSState(NamedTuple):
    """Iterate `x` and search direction `p` [z, y, x], residual `r` = y - A x [view, v, u], and gamma, the gradient's square / 4."""

    x: torch.Tensor
    r: torch.Tensor
    p: torch.Tensor
    gamma: float


def begin(
    A: Projector,
    y: torch.Tensor,
    x: torch.Tensor | None = None,
    damping: float = 0.0,
    centre: torch.Tensor | None = None,
    r: torch.Tensor | None = None,
) -> CGLSState:
    """The state before the first iteration, from `x` (zeros by default), whose residual y - A x may be known as `r`."""
    x = A.zeros() if x is None else x
    r = y - A(x) if r is None else r
    s = _descent(A, x, r, damping, centre)
    return CGLSState(x, r, s, dot(s, s))


def cgls(A: Projector, state: CGLSState, damping: float = 0.0, centre: torch.Tensor | None = None) -> Iterator[CGLSState]:
    """Yield the state after each iteration; ends when the gradient vanishes, with `state` itself if its gradient does.

    Parameters
    ----------
    A : Projector
        The operator.
    state : CGLSState
        Where to start: `begin(A, y)`, or an earlier state.
    damping : float
        Weight in mm^2 of the distance to `centre`.
    centre : tensor (z, y, x), optional
        Zeros by default.
    """
    x, r, p, gamma = state
    if gamma == 0:
        yield state
    while gamma > 0:
        q = A(p)
        alpha = gamma / (dot(q, q) + damping * dot(p, p))
        x = x.add(p, alpha=alpha)
        r = r.sub(q, alpha=alpha)
        s = _descent(A, x, r, damping, centre)
        gamma, previous = dot(s, s), gamma
        p = s.add(p, alpha=gamma / previous)
        yield CGLSState(x, r, p, gamma)


def _descent(A: Projector, x: torch.Tensor, r: torch.Tensor, damping: float, centre: torch.Tensor | None) -> torch.Tensor:
    """Half the negative gradient."""
    s = A.T(r)
    return s.sub(x if centre is None else x - centre, alpha=damping) if damping else s
