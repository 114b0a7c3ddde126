"""How fast a training is: examples a second, how much of what the machine's matrix products reach, how long it waits for examples.

The products of a step are counted once, on a copy of the network before training, by torch's own counter: matrix products, convolutions and
attention of both passes. What a machine reaches is the best of some products of large matrices in the precision of the training.
"""

from __future__ import annotations

import copy
import time
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .learning import Alone, Called, Learning

SIDE = {"cpu": 1024, "cuda": 8192}
TRIES = 5


class Speed(NamedTuple):
    """How fast a training has been.

    Parameters
    ----------
    per_s : float
        Examples in a second, of all processes.
    of_matmul : float
        Operations in a second as a share of those that products of large matrices reach.
    waiting : float
        Share of the time in which it has waited for examples.
    """

    per_s: float
    of_matmul: float
    waiting: float

    def __str__(self) -> str:
        return (
            f"{self.per_s:.3g} samples/s, {self.of_matmul:.0%} of what products of matrices reach on this machine, "
            f"{self.waiting:.0%} of the time waiting for examples"
        )


class Meter:
    """Watches a training from now on.

    Parameters
    ----------
    learner : Learning
        That has not begun.
    """

    def __init__(self, learner: Learning):
        self.learner = learner
        self.operations, self.peak = operations(learner), matmul_rate(learner.fabric.device, half(learner))
        self.started, self.from_step, self.waited_s = time.monotonic(), learner.done, learner.waited_s

    def speed(self) -> Speed:
        """Since it began to watch."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        steps, settings = self.learner.done - self.from_step, self.learner.settings
        per_s = steps * settings.batch * self.learner.fabric.world_size / elapsed
        of_matmul = steps * self.operations / elapsed / self.peak
        return Speed(per_s, of_matmul, (self.learner.waited_s - self.waited_s) / elapsed)


def operations(learner: Learning) -> int:
    """Floating-point operations of a step of one process; the training does not notice."""
    device = learner.fabric.device
    probe = copy.copy(learner)
    probe.network = copy.deepcopy(learner.network)
    probe.fabric = Alone(str(device), half(learner))
    probe.wrapped = Called(probe.network)
    numbers = range(learner.settings.batch)
    with FlopCounterMode(display=False) as counter:
        probe.gradients([learner.examples[number] for number in numbers], np.random.default_rng(0))
    return counter.get_total_flops()


def half(learner: Learning) -> bool:
    """Whether products are of bfloat16."""
    with learner.fabric.autocast():
        return torch.is_autocast_enabled(learner.fabric.device.type)


def matmul_rate(device: torch.device, half: bool) -> float:
    """Operations in a second that the product of two large matrices reaches."""
    side = SIDE[device.type]
    one = torch.rand(side, side, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        product = one @ one
        float(product[0, 0])  # on CUDA this waits for the product
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
