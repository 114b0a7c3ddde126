"""What real geometries cost: each method on a half-fan, a short scan, a truncated torso and a limited arc, against its own full scan.

The same torso, noise and number of views in all of them; PSNR over the voxels that the geometry at hand sees well enough (its field of
view), of its result and of the same method's result on a full circle with a detector that sees the whole body. `python
Testing/Benchmarks/geometries.py CT.nrrd [METHOD ...]`: without methods those that take seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
from common import report

from SparseCTReconLib import Geometry, Grid, methods, read_ct, simulate
from SparseCTReconLib.classical.truncation import is_truncated
from SparseCTReconLib.evaluation.compare import aligned
from SparseCTReconLib.evaluation.metrics import psnr
from SparseCTReconLib.grid import Volume
from SparseCTReconLib.methods.cautions import cautions
from SparseCTReconLib.methods.reconstruct import prepare
from SparseCTReconLib.operators.field_of_view import ENOUGH, field_of_view

VOXEL_MM = 6.4
SIZE = (64, 64, 40)
MACHINE = {"sid_mm": 1000.0, "sdd_mm": 1500.0, "pixel_mm": (6.4, 6.4)}
ROWS, WIDE = 48, 104
"""Of the detector that sees the whole body in each view."""

QUICK = ("fdk", "os-sart", "cgls", "admm-tv")
ALLOWED_DB = 1.5


@dataclass(frozen=True)
class Case:
    """A geometry, as arguments of `Geometry.circular`, and how many voxels across it is asked for."""

    changes: dict
    across: int = SIZE[0]
    against_best: bool = False
    columns: int = field(default=WIDE)

    def geometry(self, views: int, centre) -> Geometry:
        return Geometry.circular(views, detector_shape=(ROWS, self.columns), isocentre_mm=centre, **MACHINE, **self.changes)

    def grid(self, centre) -> Grid:
        return Grid.centred((self.across, self.across, SIZE[2]), (VOXEL_MM,) * 3, centre)


FULL = Case({})
CASES = {
    "half-fan, offset 40 %": Case({"offset_mm": (0.4 * 58 * 6.4, 0.0)}, columns=58),
    "short scan, 200 degrees": Case({"arc_rad": np.radians(200)}),
    "truncated torso": Case({}, across=40, columns=60),
    "arc of 120 degrees": Case({"arc_rad": np.radians(120)}, against_best=True),
}


def measure(ct: Volume, case: Case, names, views: int, full: dict[str, Volume] | None = None):
    """PSNR in the field of view by method, that of `full` on the same voxels, warnings by method, and the volumes."""
    centre = tuple(ct.grid.centre_mm)
    scan = simulate(ct, geometry=case.geometry(views, centre), photons=1e5)
    seen = field_of_view(scan.geometry, case.grid(centre)) >= ENOUGH
    found, compared, warned, volumes = {}, {}, {}, {}
    for name in names:
        job = prepare(scan, name, case.grid(centre), "cpu")
        *_, state = job.states()
        volumes[name] = job.volume(state, 0.0)
        warned[name] = "; ".join(cautions(job.method, scan.geometry, is_truncated(scan)))
        found[name] = in_view(volumes[name], ct, seen)
        compared[name] = in_view(cut(full[name], case), ct, seen) if full else found[name]
        print(f"{name}: {found[name]:.2f} dB, full scan {compared[name]:.2f}", file=sys.stderr, flush=True)
    return found, compared, warned, volumes


def cut(volume: Volume, case: Case) -> Volume:
    """The middle of a full scan's volume, on the grid of `case`."""
    margin = (SIZE[0] - case.across) // 2
    inner = slice(margin, SIZE[0] - margin)
    return Volume(volume.array[:, inner, inner], case.grid(volume.grid.centre_mm))


def in_view(volume: Volume, ct: Volume, seen: np.ndarray) -> float:
    pair = aligned(volume, ct)
    return psnr(pair.image, pair.truth, pair.within & seen)


def main(path: str, names, views: int = 50) -> None:
    ct = read_ct(path)
    _, _, _, full = measure(ct, FULL, names, views)
    rows = []
    for title, case in CASES.items():
        found, compared, warned, _ = measure(ct, case, names, views, full)
        best = max(found.values())
        for name in names:
            short = (best if case.against_best else compared[name]) - found[name]
            verdict = "yes" if short <= ALLOWED_DB else "said" if warned[name] else "NO"
            rows.append([title, name, f"{found[name]:.2f}", f"{compared[name]:.2f}", f"{best:.2f}", f"{short:+.2f}", verdict, warned[name]])
    head = ["geometry", "method", "PSNR dB", "full scan", "best method", "short by", "within 1.5 dB", "what is said beforehand"]
    scene = f"{views} views, 1e5 photons, voxels of {VOXEL_MM} mm, {path.rsplit('/', 1)[-1]}"
    note = f"{scene}. Short by: of the method's own full scan; on the arc, of the best method."
    report("What geometries cost", head, rows, [note])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("give a CT of a torso, and methods: python Testing/Benchmarks/geometries.py CT.nrrd fdk admm-tv")
    for method in sys.argv[2:]:
        methods.get(method)
    main(sys.argv[1], sys.argv[2:] or QUICK)
