"""The mean of a field's weights over part of its training.

    mean_k = mean_(k-1) + (w_k - mean_(k-1)) / k

Steps of a constant length never settle: the weights wander about a minimum, and the mean of where they have been lies nearer to it than
any of them (Polyak and Juditsky 1992; for networks Izmailov et al. 2018, "Averaging weights leads to wider optima and better
generalization"). It needs memory for one more set of weights and no second field: to be looked at, it takes their place for a moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from .field import Field

EXCHANGED_AT_ONCE = 1 << 20
"""Numbers that the weights and their mean exchange at once, so that a copy of either is never held."""


class WeightAverage:
    """The running mean of a field's weights; Adam's moments, the mask of channels and the counters have no part in it.

    Parameters
    ----------
    field : Field
        What is averaged. It goes on learning from its own weights.
    """

    def __init__(self, field: Field):
        self.field, self.count = field, 0
        self._mean: dict[str, torch.Tensor] = {}

    def add(self) -> None:
        """Count the present weights in."""
        self.count += 1
        for name, weights in self.field.weights().items():
            if self.count == 1:
                self._mean[name] = weights.clone()
            else:
                self._mean[name].lerp_(weights, 1 / self.count)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the field has the mean for its weights, or its own while nothing has been counted; afterwards exactly its own."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, mean in self._mean.items():
            parts = (tensor.view(-1).split(EXCHANGED_AT_ONCE) for tensor in (self.field.weights()[name], mean))
            for weights, averaged in zip(*parts):
                kept = weights.clone()
                weights.copy_(averaged)
                averaged.copy_(kept)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` takes, by names that no array of a field has; nothing while nothing has been counted."""
        if not self.count:
            return {}
        return {f"mean_{name}": mean.cpu().numpy() for name, mean in self._mean.items()} | {"mean_of": np.array(self.count)}

    def restore(self, arrays) -> None:
        """Take over the mean that `arrays` holds, or begin anew where it holds none."""
        self.count = int(arrays["mean_of"]) if "mean_of" in arrays else 0
        self._mean = {}
        if self.count:
            for name, weights in self.field.weights().items():
                mean = torch.from_numpy(np.array(arrays[f"mean_{name}"], dtype=np.float32))
                self._mean[name] = mean.view(weights.shape).to(weights.device)
