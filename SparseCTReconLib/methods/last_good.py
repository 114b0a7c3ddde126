"""The last good volume of a run, for when the numbers of a method cease to be finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from .base import State

_INTERVAL_S, _PATIENCE = 10.0, 50


class LastGood:
    """Keeps a copy of the newest finite volume: of whatever is looked at, and of its own looks, which take a fiftieth of the time.

    Parameters
    ----------
    explains : callable
        Whether a finite volume [z, y, x] explains the data better than nothing does.
    clock : callable
        Seconds.
    """

    def __init__(self, explains: Callable[[np.ndarray], bool], clock: Callable[[], float] = time.monotonic):
        self._explains, self._clock = explains, clock
        self._newest: State | None = None
        self._kept: State | None = None
        self._due = clock() + _INTERVAL_S
        self.spoiled = False
        """Whether a volume that was looked at had values that are not finite."""

    def guard(self, state: State) -> State:
        """`state` with a volume that is kept when someone looks at it."""
        self._newest = state
        return replace(state, volume=partial(self._look, state), last_good=self)

    def look_if_due(self) -> None:
        """Look at the newest state's volume if it is time."""
        if self._clock() >= self._due:
            self._look(self._newest)

    def state(self, reason: str) -> State | None:
        """The last state with a good volume, with a note that says why it is the last; None where there is none.

        The newest state's volume may still be good: a method that finds its figures not finite can say so before it changes the volume.
        """
        for state in (self._newest, self._kept):
            if state is None:
                continue
            mu = np.array(state.volume(), dtype=np.float32)
            if np.isfinite(mu).all() and self._explains(mu):
                note = f"stopped because {reason}: the volume is that of step {state.step} of {state.steps}"
                return replace(state, volume=lambda mu=mu: mu, checkpoint=None, note=note)
        return None

    def _look(self, state: State) -> np.ndarray:
        start = self._clock()
        mu = np.asarray(state.volume(), dtype=np.float32)
        if np.isfinite(mu).all():
            kept = mu.copy()
            self._kept = replace(state, volume=lambda: kept)
        else:
            self.spoiled = True
        self._due = self._clock() + max(_INTERVAL_S, _PATIENCE * (self._clock() - start))
        return mu


def not_finite(metrics: dict[str, float]) -> str | None:
    """The first of `metrics` that is not finite, as a reason; None where all are."""
    return next((f"its {name} became {value}" for name, value in metrics.items() if not math.isfinite(value)), None)
