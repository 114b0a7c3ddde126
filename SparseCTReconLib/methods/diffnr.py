"""DiffNR: a neural representation whose volume is repaired slice by slice now and then, and drawn to what the repair has made of it.

    every l-th part of the steps      R  <-  SliceFixer(slices of V, organ, two X-rays)        the pseudo-reference
    every tau-th step                 data term + lambda (1 - SSIM3D(V, R))

The repair never becomes the result: what it adds stays only as far as the projections allow it. The representation, a neural field or
Gaussians, runs as its own method runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from ..errors import InputError
from ..fields.anatomy import propose
from ..fields.attraction import Attraction
from ..networks import slice_fixer
from ..networks.slice_fixer import VolumeRepair
from . import naf, r2_gaussian
from .base import Method, MethodOptions, State, option

FEWEST_VIEWS = 3

FEW = 0.25
"""Views over the grid's largest number of voxels along an axis, below which the repair of ADMM-TV's volumes has gained something: with 12
views on 64 voxels .5 dB on limbs that the SliceFixer had not seen, with 24 views it lost as much."""

SQUARES = 0.01
"""Weight of the likeness beside squares, for a lambda of 1: relative to the measurements' they are that much smaller than the paper's
loss."""

log = logging.getLogger(__name__)

CITATION = (
    "DiffNR: diffusion-enhanced neural representation optimization for sparse-view 3D tomographic reconstruction; with SD-Turbo (Sauer A "
    "et al. Adversarial diffusion distillation. ECCV 2024)."
)


class DiffNROptions(MethodOptions):
    iterations: int = option(100, "steps", "Steps towards the projections.", ge=naf.STEPS_PER_STATE, le=1_000_000)
    fixer: str = option(slice_fixer.SHIPPED, "", "What repairs slices: shipped, or a file of train slice-fixer.")
    organ: str = option("auto", "", "Part of the body that the SliceFixer is told: head, chest, abdomen, limb, or auto.", advanced=True)
    interval: float = option(0.2, "", "l: share of the steps after which the volume is repaired anew.", gt=0, le=1, advanced=True)
    every: int = option(2, "steps", "tau: steps between those that are drawn to the repaired volume.", ge=1, le=1000, advanced=True)
    strength: float = option(1.0, "", "lambda: weight of the likeness to the repaired volume.", ge=0, le=100)
    likeness: Literal["ssim", "l1"] = option(
        "ssim", "", "To the repaired volume: structural similarity, or absolute differences.", advanced=True
    )
    finer: Literal[1, 2] = option(1, "", "Slices are interpolated to as many times their pixels for the repair.", advanced=True)
    only_repair: bool = option(
        False, "", "For comparison only: repair the volume at the end, without its agreement with the projections.", advanced=True
    )
    sd_turbo: str = option("", "", "Folder of SD-Turbo's weights, for a fixer that was trained on them.", advanced=True)
    accept_sd_turbo_licence: bool = option(False, "", "You accept the licence of SD-Turbo's weights.", advanced=True)
    seed: int = option(0, "", "Of everything random.", ge=0, advanced=True)


class DiffNRNAFOptions(DiffNROptions):
    start: Literal["admm-tv", "nothing"] = option("admm-tv", "", "What the field is added to; from nothing it learns all.")


class DiffNRGaussianOptions(DiffNROptions):
    start: Literal["admm-tv", "fdk"] = option("admm-tv", "", "Volume that the Gaussians are first made from.")
    gaussians: int = option(50_000, "Gaussians", "At the start, at most.", ge=4, le=2_000_000, advanced=True)


class _DiffNR(Method):
    citation = CITATION
    weights = ("slice_fixer",)
    devices = ("cpu", "cuda")

    def backbone(self, options) -> MethodOptions:
        """The options of the representation's own method."""
        raise NotImplementedError

    def begin(self, scan, grid, options, device, mend):
        """The run of the representation's own method."""
        raise NotImplementedError

    def run(self, scan, grid, options, device="cpu", resume=None):
        yield from _Loop(self, scan, grid, options, device).states(resume)


class DiffNRNAF(_DiffNR):
    name = "diffnr-naf"
    title = "DiffNR on NAF"
    summary = "A neural field, repaired slice by slice by a pretrained network and drawn to the repaired volume while it learns."
    Options = DiffNRNAFOptions
    presets = {"recommended": {}, "from-scratch": {"start": "nothing", "iterations": 1000, "every": 4, "strength": 2.0}}

    def backbone(self, options):
        values = {"iterations": options.iterations, "seed": options.seed}
        if options.start == "nothing":
            return naf.NAFOptions(**{**naf.NAF.presets["from-scratch"], **values})
        return naf.NAFOptions(restoration="none", **values)

    def begin(self, scan, grid, options, device, mend):
        return naf.Run(scan, grid, self.backbone(options), device, mend)


