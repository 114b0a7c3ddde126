"""Pretraining of a field's head on a CT, voxel by voxel (NI-NeRF's mapping-consistency initialisation, Xu et al. 2025, section 2.4).

    minimise  mean |mu(x) - mu_CT(x)| / mu_water        over voxels x of the CT

A step takes voxels drawn at random from one slab of the CT, a voxel thin across x; every slab comes once before any comes again. The
field learns the CT as a whole; its head is kept and its encoding thrown away. The paper has 4096 voxels a step, Adam at 1e-3 and 12 800
steps; at the rates below, 1500 steps of 16 384 voxels gave heads from which fields learnt as fast or a little
faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch

from .. import methods
from ..errors import InputError
from ..fields.field import AttenuationField
from ..fields.networks import HashNetwork
from ..fields.rays import UnitCube
from ..grid import Grid, Volume
from ..methods.naf import architecture
from ..units import MU_WATER, hu_to_mu

PRESETS = ("from-scratch", "paper")
"""Of the method "naf", whose networks a head is trained for."""

STEPS_PER_STATE = 20
ENCODER_RATE, HEAD_RATE = 3e-2, 1e-2
FINAL_RATE = 0.05
"""Share of the learning rates that is left at the last step."""


def network_for(preset: str, grid: Grid) -> HashNetwork:
    """The network with which a preset of the method "naf", one of `PRESETS`, pretrains on `grid`: with layer norm."""
    naf = methods.get("naf")
    return architecture(methods.parse_options(naf, {"preset": preset, "layer_norm": True}), UnitCube(grid))


class Pretraining:
    """A field that learns a CT voxel by voxel.

    Parameters
    ----------
    ct : Volume
        HU.
    network : HashNetwork
        What learns it.
    steps : int
        Steps of Adam.
    voxels : int
        In a step, at most.
    seed : int
        Of the start and the voxels.
    """

    def __init__(self, ct: Volume, network: HashNetwork, steps: int = 1500, voxels: int = 16384, seed: int = 0):
        _check(ct, steps, voxels)
        self.steps, self.seed = steps, seed
        self.cube = UnitCube(ct.grid)
        self.rng = np.random.default_rng(seed)
        self.field = AttenuationField(network.grid, network.head, MU_WATER, self.rng)
        mu = hu_to_mu(np.asarray(ct.array, dtype=np.float32), MU_WATER)
        self.slabs = np.ascontiguousarray(mu.transpose(2, 0, 1)).reshape(ct.grid.size[0], -1)
        self.voxels = min(voxels, self.slabs.shape[1])
        self.done, self.first_loss, self.last_loss = 0, np.nan, np.nan

    def losses(self) -> Iterator[float]:
        """Yield the mean error in shares of water's attenuation after every `STEPS_PER_STATE` steps, until all steps are done."""
        waiting: list[int] = []
        while self.done < self.steps:
            losses = []
            for _ in range(min(STEPS_PER_STATE, self.steps - self.done)):
                waiting = waiting or self.rng.permutation(len(self.slabs)).tolist()
                losses.append(self.step(waiting.pop()))
            self.last_loss = float(np.mean(losses))
            if np.isnan(self.first_loss):
                self.first_loss = losses[0]
            yield self.last_loss

    def step(self, slab: int) -> float:
        """One step of Adam on voxels of the slab at x index `slab`."""
        drawn = self.rng.choice(self.slabs.shape[1], self.voxels, replace=False)
        points, truth = self.centres(slab, drawn), torch.from_numpy(self.slabs[slab, drawn])
        mu, kept = self.field.forward(points)
        error = (mu - truth) / MU_WATER
        decay = FINAL_RATE ** (self.done / self.steps)
        gradient = torch.sign(error) / (MU_WATER * len(error))
        self.field.descend(points, kept, gradient, ENCODER_RATE * decay, HEAD_RATE * decay)
        self.done += 1
        return float(error.abs().mean())

    def centres(self, slab: int, within: np.ndarray) -> torch.Tensor:
        """Centres (3, n) of voxels of a slab, given their places in its array [z, y]."""
        _, ny, _ = self.cube.grid.size
        spacing = np.asarray(self.cube.grid.spacing_mm) / self.cube.edge_mm
        index = np.stack([np.full(len(within), slab), within % ny, within // ny])
        return torch.from_numpy(((index + 0.5) * spacing[:, None]).astype(np.float32))

    def record(self) -> dict:
        """What a card says of this training, as JSON values."""
        grid = self.field.grid
        return {
            "head": asdict(self.field.shape),
            "encoding": {"levels": grid.levels, "base": grid.base, "finest": grid.finest, "log2_table": grid.log2_table},
            "steps": self.done,
            "voxels": self.voxels,
            "seed": self.seed,
            "encoder_rate": ENCODER_RATE,
            "head_rate": HEAD_RATE,
            "first_loss": round(self.first_loss, 6),
            "last_loss": round(self.last_loss, 6),
        }


def _check(ct: Volume, steps: int, voxels: int) -> None:
    if ct.unit != "HU":
        raise InputError(f"the CT is in {ct.unit}: give it in HU", "bad-unit")
    if steps < 1 or voxels < 1:
        raise InputError(f"{steps} steps of {voxels} voxels: give at least one of each", "bad-option")
    if not np.isfinite(ct.array).all():
        raise InputError("the CT has voxels that are not finite: mend it first", "bad-volume")
    if np.ptp(ct.array) == 0:
        raise InputError(f"the CT is {np.max(ct.array):g} HU everywhere: there is nothing to learn from it", "bad-volume")
