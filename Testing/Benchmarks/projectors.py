"""Forward and adjoint projection of the fast path, the general path and itk-rtk's Joseph projector: seconds, ratios, agreement."""

import sys

from common import in_turns, relative_difference, report, task  # isort: skip
import itk
import numpy as np
import torch
from in_rtk import joseph_adjoint, joseph_forward, set_threads, volume_from_rtk

from SparseCTReconLib.operators import projector


def rtk_runner(ready):
    """A function that runs an RTK filter anew."""

    def run():
        ready.Modified()
        ready.Update()

    return run


def measure(name: str, voxels: int, repeats: int) -> tuple[list[list], str]:
    """Rows of the table for one task, and a line about the agreement."""
    geometry, grid = task(voxels)
    rng = np.random.default_rng(0)
    volume = np.zeros(grid.shape, np.float32)
    volume[2:-2, 2:-2, 2:-2] = rng.random(volume[2:-2, 2:-2, 2:-2].shape)
    stack = rng.random((geometry.views, *geometry.detector_shape), dtype=np.float32)
    operators = {backend: projector(geometry, grid, backend=backend) for backend in ("columnar", "general")}
    x = {backend: A.volume(volume) for backend, A in operators.items()}
    y = {backend: A.projections(stack) for backend, A in operators.items()}
    theirs = joseph_forward(volume, grid, geometry), joseph_adjoint(stack, grid, geometry)
    forward = {backend: lambda b=backend: operators[b](x[b]) for backend in operators} | {"itk-rtk": rtk_runner(theirs[0])}
    adjoint = {backend: lambda b=backend: operators[b].T(y[b]) for backend in operators} | {"itk-rtk": rtk_runner(theirs[1])}
    seconds = in_turns(forward, repeats), in_turns(adjoint, repeats)
    total = {backend: seconds[0][backend] + seconds[1][backend] for backend in forward}
    rows = [
        [name, backend, 1e3 * seconds[0][backend], 1e3 * seconds[1][backend], 1e3 * total[backend], total["itk-rtk"] / total[backend]]
        for backend in forward
    ]
    inner = (slice(2, -2),) * 3
    fast = operators["columnar"](x["columnar"]).numpy(), operators["columnar"].T(y["columnar"]).numpy()
    agreement = {
        "itk-rtk, forward": relative_difference(fast[0], itk.array_from_image(theirs[0].GetOutput())),
        "itk-rtk, adjoint off the rim": relative_difference(fast[1][inner], volume_from_rtk(theirs[1].GetOutput())[inner]),
        "general, forward": relative_difference(operators["general"](x["general"]).numpy(), fast[0]),
        "general, adjoint": relative_difference(operators["general"].T(y["general"]).numpy(), fast[1]),
    }
    return rows, f"- {name}, relative difference of the fast path to " + "; ".join(f"{k}: {v:.1e}" for k, v in agreement.items())


def main():
    sizes = {"T64": (64, 7), "T128": (128, 3)}
    chosen = sys.argv[1:] or list(sizes)
    set_threads(torch.get_num_threads())
    measured = [measure(name, *sizes[name]) for name in chosen]
    report(
        "Projectors, 50 views",
        ["task", "projector", "forward, ms", "adjoint, ms", "both, ms", "itk-rtk / this"],
        [row for rows, _ in measured for row in rows],
        [note for _, note in measured],
    )


if __name__ == "__main__":
    main()
