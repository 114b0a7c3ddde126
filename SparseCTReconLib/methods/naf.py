"""NAF: a neural attenuation field with layer norm, fitted to the measured rays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..fields.field import AttenuationField
from ..fields.hash_grid import HashGrid
from ..fields.head import Head
from ..fields.rays import RaySampler, UnitCube
from ..scan import Scan
from .base import Method, MethodOptions, iterate_states, option

STEPS_PER_STATE = 10
FINAL_RATE = 0.05


class NAFOptions(MethodOptions):
    iterations: int = option(1000, "steps", "Steps of training.", ge=STEPS_PER_STATE, le=1_000_000)
    rays: int = option(2048, "rays", "Rays in a step.", ge=16, le=1_000_000)
    levels: int = option(8, "levels", "Levels of the hash grid.", ge=2, le=16, multiple_of=2)
    log2_table: int = option(19, "log2 rows", "Rows of a level's table, as a power of two.", ge=10, le=24)
    hidden: int = option(32, "neurons", "Width of the network's layers.", ge=8, le=128, multiple_of=4)
    table_rate: float = option(3e-2, "", "Learning rate of the hash tables.", gt=0, le=1)
    head_rate: float = option(1e-2, "", "Learning rate of the network.", gt=0, le=1)
    seed: int = option(0, "", "Of the start, the rays and the samples.", ge=0)


class NAF(Method):
    name = "naf"
    title = "NAF + LN"
    summary = "A neural field (hash grid, layer norm, small network) fitted to the rays: smooth and streak-free, slower than ADMM-TV."
    citation = (
        "Zha R, Zhang Y, Li H. NAF: neural attenuation fields for sparse-view CBCT reconstruction. MICCAI 2022. "
        "doi:10.1007/978-3-031-16446-0_42; Xu Z et al. NeRF-based CBCT reconstruction needs normalization and initialization. 2025."
    )
    Options = NAFOptions

    def run(self, scan, grid, options, device="cpu", resume=None):
        rng = np.random.default_rng(options.seed)
        cube = UnitCube(grid)
        encoding = HashGrid(options.levels, 16, max(32, max(grid.size)), options.log2_table)
        field = AttenuationField(encoding, Head(encoding.channels, options.hidden), scan.mu_water, rng)
        if resume:
            field.restore(resume)
            rng = np.random.default_rng((options.seed, int(resume["step"])))
        states = options.iterations // STEPS_PER_STATE
        yield from iterate_states(
            train(field, scan, RaySampler(scan.geometry, cube, max(grid.size)), options, rng),
            "training the field",
            states,
            int(resume["step"]) if resume else 0,
            volume=lambda loss: field.volume(cube),
            metrics=lambda loss: {"loss": loss},
            arrays=lambda loss: field.arrays(),
        )


def train(field: AttenuationField, scan: Scan, sampler: RaySampler, options: NAFOptions, rng: np.random.Generator) -> Iterator[float]:
    """Yield the mean squared error of the line integrals, relative to their mean square, after every `STEPS_PER_STATE` steps, for ever."""
    scale = float(np.mean(np.square(scan.projections))) or 1.0
    shape = scan.projections.shape
    while True:
        total = 0.0
        for _ in range(STEPS_PER_STATE):
            progress = min(1.0, field.optimisers[0].steps / options.iterations)
            decay = FINAL_RATE ** max(0.0, progress)
            pixels = np.stack([rng.integers(0, n, options.rays, dtype=np.int32) for n in shape], axis=1)
            points, steps = sampler(pixels, rng)
            mu, features = field.forward(points)
            measured = scan.projections[pixels[:, 0], pixels[:, 1], pixels[:, 2]]
            error = mu.reshape(options.rays, -1).sum(axis=1) * steps - measured
            gradient = np.repeat(2 * error * steps / (scale * options.rays), sampler.samples).astype(np.float32)
            field.descend(points, features, gradient, options.table_rate * decay, options.head_rate * decay)
            total += float(np.mean(np.square(error))) / scale
        yield total / STEPS_PER_STATE
