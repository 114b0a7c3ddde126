"""Where Gaussians are too few, too large or of no use: clone, split and prune (R2-Gaussian, section 4.2).

A Gaussian whose place is pulled at, on average over the steps in which it was seen, has too much to explain: a small one is cloned, a large
one split in two. Both halve the density. What has no density or has left the grid is pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..grid import Grid
from .cloud import Cloud

PULLED = 5e-5
"""Mean gradient of the loss with respect to a centre, in half the grid's longest edge, from which on a Gaussian is doubled."""

LARGE = 0.1
"""Standard deviation, in the grid's longest edge, from which on a Gaussian is split and not cloned."""

SHRINK = 1.6
FAINTEST = 1e-5
"""Density, in attenuation of water, below which a Gaussian is pruned."""

BEGIN, END, EVERY = 1 / 60, 1 / 2, 1 / 300
"""When, in shares of all steps: 500, 15,000 and 100 of the paper's 30,000."""


@dataclass
class DensityControl:
    """Counts how Gaussians are pulled at, and changes a cloud when it is time.

    Parameters
    ----------
    grid : Grid
        What lies outside is pruned.
    steps : int
        Of the training.
    most : int
        Gaussians that there may be.
    device : str
        Where the clouds lie.
    """

    grid: Grid
    steps: int
    most: int
    device: str = "cpu"

    def __post_init__(self):
        self._forget(0)
        self._edge = float(max(self.grid.extent_mm))

    def observe(self, gradient: torch.Tensor) -> None:
        """Note the gradient (n, 3) of a step's loss with respect to the centres, per mm."""
        if len(self._pulls) != len(gradient):
            self._forget(len(gradient))
        pull = gradient.norm(dim=1) * self._edge / 2
        self._pulls += pull
        self._seen += pull > 0

    def due(self, step: int) -> bool:
        """Whether it is time after `step` steps."""
        return BEGIN * self.steps <= step <= END * self.steps and step % max(1, round(EVERY * self.steps)) == 0

    def apply(self, cloud: Cloud, rng: np.random.Generator) -> tuple[Cloud, torch.Tensor]:
        """The changed cloud, and the index (n,) that each Gaussian had before, -1 for new ones."""
        pulled = self._pulls / self._seen.clamp(min=1) > PULLED
        self._forget(0)
        pulled = self._affordable(pulled, len(cloud))
        large = cloud.scales().max(dim=1).values > LARGE * self._edge
        rest, numbers = cloud.chosen(~pulled), torch.arange(len(cloud), device=cloud.device)
        parts, origins = [rest], [numbers[~pulled]]
        for chosen, work in ((pulled & ~large, _cloned), (pulled & large, _split)):
            doubled = work(cloud.chosen(chosen), rng)
            parts.append(doubled)
            index = numbers[chosen]
            origins.append(torch.cat([index if work is _cloned else -torch.ones_like(index), -torch.ones_like(index)]))
        changed, origin = parts[0].joined(parts[1]).joined(parts[2]), torch.cat(origins)
        kept = useful(changed, self.grid)
        return changed.chosen(kept), origin[kept]

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` goes on from."""
        return {"pulls": np.array(self._pulls.cpu()), "seen": np.array(self._seen.cpu())}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        self._pulls, self._seen = (torch.from_numpy(np.array(arrays[name])).to(self.device) for name in ("pulls", "seen"))

    def _forget(self, count: int) -> None:
        """Begin to count anew, for so many Gaussians."""
        self._pulls, self._seen = torch.zeros(count, device=self.device), torch.zeros(count, device=self.device)

    def _affordable(self, pulled: torch.Tensor, count: int) -> torch.Tensor:
        """As many of the pulled ones as there is room for, the first of them."""
        room = max(0, self.most - count)
        return pulled & (torch.cumsum(pulled, 0) <= room)


def useful(cloud: Cloud, grid: Grid) -> torch.Tensor:
    """Which Gaussians (n,) have density and lie in the grid.

    Raises
    ------
    FloatingPointError
        Where none does.
    """
    low = -0.5 * torch.tensor(grid.spacing_mm)
    low, high = (end.to(cloud.device) for end in (low, low + torch.from_numpy(np.asarray(grid.extent_mm, np.float32))))
    inside = ((cloud.centres >= low) & (cloud.centres <= high)).all(dim=1)
    found = inside & (cloud.density() > FAINTEST * cloud.unit)
    if not found.any():
        raise FloatingPointError("all Gaussians have lost their density or left the grid")
    return found


def _cloned(cloud: Cloud, rng: np.random.Generator) -> Cloud:
    """Two of each at the same place, with half the density."""
    half = Cloud.of(cloud.centres, cloud.density() / 2, cloud.scales(), cloud.unit, cloud.bounds_mm, cloud.rotation)
    return half.joined(half)


def _split(cloud: Cloud, rng: np.random.Generator) -> Cloud:
    """Two of each, drawn from the Gaussian itself, smaller and with half the density."""
    halves = []
    for _ in range(2):
        offsets = torch.from_numpy(rng.standard_normal((len(cloud), 3)).astype(np.float32)).to(cloud.device) * cloud.scales()
        centres = cloud.centres + (cloud.axes() @ offsets[:, :, None])[:, :, 0]
        scales = (cloud.scales() / SHRINK).clamp(min=cloud.bounds_mm[0])
        halves.append(Cloud.of(centres, cloud.density() / 2, scales, cloud.unit, cloud.bounds_mm, cloud.rotation))
    return halves[0].joined(halves[1])
