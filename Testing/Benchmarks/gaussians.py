"""What Gaussians cost: projecting them, filling a box with them, and both backward.

`python Testing/Benchmarks/gaussians.py [GAUSSIANS] [DEVICE]`, 50,000 on the CPU by default: as many as the voxels of 4 mm of a head, in a
ball of 180 mm, seen by a view of 128 x 128 pixels, and a box of 32 voxels cubed; of two mean widths, and their way from the parameters of a
cloud.
"""

import sys
import time

import numpy as np

from common import report  # isort: skip
import torch

from SparseCTReconLib.gaussians import backends
from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid

GRID = Grid.centred((64,) * 3, (4.0,) * 3)
GEOMETRY = Geometry.circular(50, 1000.0, 1500.0, (128, 128), (3.2, 3.2))
WIDTHS_MM = (2.4, 4.0)
BOX = {"first": (16,) * 3, "shape": (32,) * 3}
REPEATS = 7


def cloud(count: int, width_mm: float) -> Cloud:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((count, 3))
    radius = 90 * np.cbrt(rng.random(count)) / np.linalg.norm(directions, axis=1)
    scales = width_mm * rng.uniform(0.7, 1.4, (count, 3))
    return Cloud.of(126 + directions * radius[:, None], np.full(count, 0.005), scales, 0.02, (0.1, 40.0), rng.standard_normal((count, 4)))


def best_ms(work) -> float:
    """The shortest of several times, in ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def both_ways(make, leaves) -> tuple[float, float]:
    """Milliseconds of `make` and of its gradients with respect to `leaves`."""
    made = make()
    ones = torch.ones_like(made)
    return best_ms(make), best_ms(lambda: torch.autograd.grad(made, leaves, ones, retain_graph=True))


def measure(count: int, width_mm: float, device: str) -> list[str]:
    """A row of the table."""
    of = cloud(count, width_mm).to(device)
    given = [tensor.detach().requires_grad_() for tensor in of.gaussians()]
    rasteriser, voxeliser = backends.rasteriser(GEOMETRY, GRID, device), backends.voxeliser(GRID, device)
    view, box = both_ways(lambda: rasteriser(*given, [3]), given), both_ways(lambda: voxeliser(*given, **BOX), given)
    leaves = [tensor.requires_grad_() for tensor in of.parameters().values()]
    whole = both_ways(lambda: rasteriser(*of.gaussians(), [3]), leaves)
    return [f"{width_mm:g}", *(f"{ms:.1f}" for ms in (*view, sum(view), *box, *whole, sum(whole)))]


def main():
    count, device = int((sys.argv[1:] or [50_000])[0]), (sys.argv[2:] or ["cpu"])[0]
    head = ["width, mm", "view", "backward", "both", "box", "backward", "view from parameters", "backward", "both"]
    report(f"{count} Gaussians on {device}, ms", head, [measure(count, width, device) for width in WIDTHS_MM])


if __name__ == "__main__":
    main()
