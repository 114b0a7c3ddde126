"""R2-Gaussian: a volume as a sum of Gaussians, fitted to the measured projections (Zha et al. 2024).

The paper begins with FDK and takes 30,000 steps; the recommended preset begins with what ADMM-TV makes of the data, fits the Gaussians to
that volume, and then to the projections themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch

from ..classical.truncation import fdk_of
from ..classical.weights import measurement_weights, total_variation_weight
from ..fields.attraction import Attraction
from ..gaussians.density_control import DensityControl, useful
from ..gaussians.initialise import from_volume, resembling
from ..gaussians.optimiser import CloudOptimiser
from ..gaussians.training import CloudTraining, Measured, Rates
from ..operators import projector
from .base import Method, MethodOptions, State, option, require_more
from .starting_volume import StartingVolume

log = logging.getLogger("SparseCTReconLib.gaussians")

STEPS_PER_STATE = 10

FITTING = Rates(0.075, 5e-2, 5e-2, 1e-2, end=0.5)
REFINING = Rates(0.0075, 5e-3, 5e-3, 1e-3)
"""Towards the volume, and towards the projections from there."""

PAPER_STEPS, PAPER_CENTRES = 30_000, 2e-4
"""Steps of the paper, and its rate of the centres in half the grid's longest edge."""


class R2GaussianOptions(MethodOptions):
    start: Literal["admm-tv", "fdk"] = option("admm-tv", "", "Volume that the Gaussians are first made from.")
    gaussians: int = option(50_000, "Gaussians", "At the start, at most: one for each voxel that holds something.", ge=4, le=2_000_000)
    fit_steps: int = option(
        100, "steps", "start=admm-tv: steps towards its volume.", ge=0, le=10_000, multiple_of=STEPS_PER_STATE, advanced=True
    )
    iterations: int = option(100, "steps", "Steps towards the projections.", ge=STEPS_PER_STATE, le=1_000_000)
    views_per_step: int = option(2, "views", "Views that a step looks at.", ge=1, le=1000, advanced=True)
    loss: Literal["squares", "l1-ssim"] = option(
        "squares", "", "Squares weighed by photons, or absolute values and structural similarity, as in the paper.", advanced=True
    )
    smoothness: float = option(1.0, "", "Factor on the weight of total variation, with squares; 0 leaves it out.", ge=0, le=100)
    most: int = option(
        0,
        "Gaussians",
        "Gaussians up to which they are cloned and split where much is unexplained; 0 for never.",
        ge=0,
        le=5_000_000,
        advanced=True,
    )
    seed: int = option(0, "", "Of the first Gaussians, the views and the boxes.", ge=0, advanced=True)


class R2Gaussian(Method):
    name = "r2-gaussian"
    title = "R2-Gaussian"
    summary = "A sum of Gaussians with exact line integrals, begun with ADMM-TV or FDK; for comparison, ADMM-TV itself is better."
    citation = (
        "Zha R, Lin TJ, Cai Y, Cao J, Zhang Y, Li H. R2-Gaussian: rectifying radiative Gaussian splatting for tomographic reconstruction. "
        "NeurIPS 2024. arXiv:2405.20693"
    )
    devices = ("cpu", "cuda")
    Options = R2GaussianOptions
    presets = {
        "recommended": {},
        "quick": {"start": "fdk", "gaussians": 20_000, "iterations": 300, "views_per_step": 1, "loss": "l1-ssim"},
        "paper": {"start": "fdk", "iterations": PAPER_STEPS, "views_per_step": 1, "loss": "l1-ssim", "most": 500_000},
    }
    memory_options = ("most", "gaussians")

    def run(self, scan, grid, options, device="cpu", resume=None):
        yield from Run(scan, grid, options, device).states(resume)


