"""Ordered-subsets SART: x += relaxation * A_s'( (y_s - A_s x) / (A_s 1) ) / (A_s' 1), non-negative (Wang and Jiang 2004)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..operators import Projector


def os_sart(
    A: Projector,
    y: torch.Tensor,
    subsets: int,
    relaxation: float = 1.0,
    decay: float = 0.97,
    x: torch.Tensor | None = None,
    done: int = 0,
    slowed: float = 0.0,
) -> Iterator[tuple[torch.Tensor, float]]:
    """Yield x and |A x - y| (each subset's before its update) after each pass over all subsets, for ever.

    Parameters
    ----------
    A : Projector
        The operator.
    y : tensor (views, v, u)
        Line integrals.
    subsets : int
        Number of interleaved subsets of the views.
    relaxation, decay : float
        Step of the first pass, and its factor from pass to pass.
    x : tensor (z, y, x), optional
        Start in 1/mm; zeros by default.
    done : int
        Passes that led to `x`.
    slowed : float
        Voxels that few rays meet move as slowly as if it were this share of what most meet. Where rows end within the object, the rest of
        it would otherwise fill first, with what belongs inside.
    """
    x = A.zeros() if x is None else x.clone()
    path = A(torch.ones_like(x))
    path = torch.where(path > 1e-3 * path.max(), path, torch.inf)
    share = A.T(torch.ones_like(y)) / subsets
    share = torch.where(share > 1e-3 * share.max(), share, torch.inf).clamp(min=slowed * _high(share))
    picks = [slice(first, None, subsets) for first in spread_order(subsets)]
    parts = [(A[pick], y[pick].clone(), path[pick].clone()) for pick in picks]
    relaxation *= decay**done
    while True:
        squared = 0.0
        for part, measured, length in parts:
            residual = measured - part(x)
            squared += float(residual.square().sum())
            x.add_(part.T(residual.div_(length)).div_(share), alpha=relaxation).clamp_(min=0)
        relaxation *= decay
        yield x, squared**0.5


def _high(share: torch.Tensor) -> float:
    """What the best tenth of the voxels has at least, of those that any rays meet."""
    values = share[share.isfinite()]
    return float(values[:: max(1, len(values) // 100_000)].quantile(0.9)) if len(values) else 0.0


def spread_order(count: int) -> list[int]:
    """0 .. count - 1 in an order in which neighbours lie far apart: steps of the golden section."""
    return list(np.argsort(np.mod(np.arange(count) * (np.sqrt(5) - 1) / 2, 1), kind="stable"))
