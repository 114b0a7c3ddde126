"""What lies beyond a volume and is in its scan all the same: the rest of a truncated torso, or all but the detail that was asked for.

    minimise over x_o:   |A_o x_o - (y - A x)|^2

with coarse voxels x_o where the projections say that there is something (see `methods.domain`), none of them within the volume, by some
CGLS iterations. Without it the volume would be blamed for all that rays met elsewhere; with it a contradiction is what the surroundings
cannot explain either, so that it is found a little less surely than in a volume that holds the whole object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from ..classical.cgls import begin, cgls
from ..grid import Grid
from ..methods.domain import domain
from ..methods.surroundings import coarser, share_within
from ..operators import Projector, projector
from ..scan import Scan

ITERATIONS = 20


@dataclass(frozen=True)
class Beyond:
    """What lies beyond a volume.

    Parameters
    ----------
    share : float
        Of the rays' way through the object, 0 to 1.
    grid : Grid, optional
        Coarse voxels about the whole object; None where nothing lies beyond.
    mu : tensor [z, y, x], optional
        Attenuation on these, 0 within the volume.
    """

    share: float
    grid: Grid | None = None
    mu: torch.Tensor | None = None

    def taken_out_of(self, scan: Scan, device: str = "cpu") -> Scan:
        """`scan`, of any views of the same object, without it."""
        if self.grid is None:
            return scan
        beyond = projector(scan.geometry, self.grid, device)(self.mu.to(device)).cpu().numpy()
        return replace(scan, projections=scan.projections - beyond, taken_out=beyond)


class _Outside:
    """A of the voxels that lie outside."""

    def __init__(self, A: Projector, share: torch.Tensor):
        self.A, self.share, self.zeros = A, share, A.zeros

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.A(x * self.share)

    def T(self, y: torch.Tensor) -> torch.Tensor:  # noqa: N802  (the mathematical sign for the transpose)
        """Back-projection of `y` by the exact adjoint."""
        return self.A.T(y).mul_(self.share)


def beyond(mu: np.ndarray, grid: Grid, scan: Scan, device: str = "cpu") -> Beyond:
    """What `scan` shows beyond a volume of attenuation `mu` in 1/mm, [z, y, x]."""
    found = domain(scan, grid, lambda larger: False)
    if found.object_grid is None:
        return Beyond(0.0)
    coarse = coarser(found.object_grid)
    A, inner = projector(scan.geometry, coarse, device), projector(scan.geometry, grid, device)
    with torch.no_grad():
        left = A.projections(scan.projections) - inner(inner.volume(mu))
        outside = _Outside(A, A.volume(1 - share_within(coarse, grid)))
        *_, last = islice(cgls(outside, begin(outside, left)), ITERATIONS)
    return Beyond(found.beyond, coarse, last.x * outside.share)
