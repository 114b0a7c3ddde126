"""Training of a SliceFixer on pairs of stacks.

    minimise  mean over slices of  sqrt(|fix(x) - t|^2 / |x - t|^2)  +  1/2 (1 - SSIM(fix(x), t))

and, for SD-Turbo's make, whatever a perceptual loss adds. Either make learns here; the checkpoint after any step goes on as if nothing had
happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..networks import compact_fixer, sd_turbo
from ..networks.compact_fixer import FACTOR, REACH, CompactNetwork, fitted, organ_index
from ..networks.perceptual import PerceptualLoss
from ..operators.ssim import ssim
from .losses import error_left
from .places import in_body
from .slice_pairs import StackPair
from .steps import PATIENCE, another_training, follow, no_number, read_state, risen_and_fallen, write_state

CROP = 64
STRUCTURE = 0.5
WARM_UP, GRADIENT_NORM, AVERAGING = 100, 0.5, 0.999
STATE = ("done", "identity", "weights", "average", "optimiser")
UNTOLD = 0.3
"""Of the slices, those of which neither the organ nor the X-rays are told, so that the network can do without."""


@dataclass(frozen=True)
class Slices:
    """A batch of n slices with their neighbours, attenuation relative to water.

    Parameters
    ----------
    slabs : Tensor (n, 2 REACH + 1, y, x)
    truth : Tensor (n, y, x)
        Of the middle slices.
    xrays : Tensor (n, 2, XRAY, XRAY)
    position : Tensor (n,)
        Of the slices in their stacks, 0 to 1.
    organs : list of str
    """

    slabs: torch.Tensor
    truth: torch.Tensor
    xrays: torch.Tensor
    position: torch.Tensor
    organs: list[str]


class Learner(Protocol):
    """A fixer that can be trained: at a rate, with so many slices in a step."""

    rate: float
    batch: int

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training changes, by name."""

    def __call__(self, batch: Slices) -> torch.Tensor:
        """The repaired slices (n, y, x), differentiable."""

    def save(self, path, card: dict) -> None:
        """Write the weights."""


class CompactLearner:
    """The compact make; `network` to go on from one."""

    rate, batch = 5e-4, 16

    def __init__(self, network: CompactNetwork | None = None):
        self.network = (network or CompactNetwork()).train().to(memory_format=torch.channels_last)

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def __call__(self, batch: Slices) -> torch.Tensor:
        organs = torch.tensor([organ_index(organ) for organ in batch.organs])
        slabs, xrays = (x.contiguous(memory_format=torch.channels_last) for x in (batch.slabs, batch.xrays))
        return self.network(slabs, xrays, batch.position, organs)

    def save(self, path, card: dict) -> None:
        compact_fixer.save(self.network, path, card)


class SDTurboLearner:
    """SD-Turbo's make: its adapters learn, on slices interpolated to the size that it was made for."""

    rate, batch = 1e-5, 4

    def __init__(self, fixer: sd_turbo.SDTurboFixer):
        self.fixer = fixer

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.fixer.network.adapters()

    def __call__(self, batch: Slices) -> torch.Tensor:
        network = self.fixer.network
        slices = batch.slabs[:, REACH : REACH + 1].to(network.device)
        fine = functional.interpolate(slices, (network.edge,) * 2, mode="bilinear")
        repaired = network(fine, batch.xrays.to(network.device), [sd_turbo.prompt(organ) for organ in batch.organs])
        return functional.interpolate(repaired, slices.shape[2:], mode="bilinear", antialias=True)[:, 0].cpu()

    def save(self, path, card: dict) -> None:
        sd_turbo.save(self.fixer, path, card)


