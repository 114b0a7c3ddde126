"""What a worker tells on the way: the stage it is at, and how far it is, no more often than someone can read."""

from __future__ import annotations

import time

from .events import EventWriter
from .watch import Watch


class Teller:
    """Turns stages and progress into events, and asks the watch whether to go on.

    Parameters
    ----------
    say : EventWriter
    watch : Watch
    every_s : float
        Least seconds between two events of progress within a stage.
    """

    def __init__(self, say: EventWriter, watch: Watch, every_s: float):
        self.say, self.watch, self._every_s = say, watch, every_s
        self._start, self._stage, self._said = time.monotonic(), "", float("-inf")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def stage(self, name: str) -> None:
        self.watch.check()
        if name != self._stage:
            self._stage, self._said = name, float("-inf")
            self.say("stage", name=name)

    def progress(self, step: int, steps: int, done: float, left: float | None) -> None:
        """Tell how far it is.

        Parameters
        ----------
        step, steps : int
            Of the stage.
        done : float
            Share of all, at most 1.
        left : float or None
            How many times as long as until now it will go on; None where nobody knows.
        """
        elapsed = self.elapsed_s
        if self._start + elapsed - self._said < self._every_s:
            return
        self._said = self._start + elapsed
        figures = {"fraction": round(min(done, 1.0), 4), "elapsed_s": round(elapsed, 2)}
        remaining = None if left is None else round(elapsed * left, 2)
        self.say("progress", stage=self._stage, step=step, steps=steps, **figures, remaining_s=remaining)
