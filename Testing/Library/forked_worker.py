"""In the place of `subprocess`: Python that is forked from a process which has loaded the libraries before, otherwise a process as any.

Loading torch and what belongs to it takes a worker two to three seconds, and most workers in tests take no longer for all the rest. How
one starts by itself is tested in `test_jobs_worker` and `test_fault_matrix`.
"""

import io
import multiprocessing
import os
import runpy
import sys
from multiprocessing import forkserver
from subprocess import DEVNULL, PIPE

__all__ = ["DEVNULL", "PIPE", "Popen", "load"]

LIBRARIES = [f"SparseCTReconLib.jobs.{name}" for name in ("tasks", "correct_task", "compare_task", "trust_task")]
LIBRARIES += ["SparseCTReconLib.methods.admm_tv", "SimpleITK"]


def load():
    """Start the process that others are forked from, with the present environment."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(LIBRARIES)
    forkserver.ensure_running()


class Popen:
    """What a transport uses of `subprocess.Popen`, for ``[python, "-u", file or "-m", module, ...]``."""

    def __init__(self, command, env, start_new_session=True, **pipes):
        context = multiprocessing.get_context("forkserver")
        (out, theirs), (error, their_error) = (context.Pipe(duplex=False) for _ in range(2))
        self._process = context.Process(target=_run, args=(command[2:], dict(env), os.getcwd(), theirs, their_error))
        self._process.start()
        self.pid = self._process.pid
        self.stdout, self.stderr = (io.FileIO(os.dup(end.fileno())) for end in (out, error))
        for end in (out, error, theirs, their_error):
            end.close()

    def poll(self):
        return self._process.exitcode


def _run(arguments, environment, folder, out, error):
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out.fileno(), 1)
    os.dup2(error.fileno(), 2)
    out.close()
    error.close()
    module = arguments[0] == "-m"
    sys.argv = arguments[module:]
    if module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