class SliceTraining:
    """A learner, the moving average of its weights, and the slices that it learns from.

    Parameters
    ----------
    pairs : list of StackPair
    learner : Learner
    steps : int
        Steps of AdamW; the rate rises at first and falls to nothing as a cosine does.
    seed : int
        Of the slices.
    perceptual : PerceptualLoss, optional
        A further loss of (repaired, truth, organs).
    """

    def __init__(self, pairs: list[StackPair], learner: Learner, steps: int, seed: int = 0, perceptual: PerceptualLoss | None = None):
        if not pairs or steps < 1:
            raise InputError("nothing to train on: give at least one pair and one step", "bad-arguments")
        self.pairs, self.learner, self.steps, self.seed, self.perceptual = pairs, learner, steps, seed, perceptual
        self.crop = min([CROP, *(n - n % FACTOR for pair in pairs for n in pair.truth.shape[1:])])
        self.xrays = [fitted(pair.xrays) for pair in pairs]
        self.weights = learner.parameters()
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimiser = torch.optim.AdamW(self.weights.values(), lr=learner.rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.done, self.astray = 0, 0

    def gains(self) -> Iterator[float]:
        """Yield after each step by how many dB the slices came closer to the truth, until all steps are done."""
        while self.done < self.steps:
            yield self.step()

    def step(self) -> float:
        """One step of AdamW on fresh slices.

        Raises
        ------
        InputError
            Where the gradient has been no number for `PATIENCE` steps.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = risen_and_fallen(self.learner.rate, self.done, self.steps, WARM_UP)
        batch = self.draw()
        repaired = self.learner(batch)
        left = error_left(repaired, batch.slabs[:, REACH], batch.truth)
        shown, wanted = ((values / 2).clamp(0, 1) for values in (repaired, batch.truth))
        loss = left.sqrt().mean() + STRUCTURE * (1 - ssim(shown, wanted))
        if self.perceptual:
            loss = loss + self.perceptual(repaired, batch.truth, batch.organs)
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), GRADIENT_NORM)
        self.done += 1
        self.astray = 0 if torch.isfinite(norm) else self.astray + 1
        if self.astray >= PATIENCE:
            raise no_number(f"the loss's gradient, {PATIENCE} steps long,", self.done)
        if not self.astray:
            self.optimiser.step()
            self._follow()
        return float(-10 * left.detach().log10().mean())

    def _follow(self) -> None:
        follow(self.average, self.weights, min(AVERAGING, 1 - 1 / (self.done + 1)))

    def draw(self) -> Slices:
        """The batch of the next step, which follows from the seed and the number of the step."""
        rng = np.random.default_rng((self.seed, self.done))
        slabs, truths, xrays, positions, organs = zip(*(self._slice(rng) for _ in range(self.learner.batch)))
        tensors = (torch.from_numpy(np.stack(arrays)) for arrays in (slabs, truths))
        return Slices(*tensors, torch.stack(xrays), torch.tensor(positions, dtype=torch.float32), list(organs))

    def _slice(self, rng: np.random.Generator):
        """A slab, the truth of its middle slice, and what is told of it; mirrored and turned by right angles."""
        index = int(rng.integers(len(self.pairs)))
        pair = self.pairs[index]
        stack, nz = pair.stacks[rng.integers(len(pair.stacks))], len(pair.truth)
        at_z, *at = in_body(pair.truth, (1, self.crop, self.crop), rng)
        z = at_z.start
        around = np.clip(np.arange(z - REACH, z + REACH + 1), 0, nz - 1)
        flip, turns = 1 - 2 * int(rng.integers(2)), int(rng.integers(4))
        slab, truth = (np.rot90(part[..., ::flip], turns, (-2, -1)) for part in (stack[around][:, *at], pair.truth[z, *at]))
        xrays, organ = self._told(index, rng)
        return slab.astype(np.float32), truth.astype(np.float32), xrays, (z + 0.5) / nz, organ

    def _told(self, index: int, rng: np.random.Generator) -> tuple[torch.Tensor, str]:
        """The X-rays of a pair, mirrored and in either order, as slices are mirrored and turned, and its organ; or nothing."""
        xrays = self.xrays[index]
        if rng.random() < UNTOLD:
            return torch.zeros_like(xrays), ""
        mirrored, swapped = rng.random(2) < 0.5
        xrays = xrays.flip(2) if mirrored else xrays
        return xrays.flip(0) if swapped else xrays, self.pairs[index].organ

    def save_state(self, path) -> None:
        """Write what `restore_state` goes on from; what was there before stays until all is written."""
        held = self.done, self.identity(), self.weights, self.average, self.optimiser.state_dict()
        write_state(path, {**dict(zip(STATE, held)), "perceptual": self.perceptual.state_dict() if self.perceptual else {}})

    def identity(self) -> dict:
        """What a training must have in common with one that goes on from it."""
        return {"steps": self.steps, "seed": self.seed, "perceptual": self.perceptual is not None}

    def restore_state(self, path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        InputError
            Where it is damaged or of another training.
        """
        state, shapes = read_state(path, (*STATE, "perceptual"), ("weights", "average"))
        ours = {name: weight.shape for name, weight in self.weights.items()}
        if state["identity"] != self.identity() or any(found != ours for found in shapes):
            raise another_training(path)
        if self.perceptual:
            try:
                self.perceptual.load_state_dict(state["perceptual"])
            except (KeyError, RuntimeError, ValueError):
                raise another_training(path) from None
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
                self.average[name].copy_(state["average"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.astray = state["done"], 0

    def save(self, path, card: dict) -> None:
        """Write the averaged weights."""
        with torch.no_grad():
            present = {name: weight.clone() for name, weight in self.weights.items()}
            for name, weight in self.weights.items():
                weight.copy_(self.average[name])
            self.learner.save(path, card)
            for name, weight in self.weights.items():
                weight.copy_(present[name])
