"""Tests in several processes share the cores: one thread for each process and for what it starts.

Twice as many threads as cores wait for each other in turns: trainings of a few seconds took minutes. This file is read before any
test file and the other conftests, since torch, numpy and ITK look here only when they are imported. Tests of threads set their number
themselves.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(name, "1")
