"""How closely the detector's offset is found in noisy simulated scans: a head and a limb, three orbits, two doses.

python Testing/Benchmarks/calibration.py [CT ...]        the bundled head and knee by default
"""

from common import ROOT, report  # isort: skip
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from SparseCTReconLib import Scan, formats, simulate
from SparseCTReconLib.corrections.calibration import calibrate
from SparseCTReconLib.corrections.consistency import moved
from SparseCTReconLib.geometry import PRESETS
from SparseCTReconLib.scan import line_integrals

ORBITS = {"full circle": "linac", "short scan, 200 degrees": "c-arm", "half-fan": "linac-half-fan"}
DOSES = (1e5, 1e4)
OFFSET_PX = 3.3
VIEWS, ROWS = 50, 12
ELECTRONIC_NOISE = 10.0


def noisy(clean: Scan, photons: float, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(photons * np.exp(-clean.projections.astype(np.float64))) + rng.normal(0, ELECTRONIC_NOISE, clean.projections.shape)
    return replace(clean, projections=line_integrals(counts.clip(0), photons), photons=photons)


def rows_of(path: Path):
    ct = formats.read_ct(path)
    for orbit, preset in ORBITS.items():
        machine = PRESETS[preset]
        u, v = machine.get("offset_mm", (0.0, 0.0))
        pixel = machine["pixel_mm"][1]
        shape = (ROWS, machine["detector_shape"][1])
        there = simulate(ct, VIEWS, preset=preset, photons=None, detector_shape=shape, offset_mm=(u + OFFSET_PX * pixel, v))
        said = replace(there, geometry=moved(there.geometry, -OFFSET_PX * pixel))
        for seed, photons in enumerate(DOSES):
            start = time.perf_counter()
            found = calibrate(noisy(said, photons, seed))
            seconds = time.perf_counter() - start
            error = found.u_mm / pixel - OFFSET_PX
            yield [
                path.stem,
                orbit,
                f"{photons:.0e}",
                f"{error:+.2f}",
                f"{100 * found.unexplained_before:.1f}",
                f"{100 * found.unexplained:.1f}",
                seconds,
            ]


def main():
    samples = ROOT / "Resources" / "SampleData"
    paths = [Path(text) for text in sys.argv[1:]] or [samples / "head_vhp_female_2mm.nrrd", samples / "knee_vhp_female_2mm.nrrd"]
    head = ["CT", "orbit", "photons", "error, pixels", "unexplained before, %", "after, %", "seconds"]
    notes = [f"{VIEWS} views; the geometry is wrong by {OFFSET_PX} pixels along the rows. To reach: .5 pixel."]
    report("Detector offset found from the data", head, [row for path in paths for row in rows_of(path)], notes)


if __name__ == "__main__":
    main()
