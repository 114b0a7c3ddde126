"""The optimiser of `adam` in torch, on any device: parameters without a gradient are left alone."""

from __future__ import annotations

import torch

from .adam import BETA1, BETA2, EPSILON


def update(parameters, gradient, first, second, rate: float, correction: float) -> None:
    """One step in place on flat float32 tensors; `rate` and `correction` hold the corrections of the moments' bias. Zeroes `gradient`."""
    touched = (gradient != 0).to(gradient.dtype)
    first.lerp_(gradient, touched * float(1 - BETA1))
    second.lerp_(gradient * gradient, touched * float(1 - BETA2))
    parameters.sub_(rate * touched * first / ((second * correction).sqrt() + float(EPSILON)))
    gradient.zero_()


class TorchAdam:
    """State of the optimiser for one tensor, which `step` changes in place.

    Parameters
    ----------
    parameters : torch.Tensor
        Contiguous float32.
    update : callable
        `update` of this file, or a kernel that does the same.
    """

    def __init__(self, parameters: torch.Tensor, update=update):
        self.parameters, self.update = parameters.detach().view(-1), update
        self.first, self.second = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.steps = 0

    def step(self, gradient: torch.Tensor | None, rate: float) -> None:
        """Descend; `gradient` is set to zero. None is a gradient of zero."""
        self.steps += 1
        if gradient is None:
            return
        rate, correction = rate / (1 - float(BETA1) ** self.steps), 1 / (1 - float(BETA2) ** self.steps)
        self.update(self.parameters, gradient.view(-1), self.first, self.second, rate, correction)
