"""What the benchmarks share: the tasks, timing in turns, and a Markdown table under a line that says where it was measured."""

import datetime
import os
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Library")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from SparseCTReconLib.geometry import Geometry  # noqa: E402
from SparseCTReconLib.grid import Grid  # noqa: E402
from SparseCTReconLib.machine import cores  # noqa: E402

RADIUS_MM = 110.0
"""Of the phantom in every task."""


def task(voxels: int, views: int = 50) -> tuple[Geometry, Grid]:
    """T64 or T128: `voxels` cubed over 256 mm, a detector of twice as many pixels over 410 mm, SID 1000, SDD 1500."""
    pixels = 2 * voxels
    geometry = Geometry.circular(views, 1000.0, 1500.0, (pixels, pixels), (409.6 / pixels,) * 2)
    return geometry, Grid.centred((voxels,) * 3, (256.0 / voxels,) * 3)


def noisy(line_integrals: np.ndarray, photons: float, seed: int = 0) -> np.ndarray:
    """Line integrals as measured with `photons` in an empty pixel."""
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-line_integrals.astype(np.float64)))
    return (-np.log(np.maximum(counts, 0.5) / photons)).astype(np.float32)


def in_turns(functions: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each function; they run in turns, so that what disturbs the machine disturbs all, after one run unmeasured."""
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |b|."""
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def report(title: str, head: list[str], rows: list[list], notes: list[str] | tuple = ()) -> None:
    """Print a section in Markdown: title, where and when it was measured, table, notes."""
    print(f"## {title}\n\n{machine()}\n")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")
    print("".join(f"\n{note}" for note in notes) + "\n")


def machine() -> str:
    """Processor, threads, load, versions and date in one line."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("torch", "numba", "numpy", "itk-rtk"))
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{processor()}, {cores()} cores, {torch.get_num_threads()} threads{load}; Python {platform.python_version()}, {packages}; {now}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _cell(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
