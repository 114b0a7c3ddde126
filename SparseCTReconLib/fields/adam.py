"""Adam (Kingma and Ba 2015) in one pass over memory; parameters without a gradient are left alone, as sparse hash tables want it."""

from __future__ import annotations

import numpy as np

from ..operators._jit import kernel, run_threaded

BETA1, BETA2, EPSILON = np.float32(0.9), np.float32(0.99), np.float32(1e-10)


@kernel
def _update(start, stop, parameters, gradient, first, second, rate, correction):
    for n in range(start, stop):
        g = gradient[n]
        if g == 0:
            continue
        gradient[n] = 0
        first[n] = BETA1 * first[n] + (1 - BETA1) * g
        second[n] = BETA2 * second[n] + (1 - BETA2) * g * g
        parameters[n] -= rate * first[n] / (np.sqrt(second[n] * correction) + EPSILON)


class Adam:
    """State of the optimiser for one flat array, which `step` changes in place.

    Parameters
    ----------
    parameters : ndarray
        Contiguous float32.
    """

    def __init__(self, parameters: np.ndarray):
        self.parameters = parameters.reshape(-1)
        self.first, self.second = np.zeros_like(self.parameters), np.zeros_like(self.parameters)
        self.steps = 0

    def step(self, gradient: np.ndarray, rate: float) -> None:
        """Descend; `gradient` is set to zero."""
        self.steps += 1
        rate = np.float32(rate / (1 - float(BETA1) ** self.steps))
        correction = np.float32(1 / (1 - float(BETA2) ** self.steps))
        flat = gradient.reshape(-1)
        run_threaded(_update, len(flat), self.parameters, flat, self.first, self.second, rate, correction)
