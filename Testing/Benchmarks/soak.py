"""An hour of jobs, one after the other as a queue runs them: memory over time, of this process and of its workers, and what is left behind.

    python Testing/Benchmarks/soak.py [--minutes 60] [--every 60]

Each round writes a scan, reconstructs it with a fast method, cancels another job and resumes it. Every minute a line says how many rounds
were done, the memory of this process, the most that a worker took, open files, threads, children, and megabytes in the folder. At the end
a straight line through the second half of the memory says how much it grows in an hour. More than 20 MB, a process or a file left behind,
or a job that failed is exit status 1. Needs psutil.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from SparseCTReconLib import Geometry, Scan, write_scan
from SparseCTReconLib.jobs.client import Job, JobState, SubprocessTransport
from SparseCTReconLib.jobs.spec import ReconstructJob, write_spec

MOST_GROWTH_MB_PER_HOUR = 20.0
SLOW, QUICK = ("os-sart", {"iterations": 200}), ("fdk", {})


def main() -> int:
    """Run until the time is over; returns the exit status."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--minutes", type=float, default=60.0)
    asked.add_argument("--every", type=float, default=60.0, help="seconds between lines")
    asked = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        table = soak(folder, 60 * asked.minutes, asked.every)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return judged(table)


def soak(folder: Path, seconds: float, every: float) -> list[dict]:
    """A row of figures for every `every` seconds."""
    start, due, table, rounds, worst = time.monotonic(), 0.0, [], 0, 0.0
    failed: list[str] = []
    while time.monotonic() - start < seconds:
        worst = max(worst, one_round(folder, failed))
        rounds += 1
        elapsed = time.monotonic() - start
        if elapsed >= due:
            table.append({"minutes": elapsed / 60, "rounds": rounds, "worker_mb": worst, "failed": len(failed), **figures(folder)})
            print("  ".join(f"{key} {value:.4g}" for key, value in table[-1].items()), flush=True)
            due = elapsed + every
    for message in failed[:10]:
        print("failed:", message)
    return table


def one_round(folder: Path, failed: list[str]) -> float:
    """A scan, a job that is done, a job that is cancelled and resumed; returns the largest memory of a worker in MB."""
    scan = folder / "scan"
    geometry = Geometry.preset("linac", 24, detector_shape=(32, 32), pixel_mm=(12.8, 12.8))
    write_scan(Scan(np.random.default_rng(0).uniform(0, 2, (24, 32, 32)), geometry, photons=1e5), scan)
    quick = run(folder, "quick", QUICK)
    cancelled = run(folder, "slow", SLOW, cancel=True)
    resumed = run(folder, "slow", SLOW, resume=True, budget_s=2.0)
    for job, wanted in ((quick, JobState.DONE), (cancelled, JobState.CANCELLED), (resumed, JobState.DONE)):
        if job.state is not wanted:
            failed.append(f"{job.state.value}: {job.error and job.error['message']}")
    return max((job.result["summary"].get("peak_memory_mb") or 0.0) for job in (quick, resumed) if job.result) if quick.result else 0.0


def run(
    folder: Path, name: str, method: tuple[str, dict], cancel: bool = False, resume: bool = False, budget_s: float | None = None
) -> Job:
    """One job to its end; with `cancel` it is cancelled after its third step."""
    values = {"method": method[0], "options": method[1], "size": (48, 48, 32), "budget_s": budget_s}
    spec = ReconstructJob(scan=str(folder / "scan"), output=str(folder / f"{name}.nrrd"), **values)
    job = Job(SubprocessTransport())
    job.start(write_spec(spec, folder / name), resume)
    while job.active:
        job.poll()
        if cancel and job.progress and job.progress["step"] >= 3:
            job.cancel()
        time.sleep(0.02)
    return job


def figures(folder: Path) -> dict[str, float]:
    """What this process holds now, and what lies in the folder."""
    process = psutil.Process()
    hidden = sum(path.name.startswith(".") for path in folder.rglob("*"))
    return {
        "memory_mb": process.memory_info().rss / 1e6,
        "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else process.num_handles(),
        "threads": threading.active_count(),
        "children": len(process.children(recursive=True)),
        "left_behind": hidden,
        "folder_mb": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
    }


def judged(table: list[dict]) -> int:
    """Say whether memory is flat and nothing was left behind."""
    half = table[len(table) // 2 :]
    growth = 0.0
    if len(half) > 2:
        growth = 60 * np.polyfit([row["minutes"] for row in half], [row["memory_mb"] for row in half], 1)[0]
    last = table[-1]
    faults = {key: last[key] for key in ("failed", "children", "left_behind") if last[key]}
    more_files = last["files"] - table[0]["files"]
    print(f"memory grows by {growth:.1f} MB an hour; open files by {more_files}; faults: {faults or 'none'}")
    return int(bool(faults) or growth > MOST_GROWTH_MB_PER_HOUR or more_files > 5)


if __name__ == "__main__":
    sys.exit(main())
