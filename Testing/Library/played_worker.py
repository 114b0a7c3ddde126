"""The real worker with one more method: `Played`, which also prints, as chatty libraries do, and starts a process of its own.

PLAYED_FREE_BYTES in the environment is the memory that it takes for free; PLAYED_FILE_BYTES is how long a file may become, as on a disk
that is nearly full.
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
    """Prints, fails at the end of 13 steps, diverges at the fifth of 14; 15 are too many for the memory, 16 for the GPU."""

    def run(self, scan, grid, options, device="cpu", resume=None):
        print("a line on standard output")
        os.system("echo and one from a child")
        subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for state in super().run(scan, grid, options, device, resume):
            diverged = options.steps == 14 and state.step >= 5
            yield replace(state, metrics={"error": float("nan")}) if diverged else state
        if options.steps == 13:
            raise RuntimeError("thirteen is an unlucky number\nreally")
        if options.steps == 15:
            raise MemoryError
        if options.steps == 16:
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported")


if __name__ == "__main__":
    known = methods.get
    methods.get = lambda name: Chatty() if name == "played" else known(name)
    if "PLAYED_FREE_BYTES" in os.environ:
        from SparseCTReconLib.methods import checks

        checks.available_memory_bytes = lambda: float(os.environ["PLAYED_FREE_BYTES"])
    if "PLAYED_FILE_BYTES" in os.environ:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["PLAYED_FILE_BYTES"]),) * 2)
    sys.exit(worker.main())