class DiffNRGaussian(_DiffNR):
    name = "diffnr-gaussian"
    title = "DiffNR on R2-Gaussian"
    summary = "Gaussians, repaired slice by slice by a pretrained network and drawn to the repaired volume while they learn."
    Options = DiffNRGaussianOptions
    presets = {"recommended": {}, "from-fdk": {"start": "fdk", "gaussians": 20_000, "iterations": 300}}
    memory_options = ("gaussians",)

    def backbone(self, options):
        values = {"iterations": options.iterations, "seed": options.seed, "gaussians": options.gaussians}
        if options.start == "fdk":
            return r2_gaussian.R2GaussianOptions(**{**r2_gaussian.R2Gaussian.presets["quick"], **values})
        return r2_gaussian.R2GaussianOptions(**values)

    def begin(self, scan, grid, options, device, mend):
        return r2_gaussian.Run(scan, grid, self.backbone(options), device, mend)


class _Loop:
    """Repair and augment: the states of a representation's run, with what it is drawn to."""

    def __init__(self, method: _DiffNR, scan, grid, options: DiffNROptions, device: str):
        if scan.views < FEWEST_VIEWS:
            raise InputError(
                f"{method.name} needs {FEWEST_VIEWS} views or more, the scan has {scan.views}: two of them are what slices are repaired by",
                "too-few-views",
            )
        self.options, self.mu_water = options, scan.mu_water
        self.weight = options.strength * (1.0 if method.backbone(options).loss == "l1-ssim" else SQUARES)
        fixer = slice_fixer.load(options.fixer, device, options.sd_turbo, options.accept_sd_turbo_licence)
        organ = propose(scan) if options.organ == "auto" else options.organ
        self.repair = VolumeRepair(fixer, scan, grid, organ, options.finer)
        self.source = fixer.source
        self.reference: np.ndarray | None = None
        self.repairs = 0
        gains = options.start != "admm-tv" or scan.views < FEW * max(grid.size)
        if not gains:
            log.info(
                "with %d views on this grid ADMM-TV's volumes are better than what repairs them: they are left as they are", scan.views
            )
        self.repairs_at_all = gains and not options.only_repair
        self.run = method.begin(scan, grid, options, device, self if self.repairs_at_all and options.start == "admm-tv" else None)

    def __call__(self, mu: np.ndarray) -> np.ndarray:
        """The repaired volume, which becomes what the run is drawn to."""
        self.reference = self.repair(mu)
        self._attract()
        return self.reference

    def states(self, resume=None) -> Iterator[State]:
        """The run's states, with the pseudo-reference beside them."""
        if resume and "reference" in resume:
            self.reference, self.repairs = resume["reference"], int(resume["repairs"])
            self._attract(int(resume["drawn"]))
        inner, state, spent = self.run.states(resume), None, None
        while True:
            try:
                state = inner.send(spent)
            except StopIteration:
                break
            self._repair_if_due(state)
            spent = yield self._told(state)
        if self.options.only_repair:
            yield self._repaired_alone(state)

    def _repair_if_due(self, state: State) -> None:
        due = int(self.run.progress / self.options.interval + 1e-9)
        if not self.repairs_at_all or state.step <= self.run.begins or due <= self.repairs or state.step == state.steps:
            return
        self.repairs = due
        self(state.volume())

    def _attract(self, drawn: int = 0) -> None:
        options = self.options
        self.shown = partial(_of, self.reference)
        reference = torch.from_numpy(np.ascontiguousarray(self.reference))
        self.run.attraction = Attraction(reference, self.mu_water, self.weight, options.every, options.likeness, drawn)

    def _told(self, state: State) -> State:
        """`state` with what the repair adds to it."""
        if self.options.only_repair:
            return replace(state, steps=state.steps + 1)
        if self.reference is None:
            return state
        kept = {"reference": self.reference, "repairs": np.array(self.repairs), "drawn": np.array(self.run.attraction.count)}
        checkpoint = state.checkpoint and (lambda: {**state.checkpoint(), **kept})
        facts = {**state.facts, "weights": self.source}
        return replace(state, checkpoint=checkpoint, facts=facts, others={"pseudo-reference": self.shown})

    def _repaired_alone(self, state: State) -> State:
        """The repaired end of the run."""
        mu = self.repair(state.volume())
        facts = {**state.facts, "weights": self.source, "post_processing": "slices repaired at the end, for comparison only"}
        return State("repairing alone, for comparison only", state.steps + 1, state.steps + 1, lambda: mu, facts=facts)


def _of(volume: np.ndarray) -> np.ndarray:
    return volume
