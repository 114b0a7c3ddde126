"""Learned methods against ADMM-TV and NAF with 6 to 10 views over half a circle.

`python Testing/Benchmarks/few_views.py CT [CT ...] [--field MM ...] [--views 6 8 10] [--size 64] [--weights limb] [--variants ...]`: each
CT over its own width unless a field is given, 10^5 photons, machine as in real_ct.py. Means over the CTs of PSNR, SSIM, the reprojection
residual over the noise, seconds, and the PSNR of X-rays from half-way between the views, against those of the CT without noise; each CT's
PSNR. X-rays of a volume are its projections; x-grm's own are its Gaussians'. The cards of the shipped weights name the CTs that they have
learnt from.
"""

import argparse
import time
from pathlib import Path

from common import report, task  # isort: skip
import numpy as np
from real_ct import Problem, in_field

from SparseCTReconLib import read_ct
from SparseCTReconLib.evaluation.compare import resample
from SparseCTReconLib.evaluation.metrics import psnr, ssim
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.methods.novel_views import novel_views
from SparseCTReconLib.methods.reconstruct import prepare, to_unit
from SparseCTReconLib.operators import projector
from SparseCTReconLib.simulate import simulate

VARIANTS = {
    "admm-tv": ("admm-tv", {}),
    "admm-tv, reweighted": ("admm-tv", {"preset": "reweighted"}),
    "naf from scratch": ("naf", {"preset": "from-scratch", "iterations": 300}),
    "naf": ("naf", {}),
    "deepsparse, network alone": ("deepsparse", {"preset": "paper"}),
    "deepsparse": ("deepsparse", {}),
    "x-grm, network alone": ("x-grm", {"preset": "paper"}),
    "x-grm": ("x-grm", {}),
}
LEARNED = ("deepsparse", "x-grm")
GAUSSIANS = "x-grm, Gaussians' X-rays"
NOVEL = 10


def half_circle(views: int, size: int, start_rad: float = 0.0) -> Geometry:
    """The machine of `common.task` on half a circle."""
    geometry, _ = task(size, views)
    return Geometry.circular(views, 1000.0, 1500.0, geometry.detector_shape, geometry.pixel_mm, arc_rad=np.pi, start_rad=start_rad)


class Case:
    """A CT's scan, its truth, and X-rays of it from where none was taken."""

    def __init__(self, ct, views: int, size: int):
        scan, grid = simulate(ct, geometry=half_circle(views, size)), task(size, views)[1]
        self.problem = Problem(scan, grid, resample(ct, grid)[0])
        self.between = half_circle(NOVEL, size, np.pi / views / 2)
        self.xrays = simulate(ct, geometry=self.between, photons=1e12, electronic_noise=0.0).projections
        self.clean = simulate(ct, geometry=scan.geometry, photons=1e12, electronic_noise=0.0).projections

    def row(self, method: str, options: dict, weights: str) -> list[float]:
        """PSNR, SSIM, residual over the noise, seconds, PSNR of X-rays."""
        scan, grid, truth = self.problem
        options = options | ({"weights": weights} if method in LEARNED else {})
        start = time.perf_counter()
        job = prepare(scan, method, grid, "cpu", options)
        *_, last = job.states()
        mu = job.settle(last).volume()
        seconds = time.perf_counter() - start
        volume, A = to_unit(mu, "HU", scan.mu_water), projector(scan.geometry, grid)
        noise = np.linalg.norm(scan.projections - self.clean)
        residual = np.linalg.norm(A(A.volume(mu)).numpy() - scan.projections) / noise
        B = projector(self.between, grid)
        return [psnr(volume, truth), ssim(volume, truth), residual, seconds, self.likeness(B(B.volume(mu)).numpy())]

    def gaussians(self, weights: str) -> list[float]:
        """As `row`, of X-rays alone."""
        start = time.perf_counter()
        made = novel_views(self.problem.scan, self.between, weights, self.problem.grid).projections
        return [np.nan, np.nan, np.nan, time.perf_counter() - start, self.likeness(made)]

    def likeness(self, xrays: np.ndarray) -> float:
        """PSNR against the CT's X-rays, whose largest line integral is the range."""
        return float(-10 * np.log10(np.square(xrays - self.xrays).mean() / self.xrays.max() ** 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="+", type=Path)
    parser.add_argument("--field", nargs="+", type=float, default=[], help="mm, one for each CT")
    parser.add_argument("--views", nargs="+", type=int, default=[6, 8, 10])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--weights", default="auto", help="of the learned methods: a name, a file, or auto for what each scan seems to show"
    )
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS, GAUSSIANS], choices=[*VARIANTS, GAUSSIANS])
    chosen = parser.parse_args()
    cts = [read_ct(path) for path in chosen.ct]
    fields = chosen.field or [float(max(ct.grid.extent_mm[:2])) for ct in cts]
    pieces = [in_field(ct, field, chosen.size) for ct, field in zip(cts, fields, strict=True)]
    rows = []
    for views in chosen.views:
        cases = [Case(piece, views, chosen.size) for piece in pieces]
        for name in chosen.variants:
            found = np.array(
                [case.gaussians(chosen.weights) if name == GAUSSIANS else case.row(*VARIANTS[name], chosen.weights) for case in cases]
            )
            p, s, residual, seconds, xrays = found.mean(axis=0)
            rows.append([views, name, f"{p:.2f}", f"{s:.3f}", f"{residual:.2f}", f"{seconds:.1f}", f"{xrays:.2f}"])
            rows[-1].append(", ".join(f"{each:.2f}" for each in found[:, 0]))
            print(*rows[-1], flush=True)
    head = ["views", "variant", "PSNR, dB", "SSIM", "residual / noise", "seconds", "X-rays, dB", "PSNR of each CT"]
    report(f"{', '.join(path.stem for path in chosen.ct)}: {chosen.size} voxels cubed, half a circle", head, rows)


if __name__ == "__main__":
    main()
