"""What trainings of feed-forward networks have in common: steps of AdamW on fresh examples, a moving average of the weights, checkpoints.

The checkpoint after any step goes on as if nothing had happened: examples and what is drawn follow from the seed and the step. Lightning's
Fabric can be given for many GPUs and nodes; of every step, each process then has its own examples.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from .data import Example, stream
from .steps import PATIENCE, another_training, follow, no_number, read_state, risen_and_fallen, write_state

WARM_UP, GRADIENT_NORM, AVERAGING = 0.05, 1.0, 0.999
"""Share of the steps in which the rate rises; largest norm of the gradient; weight of the past in the average."""

REACH = 10
"""The average begins as that of the last tenth of the steps, about."""

STATE = ("done", "identity", "network", "average", "optimiser")


class Alone:
    """One process: what is asked of Fabric, which can be given in its place. On CUDA it works in bfloat16 if not told otherwise."""

    global_rank, world_size = 0, 1

    def __init__(self, device: str = "cpu", half: bool | None = None):
        self.device = torch.device(device)
        self.half = self.device.type == "cuda" if half is None else half

    def setup(self, network: nn.Module, optimiser):
        return network.to(self.device), optimiser

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def clip_gradients(self, network: nn.Module, optimiser, max_norm: float, error_if_nonfinite: bool) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(network.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite)

    def all_reduce(self, data: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return data

    def broadcast(self, said):
        return said


class Called(nn.Module):
    """A network, called with a function of it: Fabric looks into what is given, and refuses frozen dataclasses."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, call):
        return call(self.network)


class Learning:
    """A network, its moving average, and the examples that it learns from; what it lowers is said by those that derive from this.

    Parameters
    ----------
    examples : Examples
        Or whatever gives an `Example` for a number.
    network : Module
    optimiser : Optimizer
        Of the network's parameters.
    settings : dataclass
        With "steps", "rate" and "batch", scans in a step of each process.
    seed : int
        Of what is drawn.
    workers : int
        Processes that make examples.
    fabric : Alone or Fabric
    """

    def __init__(self, examples, network: nn.Module, optimiser, settings, seed: int, workers: int, fabric):
        self.examples, self.network, self.settings, self.seed = examples, network, settings, seed
        self.workers, self.fabric = workers, fabric
        self.wrapped, self.optimiser = fabric.setup(Called(network), optimiser)
        self.average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self.done, self.astray, self.diverged, self.waiting, self.waited_s = 0, 0, False, None, 0.0

    def model(self, *given):
        """What the network makes of what is given, so that gradients are those of all processes."""
        return self.wrapped(lambda network: network(*given))

    def gradients(self, examples: list[Example], rng: np.random.Generator) -> dict[str, float]:
        """Add the gradients of what is lowered, and say the losses by name."""
        raise NotImplementedError

    def identity(self) -> dict:
        """What a training must have in common with one that goes on from it; the rate need not be the same."""
        return {"settings": {name: value for name, value in asdict(self.settings).items() if name != "rate"}, "seed": self.seed}

    def losses(self) -> Iterator[dict[str, float]]:
        """Yield the losses of each step by name, until all steps are done."""
        while self.done < self.settings.steps:
            yield self.step()

    def step(self) -> dict[str, float]:
        """One step of AdamW on fresh examples.

        Raises
        ------
        InputError
            Where a loss is no number, or its gradient has been none for `PATIENCE` steps; the average is that of the last good step.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad()
        found = self.gradients(self._next(), np.random.default_rng((self.seed, self.fabric.global_rank, self.done)))
        if self._somewhere(not all(map(math.isfinite, found.values()))):
            self._stop("the loss")
        norm = self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=GRADIENT_NORM, error_if_nonfinite=False)
        self.done += 1
        self.astray = 0 if torch.isfinite(norm) else self.astray + 1
        if self.astray >= PATIENCE:
            self._stop(f"the loss's gradient, {PATIENCE} steps long,")
        if not self.astray:
            self.optimiser.step()
            self._follow()
        return found

    def rate(self) -> float:
        """The learning rate of the next step: it rises at first and falls to nothing as a cosine does."""
        steps = self.settings.steps
        return risen_and_fallen(self.settings.rate, self.done, steps, max(1, round(WARM_UP * steps)))

    def _next(self) -> list[Example]:
        """The examples of the next step."""
        batch, world, rank = self.settings.batch, self.fabric.world_size, self.fabric.global_rank
        if self.waiting is None:
            steps = range(self.done, self.settings.steps)
            self.waiting = stream(self.examples, [(step * world + rank) * batch + n for step in steps for n in range(batch)], self.workers)
        start = time.monotonic()
        examples = [next(self.waiting) for _ in range(batch)]
        self.waited_s += time.monotonic() - start
        return examples

    def _somewhere(self, so: bool) -> bool:
        """Whether something is so in any process: all of them must stop together."""
        return bool(self.fabric.all_reduce(torch.tensor(float(so), device=self.fabric.device), reduce_op="sum") > 0)

    def _stop(self, what: str) -> None:
        self.diverged = True
        raise no_number(what, self.done, "go on from the last checkpoint with a lower rate, or ")

    def _follow(self) -> None:
        follow(self.average, self.network.state_dict(), min(AVERAGING, 1 - REACH / (REACH - 1 + self.done)))

    def averaged(self) -> nn.Module:
        """A network with the averaged weights, ready for use."""
        made = copy.deepcopy(self.network)
        made.load_state_dict(self.average)
        return made.eval()

    def save_state(self, path) -> None:
        """Write what `restore_state` goes on from; what was there before stays until all is written.

        Raises
        ------
        InputError
            Where it cannot be written, or training has stopped because of what is no number, so that the last good one stays.
        """
        if self.diverged:
            raise InputError(f"{path} is left as it is: what would be written has led to values that are no numbers", "diverged")
        held = self.done, self.identity(), self.network.state_dict(), self.average, self.optimiser.state_dict()
        write_state(path, dict(zip(STATE, held)))

    def restore_state(self, path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        InputError
            Where it is damaged or of another training.
        """
        state, shapes = read_state(path, STATE, ("network", "average"))
        ours = {name: tensor.shape for name, tensor in self.average.items()}
        if state["identity"] != self.identity() or any(found != ours for found in shapes):
            raise another_training(path)
        self.network.load_state_dict(state["network"])
        for name, mine in self.average.items():
            mine.copy_(state["average"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.astray, self.diverged, self.waiting = state["done"], 0, False, None
