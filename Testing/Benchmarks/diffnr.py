"""DiffNR against its backbones, against ADMM-TV, and taken apart as in its paper.

`python Testing/Benchmarks/diffnr.py CT [CT ...] [--field MM ...] [--views 24] [--size 64] [--sets recommended backbones ...]`: each CT
over its own width unless a field is given, 10^5 photons, scans as in real_ct.py. PSNR, SSIM, seconds and the reprojection residual of each
variant, means over the CTs, and each CT's PSNR. The card of the shipped SliceFixer names the CTs that it has learnt from.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from common import report  # isort: skip
import numpy as np
from real_ct import Problem, in_field, problem, warm_up

from SparseCTReconLib import read_ct
from SparseCTReconLib.evaluation.metrics import psnr, ssim
from SparseCTReconLib.methods.reconstruct import prepare, residual, to_unit

NAF = {"preset": "from-scratch", "iterations": 300}
GAUSSIAN = {"preset": "from-fdk", "iterations": 300}
QUICK = {"preset": "quick", "iterations": 300}


class Variant(NamedTuple):
    """A method, its options, and how many states are left when it is stopped."""

    method: str
    options: dict
    left: int = 0


LEARNING = 10
"""States in which diffnr-naf's field learns; those before are ADMM-TV's, with a repair in between."""

SETS = {
    "recommended": {
        "admm-tv": Variant("admm-tv", {}),
        "ADMM-TV, repaired, fitted again": Variant("diffnr-naf", {"iterations": 10 * LEARNING}, LEARNING),
        "diffnr-naf": Variant("diffnr-naf", {}),
        "diffnr-gaussian": Variant("diffnr-gaussian", {}),
    },
    "backbones": {
        "naf from scratch": Variant("naf", NAF),
        "diffnr-naf from scratch": Variant("diffnr-naf", NAF),
        "r2-gaussian from FDK": Variant("r2-gaussian", QUICK),
        "diffnr-gaussian from FDK": Variant("diffnr-gaussian", GAUSSIAN),
    },
    "ablation": {
        "r2-gaussian from FDK": Variant("r2-gaussian", QUICK),
        "repair alone": Variant("diffnr-gaussian", GAUSSIAN | {"only_repair": True}),
        "L1": Variant("diffnr-gaussian", GAUSSIAN | {"likeness": "l1"}),
        "SSIM": Variant("diffnr-gaussian", GAUSSIAN),
        "SSIM, finer": Variant("diffnr-gaussian", GAUSSIAN | {"finer": 2}),
        "SSIM, repaired once": Variant("diffnr-gaussian", GAUSSIAN | {"interval": 10 / 13.5}),
        "SSIM, told of another organ": Variant("diffnr-gaussian", GAUSSIAN | {"organ": "unknown"}),
    },
    "lambda": {f"lambda {value}": Variant("diffnr-gaussian", GAUSSIAN | {"strength": value}) for value in (0.1, 0.3, 1.0, 3.0)},
    "tau": {f"tau {value}": Variant("diffnr-gaussian", GAUSSIAN | {"every": value}) for value in (1, 2, 5, 10)},
}


def measure(to_solve: Problem, variant: Variant) -> dict[str, float]:
    """psnr, ssim, seconds and residual of a variant's end."""
    scan, grid, truth = to_solve
    job = prepare(scan, variant.method, grid, "cpu", variant.options)
    start = time.perf_counter()
    for state in job.states():
        if state.steps - state.step == variant.left:
            break
    mu = state.volume()
    seconds = time.perf_counter() - start
    volume = to_unit(mu, "HU", scan.mu_water)
    found = {"psnr": psnr(volume, truth), "ssim": ssim(volume, truth)}
    return found | {"seconds": seconds, "residual": residual(job.projector, mu, scan.projections)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="+", type=Path)
    parser.add_argument("--field", nargs="+", type=float, default=[], help="mm, one for each CT")
    parser.add_argument("--views", nargs="+", type=int, default=[24])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    chosen = parser.parse_args()
    cts = []
    for number, path in enumerate(chosen.ct):
        ct = read_ct(path)
        cts.append(in_field(ct, chosen.field[number] if chosen.field else float(max(ct.grid.extent_mm[:2])), chosen.size))
    for method in ("admm-tv", "naf", "r2-gaussian"):
        warm_up(method)
    for views in chosen.views:
        problems = [problem(ct, views, chosen.size) for ct in cts]
        for name in chosen.sets:
            rows = []
            for variant, how in SETS[name].items():
                found = [measure(to_solve, how) for to_solve in problems]
                means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
                each = ", ".join(f"{one['psnr']:.2f}" for one in found)
                cells = f"{means['psnr']:.2f}", f"{means['ssim']:.3f}", f"{means['seconds']:.1f}", f"{means['residual']:.4f}", each
                rows.append([variant, *cells])
                print(views, *rows[-1], flush=True)
            title = f"DiffNR: {name}, {chosen.size} voxels cubed, {views} views, {', '.join(path.stem for path in chosen.ct)}"
            report(title, ["variant", "PSNR, dB", "SSIM", "seconds", "residual", "each, dB"], rows)


if __name__ == "__main__":
    main()
