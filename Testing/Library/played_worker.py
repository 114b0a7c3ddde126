"""The real worker with one more method: `Played`, which also prints, as chatty libraries do, and starts a process of its own.

PLAYED_FREE_BYTES in the environment is the memory that it takes for free.
"""

import os
import subprocess
import sys
from dataclasses import replace

from played_method import Played

from SparseCTReconLib import methods
from SparseCTReconLib.jobs import worker
from SparseCTReconLib.jobs.client import SubprocessTransport


class PlayedTransport(SubprocessTransport):
    """Starts this file where `SubprocessTransport` starts the worker."""

    def start(self, arguments, environment):
        super().start(["-u", __file__, *arguments[3:]], environment)


class Chatty(Played):
    """Prints, fails at the end of 13 steps, and diverges at the fifth of 14."""

    def run(self, scan, grid, options, device="cpu", resume=None):
        print("a line on standard output")
        os.system("echo and one from a child")
        subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for state in super().run(scan, grid, options, device, resume):
            diverged = options.steps == 14 and state.step >= 5
            yield replace(state, metrics={"error": float("nan")}) if diverged else state
        if options.steps == 13:
            raise RuntimeError("thirteen is an unlucky number\nreally")


if __name__ == "__main__":
    known = methods.get
    methods.get = lambda name: Chatty() if name == "played" else known(name)
    if "PLAYED_FREE_BYTES" in os.environ:
        from SparseCTReconLib.methods import checks

        checks.available_memory_bytes = lambda: float(os.environ["PLAYED_FREE_BYTES"])
    sys.exit(worker.main())
