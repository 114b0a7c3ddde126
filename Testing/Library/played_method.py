"""A method for tests: it halves the error at each step, so that one can see where it stands."""

import time

import numpy as np
from pydantic import Field

from SparseCTReconLib.methods.base import Method, MethodOptions, State


class PlayedOptions(MethodOptions):
    steps: int = Field(8, ge=1, le=10_000, description="steps to do", json_schema_extra={"unit": "steps"})
    pause_s: float = Field(0.0, ge=0, description="time that a step takes", json_schema_extra={"unit": "s"})
    seed: int = Field(3, ge=0, description="seed")


class Played(Method):
    """Ends at mu = 0.02 (1 - 2^-steps)."""

    name, title, summary, citation = "played", "Played", "Halves the error at each step.", "none"
    devices = ("cpu", "cuda")
    Options = PlayedOptions
    presets = {"recommended": {}, "short": {"steps": 2, "seed": 5}}
    looks = 0
    spent = None

    def run(self, scan, grid, options, device="cpu", resume=None):
        error = float(resume["error"]) if resume else 1.0
        start = int(resume["step"]) if resume else 0
        for step in range(start + 1, options.steps + 1):
            if options.pause_s:
                time.sleep(options.pause_s)
            error /= 2
            spent = yield State("halving", step, options.steps, self._volume(grid, error), {"error": error}, self._checkpoint(step, error))
            self.spent = spent

    def _volume(self, grid, error):
        def volume():
            self.looks += 1
            return np.full(grid.shape, 0.02 * (1 - error), np.float32)

        return volume

    def _checkpoint(self, step, error):
        return lambda: {"error": np.array(error), "step": np.array(step)}
