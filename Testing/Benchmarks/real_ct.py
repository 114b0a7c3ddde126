"""Methods on real CT: PSNR and SSIM against time.

`python Testing/Benchmarks/real_ct.py CT [CT ...] [--field 256] [--views 20 50] [--seconds 24] [--methods ...]`; the bundled head without
a CT. Of each CT the middle `field` mm are scaled to 256 mm and sampled to 256 voxels cubed; what lies outside the field is air. The scan
(detector 256 x 256 with pixels of 1.6 mm, SID 1000, SDD 1500, 10^5 photons) is reconstructed on 128 voxels cubed.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from common import report, task  # isort: skip
import numpy as np
import torch
from small_scanners import circular, cubic

from SparseCTReconLib import Grid, Scan, Volume, methods, read_ct, resources, simulate
from SparseCTReconLib.evaluation.compare import resample
from SparseCTReconLib.evaluation.metrics import psnr, ssim
from SparseCTReconLib.machine import peak_memory_bytes
from SparseCTReconLib.methods.reconstruct import prepare, to_unit
from SparseCTReconLib.units import AIR_HU

FIELD_MM = 256.0


class Problem(NamedTuple):
    """A scan, the grid to reconstruct, and the truth on it in HU."""

    scan: Scan
    grid: Grid
    truth: np.ndarray


def in_field(ct: Volume, field_mm: float, size: int = 128) -> Volume:
    """The CT at LPS 0 on voxels half as large as those of `size` voxels cubed over the field, air outside the field's cylinder."""
    fine = 2 * size
    spacing = tuple(s * FIELD_MM / field_mm for s in ct.grid.spacing_mm)
    grid = Grid.centred((fine,) * 3, (FIELD_MM / fine,) * 3)
    values, inside = resample(Volume(ct.array, Grid.centred(ct.grid.size, spacing)), grid)
    ticks = (np.arange(fine) - (fine - 1) / 2) * FIELD_MM / fine
    inside &= np.hypot(ticks[:, None], ticks) < FIELD_MM / 2 - 2
    return Volume(np.where(inside, values, AIR_HU).astype(np.float32), grid)


def problem(ct: Volume, views: int, size: int = 128) -> Problem:
    """A scan of what `in_field` gives, and `size` voxels cubed to reconstruct from it."""
    geometry, grid = task(size, views)
    return Problem(simulate(ct, geometry=geometry), grid, resample(ct, grid)[0])


def warm_up(name: str, preset: str | None = None, device: str = "cpu") -> None:
    """Load a method's kernels, compiled if need be, by its first step on a tiny scan."""
    geometry = circular()
    scan = Scan(np.full((geometry.views, *geometry.detector_shape), 0.1), geometry, photons=1e5)
    next(prepare(scan, name, cubic(), device, {"preset": preset}).states()).volume()


def run(to_solve: Problem, name: str, limit_s: float, preset: str | None = None, device: str = "cpu") -> dict:
    """steps, seconds without looking, psnr_db and ssim of the last state within the limit, peak_memory_mb of this process until then."""
    scan, grid, truth = to_solve
    job = prepare(scan, name, grid, device, {"preset": preset})
    start = time.perf_counter()
    for state in job.states(limit_s):
        last = state
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    last = job.settle(last)
    recon, peak = to_unit(last.volume(), "HU", scan.mu_water), peak_memory_bytes()
    return {
        "steps": f"{last.step} of {last.steps}",
        "seconds": round(seconds, 4),
        "psnr_db": round(psnr(recon, truth), 3),
        "ssim": round(ssim(recon, truth), 4),
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ct", nargs="*", type=Path, default=[resources.find(resources.SAMPLE_CT)])
    parser.add_argument("--field", type=float, default=FIELD_MM)
    parser.add_argument("--views", nargs="+", type=int, default=[20, 50])
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--methods", nargs="+", default=methods.names())
    chosen = parser.parse_args()
    for name in chosen.methods:
        warm_up(name)
    rows = []
    for path in chosen.ct:
        ct = in_field(read_ct(path), chosen.field)
        for views in chosen.views:
            to_solve = problem(ct, views)
            for name in chosen.methods:
                found = run(to_solve, name, chosen.seconds)
                cells = found["steps"], found["seconds"], f"{found['psnr_db']:.2f}", f"{found['ssim']:.3f}"
                rows.append([path.name, views, name, *cells])
    report("Real CT, 128 voxels cubed", ["CT", "views", "method", "steps", "seconds", "PSNR, dB", "SSIM"], rows)


if __name__ == "__main__":
    main()
