"""NAF: a neural attenuation field with layer norm, fitted to the measured rays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..fields.field import AttenuationField
from ..fields.hash_grid import HashGrid
from ..fields.head import Head
from ..fields.rays import RaySampler, UnitCube
from ..scan import Scan
from .base import Field, Method, MethodOptions, iterate_states

STEPS_PER_STATE = 10
FINAL_RATE = 0.05


class NAFOptions(MethodOptions):
    iterations: int = Field(1000, ge=10, le=1_000_000, description="Steps of training.", json_schema_extra={"unit": "steps"})
    rays: int = Field(2048, ge=16, le=1_000_000, description="Rays in a step.", json_schema_extra={"unit": "rays"})
    levels: int = Field(8, ge=2, le=16, multiple_of=2, description="Levels of the hash grid.", json_schema_extra={"unit": "levels"})
    log2_table: int = Field(
        19, ge=10, le=24, description="Rows of a level's table, as a power of two.", json_schema_extra={"unit": "log2 rows"}
    )
    hidden: int = Field(
        32, ge=8, le=128, multiple_of=4, description="Width of the network's layers.", json_schema_extra={"unit": "neurons"}
    )
    table_rate: float = Field(3e-2, gt=0, le=1, description="Learning rate of the hash tables.", json_schema_extra={"unit": ""})
    head_rate: float = Field(1e-2, gt=0, le=1, description="Learning rate of the network.", json_schema_extra={"unit": ""})
    seed: int = Field(0, ge=0, description="Of the start, the rays and the samples.", json_schema_extra={"unit": ""})


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
        for state in iterate_states(
            train(field, scan, RaySampler(scan.geometry, cube, max(grid.size)), options, rng),
            "training the field",
            states,
            int(resume["step"]) if resume else 0,
            volume=lambda loss: field.volume(cube),
            metrics=lambda loss: {"loss": loss},
            arrays=lambda loss: field.arrays(),
        ):
            yield state


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
