"""Training of the restoration network on pairs of reconstructed and true volumes.

minimise  mean over crops of  sqrt(|net(x) - t|^2 / |x - t|^2)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..errors import InputError
from ..networks.restoration import FACTOR, RestorationNetwork
from .losses import error_left
from .pairs import Pair
from .places import in_body
from .steps import PATIENCE, follow, no_number, risen_and_fallen

CROP, BATCH = 64, 2
LATE_SHARE = 0.75
"""Of the crops, those of converged volumes."""

LEAST_BFLOAT16 = 32
"""Voxels of a crop from which bfloat16 is used: torch 2.13's backward pass on smaller ones has now and then given NaN on a CPU."""

WARM_UP, GRADIENT_NORM, AVERAGING = 100, 0.5, 0.999


class Restoration:
    """A network, its moving average, and the crops that it learns from.

    Parameters
    ----------
    pairs : list of Pair
        Volumes of at least 8 voxels along each axis.
    steps : int
        Steps of AdamW; the rate rises at first and falls to nothing as a cosine does.
    rate : float
        Highest learning rate; from about 1.5e-3 on the network has collapsed to the identity.
    seed : int
        Of the start and the crops.
    network : RestorationNetwork, optional
        To go on from.
    """

    def __init__(self, pairs: list[Pair], steps: int, rate: float = 7e-4, seed: int = 0, network: RestorationNetwork | None = None):
        if not pairs or steps < 1:
            raise InputError("nothing to train on: give at least one pair and one step", "bad-arguments")
        self.pairs, self.steps, self.rate = pairs, steps, rate
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.crop = min([CROP, *(n - n % FACTOR for pair in pairs for n in pair.truth.shape)])
        self.network = (network or RestorationNetwork()).train().to(memory_format=torch.channels_last_3d)
        self.average = RestorationNetwork(self.network.widths)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.done, self.astray = 0, 0

    def gains(self) -> Iterator[float]:
        """Yield after each step by how many dB the crops came closer to the truth, until all steps are done."""
        while self.done < self.steps:
            yield self.step()

    def step(self) -> float:
        """One step of AdamW on fresh crops.

        Raises
        ------
        InputError
            Where the gradient has been no number for `PATIENCE` steps.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = risen_and_fallen(self.rate, self.done, self.steps, WARM_UP)
        x, truth = (torch.from_numpy(np.stack(part))[:, None] for part in zip(*(self._draw() for _ in range(BATCH))))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.crop >= LEAST_BFLOAT16):
            restored = self.network(x.contiguous(memory_format=torch.channels_last_3d)).float()
        left = error_left(restored, x, truth)
        self.optimiser.zero_grad()
        left.sqrt().mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.done += 1
        self.astray = 0 if torch.isfinite(norm) else self.astray + 1
        if self.astray >= PATIENCE:
            raise no_number(f"the loss's gradient, {PATIENCE} steps long,", self.done)
        if not self.astray:
            self.optimiser.step()
            self._follow()
        return float(-10 * left.detach().log10().mean())

    def _follow(self) -> None:
        mine, present = (dict(network.named_parameters()) for network in (self.average, self.network))
        follow(mine, present, min(AVERAGING, 1 - 1 / (self.done + 1)))

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        """A crop (z, y, x) of a reconstruction and of its truth, mirrored and turned by right angles."""
        pair = self.pairs[self.rng.integers(len(self.pairs))]
        volume = pair.late if self.rng.random() < LATE_SHARE else pair.early
        at = in_body(pair.truth, (self.crop,) * 3, self.rng)
        flips, turns = self.rng.random(2) < 0.5, int(self.rng.integers(4))
        parts = (part[at].astype(np.float32)[:: 1 - 2 * int(flips[0]), :: 1 - 2 * int(flips[1])] for part in (volume, pair.truth))
        return tuple(np.ascontiguousarray(np.rot90(part, turns, (1, 2))) for part in parts)
