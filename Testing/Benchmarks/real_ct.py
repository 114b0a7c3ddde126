"""Methods on real CT: PSNR and SSIM against time.

`python Testing/Benchmarks/real_ct.py CT [CT ...] [--field 256] [--views 20 50] [--seconds 24] [--methods ...]`; the bundled head without
a CT. Of each CT the middle `field` mm are scaled to 256 mm and sampled to 256 voxels cubed; what lies outside the field is air. The scan
(detector 256 x 256 with pixels of 1.6 mm, SID 1000, SDD 1500, 10^5 photons) is reconstructed on 128 voxels cubed.
"""

import argparse
import time
from pathlib import Path

from common import report, task  # isort: skip
import numpy as np

from SparseCTReconLib import Grid, Volume, methods, read_ct, resources, simulate
from SparseCTReconLib.evaluation.compare import resample
from SparseCTReconLib.evaluation.metrics import psnr, ssim
from SparseCTReconLib.units import AIR_HU, mu_to_hu

FIELD_MM, FINE = 256.0, 256


def in_field(ct: Volume, field_mm: float) -> Volume:
    """The CT at LPS 0 on `FINE` voxels cubed over the field, air outside the field's cylinder."""
    size, spacing = ct.grid.size, tuple(s * FIELD_MM / field_mm for s in ct.grid.spacing_mm)
    values, inside = resample(Volume(ct.array, Grid.centred(size, spacing)), Grid.centred((FINE,) * 3, (FIELD_MM / FINE,) * 3))
    ticks = (np.arange(FINE) - (FINE - 1) / 2) * FIELD_MM / FINE
    inside &= np.hypot(ticks[:, None], ticks) < FIELD_MM / 2 - 2
    return Volume(np.where(inside, values, AIR_HU).astype(np.float32), Grid.centred((FINE,) * 3, (FIELD_MM / FINE,) * 3))


def run(name: str, scan, grid, truth, limit_s: float) -> list:
    """Steps, seconds without looking, PSNR and SSIM of the last state within the limit."""
    method = methods.get(name)
    states, spent, asked, state = method.run(scan, grid, method.Options()), 0.0, time.perf_counter(), None
    try:
        while spent < limit_s:
            state = next(states) if state is None else states.send(spent / limit_s)
            spent, asked = spent + time.perf_counter() - asked, time.perf_counter()
    except StopIteration:
        pass
    recon = mu_to_hu(state.volume(), scan.mu_water)
    return [f"{state.step} of {state.steps}", spent, f"{psnr(recon, truth):.2f}", f"{ssim(recon, truth):.3f}"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ct", nargs="*", type=Path, default=[resources.find(resources.SAMPLE_CT)])
    parser.add_argument("--field", type=float, default=FIELD_MM)
    parser.add_argument("--views", nargs="+", type=int, default=[20, 50])
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--methods", nargs="+", default=methods.names())
    chosen = parser.parse_args()
    rows = []
    for path in chosen.ct:
        ct = in_field(read_ct(path), chosen.field)
        for views in chosen.views:
            geometry, grid = task(128, views)
            scan = simulate(ct, geometry=geometry)
            truth = resample(ct, grid)[0]
            rows += [[path.name, views, name, *run(name, scan, grid, truth, chosen.seconds)] for name in chosen.methods]
    report("Real CT, 128 voxels cubed", ["CT", "views", "method", "steps", "seconds", "PSNR, dB", "SSIM"], rows)


if __name__ == "__main__":
    main()
