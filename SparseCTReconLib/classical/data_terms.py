"""How far a volume is from the measurements, and the gradient of that: least squares, plain or filtered.

    LS:   0.5 |A x - y|_W^2                       gradient  A' W (A x - y)
    FLS:  0.5 |H^(1/2) D^(1/2) (A x - y)|^2       gradient  A' D^(1/2) H D^(1/2) (A x - y)

H is the ramp along detector rows, divided by its mean so that both terms have the same unit, and D = W times FDK's cosine and redundancy
weights: the gradient of FLS is nearly a filtered back-projection of the residual, and the Hessian nearly a multiple of the identity
(Accelerated optimization of implicit neural representations for CT reconstruction, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..geometry import Geometry
from ..operators import Projector
from ..operators.ramp import RampFilter
from .fdk import fdk_weights
from .os_sart import spread_order


@dataclass(frozen=True)
class Metric:
    """A positive semi-definite map M of residuals, which makes the term 0.5 <r, M r>.

    Parameters
    ----------
    root : tensor (views, v, u)
        Square root of the weights.
    filtered : callable or None
        A self-adjoint filter between the two factors `root`.
    """

    root: torch.Tensor
    filtered: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __call__(self, residual: torch.Tensor) -> torch.Tensor:
        """M r, [view, v, u]."""
        weighted = residual * self.root
        return (self.filtered(weighted) if self.filtered else weighted) * self.root

    def __getitem__(self, views) -> Metric:
        return Metric(self.root[views].clone(), self.filtered)


def plain_metric(weights: torch.Tensor) -> Metric:
    """That of weighted least squares."""
    return Metric(weights.sqrt())


def filtered_metric(weights: torch.Tensor, geometry: Geometry) -> Metric:
    """That of filtered least squares."""
    ramp = RampFilter(geometry.detector_shape[1], 1.0)
    ramp.response /= ramp.response.mean()
    counted = 2 * fdk_weights(geometry).to(weights.device)  # a full circle counts every ray twice, with half its weight
    return Metric((weights * counted).sqrt(), ramp)


class DataTerm:
    """0.5 <A x - y, M (A x - y)>, whole or estimated from one of several interleaved subsets of the views.

    Parameters
    ----------
    A : Projector
        The operator.
    y : tensor (views, v, u)
        Line integrals.
    metric : Metric
        M.
    subsets : int
        How many there are.
    """

    def __init__(self, A: Projector, y: torch.Tensor, metric: Metric, subsets: int = 1):
        self.order = spread_order(subsets)
        if subsets == 1:
            self.parts = [(A, y, metric)]
        else:
            self.parts = [(A[k::subsets], y[k::subsets].clone(), metric[k::subsets]) for k in range(subsets)]

    def gradient(self, x: torch.Tensor, turn: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient [z, y, x], scaled to all views, and residual A x - y [view, v, u] of the subset whose turn it is."""
        A, y, metric = self.parts[self.order[turn % len(self.order)]]
        residual = A(x).sub_(y)
        return A.T(metric(residual).mul_(len(self.parts))), residual


class Weighted:
    """W^(1/2) A, with which |W^(1/2) (A x - y)|^2 is plain least squares."""

    def __init__(self, A: Projector, root: torch.Tensor):
        self.A, self.root, self.zeros = A, root, A.zeros

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.A(x).mul_(self.root)

    def T(self, y: torch.Tensor) -> torch.Tensor:  # noqa: N802  (the mathematical sign for the transpose)
        """Back-projection of `y` by the exact adjoint."""
        return self.A.T(y * self.root)
