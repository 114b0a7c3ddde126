"""What the tests of library and panel share: one thread for each of several processes, and a process that workers are forked from.

Twice as many threads as cores wait for each other in turns: trainings of a few seconds took minutes. This file is read before any test
file and the other conftests, since torch, numpy and ITK look here only when they are imported. Tests of threads set their number
themselves.
"""

import os
import sys

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(name, "1")


@pytest.fixture(scope="session")
def loaded_libraries():
    """A process that workers are forked from, begun before any test changes the environment."""
    if sys.platform == "linux":
        import forked_worker

        forked_worker.load()
