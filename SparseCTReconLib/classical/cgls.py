"""Conjugate gradient least squares: minimise |A x - y|^2 (Hestenes and Stiefel 1952; Bjorck 1996, alg. 7.4.1)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..operators import Projector


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Inner product, summed in blocks so that float32 keeps its digits."""
    return float((a * b).sum(dim=(1, 2)).sum(dtype=torch.float64))


def cgls(A: Projector, y: torch.Tensor, x: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, float]]:
    """Yield x and |A x - y| after each iteration; ends when the gradient vanishes.

    Parameters
    ----------
    A : Projector
        The operator.
    y : tensor (views, v, u)
        Line integrals.
    x : tensor (z, y, x), optional
        Start in 1/mm; zeros by default.
    """
    x = A.zeros() if x is None else x.clone()
    r = y - A(x)
    s = A.T(r)
    p, gamma = s.clone(), dot(s, s)
    while gamma > 0:
        q = A(p)
        alpha = gamma / dot(q, q)
        x.add_(p, alpha=alpha)
        r.sub_(q, alpha=alpha)
        s = A.T(r)
        gamma, previous = dot(s, s), gamma
        p.mul_(gamma / previous).add_(s)
        yield x, dot(r, r) ** 0.5
