"""First use: how long the kernels compile in an empty cache folder, and how long the same takes once they are cached.

`python Testing/Benchmarks/first_use.py [METHOD ...]`; all methods by default. Every kernel is reached: each method takes its first step,
on a usual orbit and, for one, on a tilted detector. Each run is a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from common import report  # isort: skip
from SparseCTReconLib import methods
from SparseCTReconLib.methods.reconstruct import prepare
from SparseCTReconLib.scan import Scan


def first_steps(chosen):
    """Seconds of the first step of each method on a tiny scan, {what: seconds}."""
    import numpy as np
    from small_scanners import circular, cubic, tilted

    from SparseCTReconLib.operators import projector

    geometry, seconds = circular(), {}
    start = time.perf_counter()
    for scanner in (geometry, tilted(geometry, 0.2)):
        A = projector(scanner, cubic())
        A.T(A(A.volume(np.ones(A.volume_shape))))
        seconds[f"projector, {A.backend}"] = time.perf_counter() - start
        start = time.perf_counter()
    scan = Scan(np.full((geometry.views, *geometry.detector_shape), 0.1), geometry, photons=1e5)
    for name in chosen:
        start = time.perf_counter()
        state = next(prepare(scan, name, cubic()).states())
        state.volume()
        seconds[name] = time.perf_counter() - start
    return seconds


def in_fresh_process(folder, chosen):
    """`first_steps` in a process of its own with its kernels cached in `folder`; "in all" adds what imports took."""
    start = time.perf_counter()
    environment = os.environ | {"SPARSECTRECON_CACHE": folder}
    done = subprocess.run([sys.executable, __file__, "--here", *chosen], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"in all, with imports": time.perf_counter() - start}


def main():
    chosen = sys.argv[1:] or methods.names()
    with tempfile.TemporaryDirectory() as folder:
        empty, cached = (in_fresh_process(folder, chosen) for _ in range(2))
    rows = [[what, empty[what], cached[what]] for what in empty]
    compiling = sum(empty[what] - cached[what] for what in empty if not what.startswith("in all"))
    notes = [f"- compiling took {compiling:.1f} s in all"]
    report("First use", ["what", "empty cache, s", "cached, s"], rows, notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(first_steps(sys.argv[2:])))
    else:
        main()
