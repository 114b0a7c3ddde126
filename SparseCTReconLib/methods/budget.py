"""How far a run has spent the seconds that it may take."""

from __future__ import annotations

import time
from collections import deque

from .base import State


class Budget:
    """Seconds that a run may take, and how far its steps have spent them.

    Parameters
    ----------
    seconds : float or None
        None: no limit.
    """

    def __init__(self, seconds: float | None):
        self._seconds = seconds
        self._start = self._asked = time.monotonic()
        self._recent: deque[float] = deque(maxlen=3)  # not all: the first step's time holds the compilation of kernels

    def begin_step(self) -> float | None:
        """The share of the budget that is spent, None before the first step and where there is no budget."""
        self._asked = time.monotonic()
        return None if self._seconds is None or not self._recent else (self._asked - self._start) / self._seconds

    def end_step(self) -> None:
        self._recent.append(time.monotonic() - self._asked)

    def is_spent(self) -> bool:
        """Whether the next step would probably end too late."""
        return self._seconds is not None and time.monotonic() - self._start + max(self._recent) > self._seconds

    def too_short(self, state: State) -> str:
        """A sentence where the first step of several has taken more than the budget; empty otherwise."""
        taken = time.monotonic() - self._start
        if self._seconds is None or len(self._recent) > 1 or taken <= self._seconds or state.step >= state.steps:
            return ""
        return (
            f"one step took {taken:.3g} s, more than the budget of {self._seconds:g} s: the volume is that of step {state.step} of "
            f"{state.steps}; give more time or a coarser grid"
        )