class Run:
    """The stages: the volume to start from, the Gaussians fitted to it, and to the projections.

    Parameters
    ----------
    scan, grid, options, device
        As `Method.run` takes them.
    mend : callable, optional
        What mends ADMM-TV's volume, see `StartingVolume`.
    """

    attraction: Attraction | None = None
    """What the Gaussians are drawn to beside the projections; may be set between states."""

    def __init__(self, scan, grid, options: R2GaussianOptions, device: str = "cpu", mend=None):
        self.scan, self.grid, self.options, self.device = scan, grid, options, device
        self.start = StartingVolume(scan, grid, mend) if options.start == "admm-tv" else None
        if device != "cpu":
            log.info("%s runs on the cpu, the Gaussians on %s", "ADMM-TV" if self.start else "FDK", device)
        self.before = self.start.passes if self.start else 1
        self.fits = options.fit_steps // STEPS_PER_STATE if self.start else 0
        self.begins = self.before + self.fits
        self.steps = self.begins + -(-options.iterations // STEPS_PER_STATE)
        self.control = DensityControl(grid, options.iterations, options.most, device) if options.most else None
        self.spent, self.spent_before = 0.0, 0.0
        self.step = 0
        """Of its states: those that are done; from `begins` on the Gaussians learn from the projections."""

    def states(self, resume=None) -> Iterator[State]:
        """Every state from the first, or from the one that `resume` was taken at."""
        self.step = int(resume["step"]) if resume else 0
        require_more(self.step, self.steps)
        begun = resume if resume and "centres" in resume else None
        if not begun:
            yield from self._approach(resume)
        mu = begun["start"] if begun else self._started()
        make, rng = resembling if self.start else from_volume, np.random.default_rng(self.options.seed)
        optimiser = CloudOptimiser(make(mu, self.grid, self.scan.mu_water, self.options.gaussians, rng, self.device))
        if begun:
            optimiser.restore(begun)
            if self.control:
                self.control.restore(begun)
        yield from self._learn(self._training(optimiser), mu)

    def _started(self) -> np.ndarray:
        """The volume that the Gaussians are first made from."""
        return self.start.means(self.start.solver.state) if self.start else self._fdk

    def _approach(self, resume) -> Iterator[State]:
        """States of the volume to start from."""
        if self.start is None:
            self._fdk = fdk_of(self.scan, self.grid, "ram-lak").clamp(min=0).numpy()
            self.step = 1
            yield State("filtered back-projection", 1, self.steps, lambda: self._fdk)
            return
        start = self.start
        done = start.resume(resume) if resume else 0
        for self.step, state in enumerate(start.states(done), start=done + 1):
            arrays = partial(lambda state, step: {**start.arrays(state), "step": np.array(step)}, state, self.step)
            metrics = {"residual": start.residual(state)}
            self.spent = (yield State("iterating", self.step, self.steps, partial(start.means, state), metrics, arrays)) or 0.0

    def _learn(self, training: CloudTraining, mu: np.ndarray) -> Iterator[State]:
        """States of the Gaussians, ten steps each."""
        wanted, facts = torch.from_numpy(np.ascontiguousarray(mu)).to(self.device), {"gaussian_backend": training.backend}
        while self.step < self.steps:
            turn = self.step - self.before
            if turn < self.fits:
                stage, work = "fitting Gaussians to the volume", partial(self._fit, training, wanted)
            else:
                stage, work, turn = "fitting Gaussians to the projections", partial(self._refine, training), turn - self.fits
                self.spent_before = self.spent if turn == 0 else self.spent_before
            losses = [work(STEPS_PER_STATE * turn + number) for number in range(STEPS_PER_STATE)]
            useful(training.optimiser.cloud, self.grid)
            self.step += 1
            metrics = {"loss": float(np.mean(losses)), "gaussians": float(len(training.optimiser.cloud))}
            arrays = partial(self._arrays, training.optimiser, mu, self.step)
            self.spent = (yield State(stage, self.step, self.steps, training.volume, metrics, arrays, facts=facts)) or 0.0

    def _arrays(self, optimiser: CloudOptimiser, mu: np.ndarray, step: int) -> dict[str, np.ndarray]:
        counted = self.control.arrays() if self.control else {}
        return {**optimiser.arrays(), **counted, "start": mu, "step": np.array(step)}

    def _fit(self, training: CloudTraining, wanted: torch.Tensor, step: int) -> float:
        return training.fit(wanted, FITTING, step / self.options.fit_steps)

    def _refine(self, training: CloudTraining, step: int) -> float:
        options = self.options
        rng = np.random.default_rng((options.seed, step))
        views = rng.choice(self.scan.views, min(options.views_per_step, self.scan.views), replace=False).tolist()
        training.attraction = self.attraction
        loss = training.step(views, rng, self._rates(), self._progress_at(step), self.control)
        if self.control and self.control.due(step + 1):
            training.optimiser.replace(*self.control.apply(training.optimiser.cloud, rng))
        return loss

    @property
    def progress(self) -> float:
        """How much of the steps towards the projections, or of their time if that is more, is spent: 0 to 1."""
        return self._progress_at(STEPS_PER_STATE * max(0, self.step - self.begins))

    def _progress_at(self, step: int) -> float:
        in_time = (self.spent - self.spent_before) / max(1e-9, 1 - self.spent_before) if self.step >= self.begins else 0.0
        return min(1.0, max(in_time, step / self.options.iterations))

    def _rates(self) -> Rates:
        """Of the refinement: small ones behind a fit, otherwise the paper's, higher as the root of how much shorter the run is.

        On a limb, 64 voxels cubed, 24 views, 200 steps end at 28.2 dB, with the paper's own rates at 24.4.
        """
        if self.start:
            return REFINING
        factor = max(1.0, (PAPER_STEPS / self.options.iterations) ** 0.5)
        centres = PAPER_CENTRES * max(self.grid.extent_mm) / 2 / min(self.grid.spacing_mm)
        return Rates(factor * centres, factor * 1e-2, factor * 5e-3, factor * 1e-3, end=0.1)

    def _training(self, optimiser: CloudOptimiser) -> CloudTraining:
        scan, options = self.scan, self.options
        tv_weight = options.smoothness and options.smoothness * total_variation_weight(projector(scan.geometry, self.grid))
        projections, weights = torch.from_numpy(np.ascontiguousarray(scan.projections)), measurement_weights(scan, self.grid)
        measured = Measured(projections.to(self.device), None if weights is None else weights.to(self.device), tv_weight)
        return CloudTraining(optimiser, scan.geometry, self.grid, measured, options.loss)
