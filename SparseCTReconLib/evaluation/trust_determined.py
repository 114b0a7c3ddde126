"""What of a volume the views determine, and what is left to the prior: the volume split in two, and a share in percent.

    G = (A'W A + 1/s^2)^-1 A'W A          (model resolution; Tarantola 2005, Inverse Problem Theory, 3.2)
    x = G x + (I - G) x

G x is what CGLS on A makes of the volume's own projections when they count as much as the measurements do, W = 1 / (noise + allowance) of
the middle ray, and the volume is uncertain, before, by as much as it varies. The rest, (I - G) x, changes the projections by less than the
noise: it is the null space of A and what the noise makes equal to it. It came from the method, not from this scan.

For the mean over a ball l, with each ray's own W and a prior of some HU, <l, G l> / <l, l> is the share of its prior variance that the
measurements take away: 100 % where the views determine a detail of that size, 0 where they do not see it. It depends on views, noise and
place alone, not on what the volume shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..classical.data_terms import Weighted
from ..grid import Grid
from .trust_balls import ball, ball_kernel, ball_means
from .trust_contradiction import refitted

ITERATIONS = 20
DRAWS = 4
APART = 3.0
"""Distance of the balls that are probed at once, in diameters: their signs are random, so that what they do to each other averages out."""


@dataclass(frozen=True)
class Resolution:
    """G of a scan on a grid.

    Parameters
    ----------
    A : Weighted
        W^(1/2) A.
    damping : float
        1 / s^2 in mm^2.
    grid : Grid
    told : callable
        Called before each iteration of CGLS.
    """

    A: Weighted
    damping: float
    grid: Grid
    told: Callable[[], None] = lambda: None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """G x for `x` [z, y, x], by CGLS."""
        y = self.A(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(self.A.zeros().device))
        return refitted(self.A, y, self.damping, ITERATIONS, self.told).cpu().numpy()

    def of_ball(self, centre_mm, diameter_mm: float) -> float:
        """Share, 0 to 1, of the mean over the ball about `centre_mm` (LPS) that the views determine; 0 for one outside the grid."""
        probe = ball(self.grid, centre_mm, diameter_mm)
        size = float((probe**2).sum())
        return float(np.clip((self(probe) * probe).sum() / size, 0, 1)) if size else 0.0

    def of_balls(self, diameter_mm: float, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
        """The same for the ball about each voxel, float32 [z, y, x]: balls on shifted lattices, `draws` of them, and between them the
        mean of their neighbours. A single place is off by some percent; `of_ball` is not."""
        from scipy.ndimage import gaussian_filter

        rng, kernel = np.random.default_rng(seed), ball_kernel(self.grid, diameter_mm)
        found, weight = np.zeros(self.grid.shape, np.float32), np.zeros(self.grid.shape, np.float32)
        for _ in range(draws):
            signs = self._lattice(diameter_mm, rng)
            probe = ball_means(signs, kernel)
            resolved = ball_means(self(probe), kernel)
            found += signs * resolved / float((kernel**2).sum())
            weight += np.abs(signs)
        sigma = [APART / 2 * diameter_mm / spacing for spacing in self.grid.spacing_mm[::-1]]
        shares = gaussian_filter(found, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-9)
        return np.clip(shares, 0, 1).astype(np.float32)

    def _lattice(self, diameter_mm: float, rng) -> np.ndarray:
        """+1 or -1 at voxels some diameters apart, 0 elsewhere."""
        steps = [max(1, round(APART * diameter_mm / spacing)) for spacing in self.grid.spacing_mm[::-1]]
        signs = np.zeros(self.grid.shape, np.float32)
        places = tuple(slice(int(rng.integers(min(step, n))), None, step) for step, n in zip(steps, self.grid.shape))
        signs[places] = rng.choice(np.array([-1, 1], np.float32), signs[places].shape)
        return signs


def share_of_variance(values: np.ndarray, rest: np.ndarray, region: np.ndarray) -> float | None:
    """Share, 0 to 1, of the variance of `values` in a region (bool) that is not in the `rest`; all [z, y, x]. None where all is even."""
    size = float(np.var(values[region], dtype=np.float64)) if region.any() else 0.0
    return float(np.clip(1 - np.var(rest[region], dtype=np.float64) / size, 0, 1)) if size else None
