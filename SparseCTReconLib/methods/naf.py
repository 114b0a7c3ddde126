"""NAF: a neural attenuation field with layer norm, fitted to the measured rays.

    minimise  |F^(1/2) (sum_i mu(x_i) dl - p)|^2  +  lambda TV(mu)

Hash encoding, layer norm and a small network as in NI-NeRF (Xu et al. 2025). A step takes whole detector rows, so that the ramp F can
filter their residuals: filtered least squares (Accelerated INR, see the citation), without which low frequencies take nearly all of a
step. Measurement weights and total variation as in ADMM-TV; Adam with rates that fall to a twentieth by the end of the steps or of the
time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..classical.weights import measurement_weights, total_variation_weight
from ..fields.field import AttenuationField
from ..fields.hash_grid import HashGrid
from ..fields.head import Head
from ..fields.rays import RaySampler, UnitCube
from ..fields.smoothness import SmoothnessBlock
from ..operators import projector
from ..operators.ramp import RampFilter
from .base import Method, MethodOptions, iterate_states, option

STEPS_PER_STATE = 10
VOXELS_PER_SAMPLE = 2.0
FINAL_RATE = 0.05


class NAFOptions(MethodOptions):
    iterations: int = option(1000, "steps", "Steps of training.", ge=STEPS_PER_STATE, le=1_000_000)
    rows: int = option(8, "detector rows", "Detector rows in a step.", ge=1, le=10_000)
    smoothness: float = option(1.0, "", "Factor on the weight of total variation; 0 leaves it out.", ge=0, le=100)
    levels: int = option(8, "levels", "Levels of the hash grid.", ge=2, le=16, multiple_of=2)
    log2_table: int = option(22, "log2 rows", "Rows of a level's table, as a power of two.", ge=10, le=24)
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
    memory_options = ("log2_table", "levels")

    def memory_bytes(self, grid, scan, options):
        return super().memory_bytes(grid, scan, options) + encoding_of(options, UnitCube(grid)).training_bytes()

    def run(self, scan, grid, options, device="cpu", resume=None):
        training = Training(scan, grid, options)
        done = 0
        if resume:
            done = int(resume["step"])
            training.field.restore(resume)
        yield from iterate_states(
            training.losses(),
            "training the field",
            -(-options.iterations // STEPS_PER_STATE),
            done,
            volume=lambda loss: training.field.volume(training.cube),
            metrics=lambda loss: {"loss": loss},
            arrays=lambda loss: training.field.arrays(),
            heed=training.heed,
        )


def encoding_of(options: NAFOptions, cube: UnitCube) -> HashGrid:
    """The hash grid that the options ask for; its finest cells are as large as the voxels."""
    return HashGrid(options.levels, 16, max(32, max(cube.grid.size)), options.log2_table, tuple(map(float, cube.upper)))


class Training:
    """A field, the rays it learns from, and the schedule of its steps."""

    def __init__(self, scan, grid, options: NAFOptions):
        self.options, self.spent = options, 0.0
        self.cube = UnitCube(grid)
        encoding = encoding_of(options, self.cube)
        self.field = AttenuationField(encoding, Head(encoding.channels, options.hidden), scan.mu_water, np.random.default_rng(options.seed))
        self.sampler = RaySampler(scan.geometry, self.cube, VOXELS_PER_SAMPLE * min(grid.spacing_mm))
        self.block = SmoothnessBlock(self.cube)
        self.measured, self.weights = scan.projections, measurement_weights(scan, grid)
        self.scale = float(np.mean(np.square(scan.projections))) or 1.0
        self.ramp = RampFilter(scan.projections.shape[2], 1.0, "hann")
        self.ramp_scale = 1 / float(self.ramp.response.mean())
        tv_weight = options.smoothness and options.smoothness * total_variation_weight(projector(scan.geometry, grid))
        self.tv_factor = float(2 * tv_weight / (scan.projections.size * self.scale))

    def heed(self, spent: float | None) -> None:
        """Take note of the share of the time budget that is spent, None where there is none."""
        self.spent = spent or 0.0

    def progress(self) -> float:
        """How much of the steps, or of the time if that is more, is spent: 0 to 1."""
        return min(1.0, max(self.spent, self.field.optimisers[0].steps / self.options.iterations))

    def losses(self) -> Iterator[float]:
        """Yield the mean squared error of the line integrals over their mean square, after every `STEPS_PER_STATE` steps, for ever."""
        while True:
            rng = np.random.default_rng((self.options.seed, self.field.optimisers[0].steps))
            yield sum(self.step(rng) for _ in range(STEPS_PER_STATE)) / STEPS_PER_STATE

    def step(self, rng: np.random.Generator) -> float:
        """One step of Adam on fresh rays and a fresh block of voxels."""
        pixels = self.sampler.draw(self.options.rows, rng)
        points, lengths = self.sampler(pixels, rng)
        on_rays = points.shape[1]
        if self.tv_factor:
            points = torch.cat([points, self.block.draw(rng)], dim=1)
        mu, features = self.field.forward(points)
        gradient, loss = self.data_gradient(pixels, lengths, mu[:on_rays])
        if self.tv_factor:
            gradient = torch.cat([gradient, self.tv_factor * self.block.gradient(mu[on_rays:])])
        decay = FINAL_RATE ** self.progress()
        self.field.descend(points, features, gradient, self.options.table_rate * decay, self.options.head_rate * decay)
        return loss

    def data_gradient(self, pixels: np.ndarray, lengths: torch.Tensor, mu: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Gradient of the data term with respect to mu at the rays' samples, and the term."""
        at = tuple(pixels.T)
        lengths = lengths.numpy()
        error = mu.numpy().reshape(len(pixels), -1).sum(axis=1) * lengths - self.measured[at]
        weighted = error if self.weights is None else error * self.weights.numpy()[at]
        filtered = self.ramp.few_rows(weighted.reshape(-1, self.measured.shape[2])).reshape(-1)
        slope = (2 * self.ramp_scale / (self.scale * len(pixels))) * filtered * lengths
        return torch.from_numpy(np.repeat(slope.astype(np.float32), self.sampler.samples)), float(np.mean(error * weighted)) / self.scale
