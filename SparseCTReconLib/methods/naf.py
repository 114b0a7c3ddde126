"""NAF: a neural attenuation field fitted to the measured rays; from scratch as in the papers, or added to a volume that there is already.

Hash encoding, layer norm and a small network (NAF, Zha et al. 2022; NI-NeRF, Xu et al. 2025), filtered least squares on detector rows
(Accelerated INR), without which low frequencies take nearly all of a step. At CPU budgets a field from scratch stays decibels behind
ADMM-TV, so that the recommended preset begins with that, lets a network restore what total variation loses, and adds the field to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from pydantic import model_validator

from ..classical.weights import measurement_weights, total_variation_weight
from ..fields import mci
from ..fields.anatomy import ANATOMIES
from ..fields.attraction import Attraction
from ..fields.averaging import WeightAverage
from ..fields.backends import make_field
from ..fields.channel_mask import channel_mask
from ..fields.field import Field
from ..fields.hash_grid import HashGrid
from ..fields.head import Head
from ..fields.networks import HashNetwork
from ..fields.ray_training import Measurements, RayTraining
from ..fields.rays import UnitCube
from ..networks import restoration
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from .base import Method, MethodOptions, State, option, require_more
from .starting_volume import StartingVolume

log = logging.getLogger("SparseCTReconLib.naf")

STEPS_PER_STATE = 10
COARSEST = 16
"""Cells along the longest edge on the hash grid's coarsest level."""

FINAL_RATE = 0.05
"""Share of the learning rates that is left at the end, where they fall."""

AVERAGED_FROM = 0.5
"""Share of the steps, or of the time, from which weights are averaged."""

CORRECTION = 0.1
"""Attenuation, in that of water, of an output of 1 where the field is added to a volume."""

SATURATION = 4.0
"""Attenuation, in that of water, beyond which a sigmoid cannot go: 3000 HU, as far as CT numbers of 12 bits do."""

HEADS = {
    "compact": {},
    "ni-nerf": {"skip": True, "activation": "gelu"},
    "naf": {"skip": True, "output": "sigmoid"},
}


class NAFOptions(MethodOptions):
    start: Literal["admm-tv", "nothing"] = option(
        "admm-tv", "", "What the field is added to; from nothing it learns all, as in the papers."
    )
    restoration: str = option(
        restoration.SHIPPED, "", "start=admm-tv: network that restores its volume: shipped, none, or a file of train restoration."
    )
    iterations: int = option(100, "steps", "Steps of training.", ge=STEPS_PER_STATE, le=10_000_000)
    loss: Literal["filtered", "squares", "l1"] = option(
        "filtered", "", "Of the rays: ramp-filtered squares, squares, or absolute values.", advanced=True
    )
    rays: int = option(2048, "rays", "Rays in a step; the filtered loss takes whole detector rows.", ge=16, le=1_000_000, advanced=True)
    sample_spacing: float = option(2.0, "voxels", "Between samples on a ray.", ge=0.1, le=10, advanced=True)
    smoothness: float = option(0.5, "", "Factor on the weight of total variation; 0 leaves it out.", ge=0, le=100)
    network: Literal["compact", "ni-nerf", "naf"] = option(
        "compact", "", "Behind the encoding: ours (two layers), NI-NeRF's, NAF's.", advanced=True
    )
    layer_norm: bool = option(True, "", "Normalise each point's features.", advanced=True)
    mci: str = option("none", "", "start=nothing: pretrained network: head, chest, abdomen, limb, auto, a file, or none.", advanced=True)
    mask_step: int = option(
        0, "steps", "Step after which channels of noise are masked by their spectrum; 0 for never.", ge=0, advanced=True
    )
    levels: int = option(8, "levels", "Levels of the hash grid.", ge=2, le=16, multiple_of=2, advanced=True)
    log2_table: int = option(22, "log2 rows", "Rows of a level's table, as a power of two.", ge=10, le=24, advanced=True)
    finest: int = option(0, "cells", "Along the longest edge on the finest level; 0 for as many as voxels.", ge=0, le=16384, advanced=True)
    hidden: int = option(32, "neurons", "Width of the network's layers.", ge=8, le=128, multiple_of=4, advanced=True)
    table_rate: float = option(3e-2, "", "Learning rate of the hash tables.", gt=0, le=1, advanced=True)
    head_rate: float = option(1e-2, "", "Learning rate of the network.", gt=0, le=1, advanced=True)
    decay: bool = option(True, "", "Rates fall to a twentieth by the end of the steps or of the time.", advanced=True)
    averaging: bool = option(
        False, "", "The field's volume is that of its mean weights over the second half of the steps or of the time.", advanced=True
    )
    backend: Literal["auto", "numba", "torch", "triton", "tinycudann"] = option(
        "auto",
        "",
        "What runs the field; auto is the fastest there.",
        advanced=True,
    )
    seed: int = option(0, "", "Of the start, the rays and the samples.", ge=0, advanced=True)

    @model_validator(mode="after")
    def _no_contradiction(self):
        if self.start != "nothing" and self.mci != mci.NONE:
            raise ValueError("mci starts a field that learns all from the rays: give start=nothing, or leave mci out")
        if self.mci != mci.NONE and not self.layer_norm:
            raise ValueError("mci's networks have layer norm: give layer_norm=true, or leave mci out")
        if self.start == "nothing" and self.restoration not in (restoration.SHIPPED, restoration.NONE):
            raise ValueError("restoration works on ADMM-TV's volume: give start=admm-tv, or leave restoration out")
        if 0 < self.finest < COARSEST:
            raise ValueError(f"the coarsest level has {COARSEST} cells: give finest as many or more, or 0")
        return self


class NAF(Method):
    name = "naf"
    title = "NAF + LN + MCI"
    summary = "ADMM-TV, restored by a pretrained network and refined by a neural field; or the field alone, as its papers have it."
    citation = (
        "Zha R, Zhang Y, Li H. NAF: neural attenuation fields for sparse-view CBCT reconstruction. MICCAI 2022. "
        "doi:10.1007/978-3-031-16446-0_42; Xu Z et al. NeRF-based CBCT reconstruction needs normalization and initialization. 2025."
    )
    devices = ("cpu", "cuda")
    weights = ("restoration", *(f"mci_{name}" for name in ANATOMIES))
    Options = NAFOptions
    presets = {
        "recommended": {},
        "from-scratch": {
            "start": "nothing",
            "iterations": 1000,
            "smoothness": 1.0,
            "layer_norm": False,
            "decay": False,
            "averaging": True,
        },
        "paper": {
            "start": "nothing",
            "iterations": 150_000,
            "loss": "l1",
            "rays": 1024,
            "sample_spacing": 0.8,
            "smoothness": 0.0,
            "network": "ni-nerf",
            "mci": "abdomen",
            "mask_step": 500,
            "levels": 10,
            "log2_table": 19,
            "finest": 8192,
            "table_rate": 1e-3,
            "head_rate": 1e-3,
            "decay": False,
        },
    }
    memory_options = ("log2_table", "levels", "rays")

    def run(self, scan, grid, options, device="cpu", resume=None):
        yield from Run(scan, grid, options, device).states(resume)


def encoding(options: NAFOptions, cube: UnitCube) -> HashGrid:
    """The hash grid that the options ask for."""
    return HashGrid(options.levels, COARSEST, options.finest or max(32, *cube.grid.size), options.log2_table, tuple(map(float, cube.upper)))


def architecture(options: NAFOptions, cube: UnitCube) -> HashNetwork:
    """The network that the options ask for; what is added to a volume may be negative."""
    grid = encoding(options, cube)
    kind = {**HEADS[options.network], "layer_norm": options.layer_norm}
    if options.start != "nothing":
        kind["output"] = "linear"
    return HashNetwork(grid, Head(grid.channels, options.hidden, **kind))


def range_of(options: NAFOptions) -> float:
    """Attenuation, in that of water, of an output of 1."""
    if options.start != "nothing":
        return CORRECTION
    return SATURATION if HEADS[options.network].get("output") == "sigmoid" else 1.0


class Run:
    """The stages of a reconstruction: the volume to start from, pass by pass, then the field.

    Parameters
    ----------
    scan, grid, options, device
        As `Method.run` takes them.
    mend : callable, optional
        What mends the volume to start from, instead of the restoring network, see `StartingVolume`.
    """

    attraction: Attraction | None = None
    """What the field is drawn to beside the projections; may be set between states."""

    def __init__(self, scan, grid, options: NAFOptions, device: str, mend=None):
        self.scan, self.grid, self.options, self.device = scan, grid, options, device
        self.cube, self.spent, self.spent_before = UnitCube(grid), 0.0, 0.0
        self.start = None
        if options.start == "admm-tv":
            restorer = None if mend else restoration.restorer(options.restoration, scan.views, scan.mu_water)
            self.start = StartingVolume(scan, grid, mend or restorer, coarser=mend is None)
        self.begins = self.start.passes if self.start else 0
        """Of its states: those before the field learns from the projections."""
        if self.start and device != "cpu":
            log.info("ADMM-TV and the network that restores its volume run on the cpu, the field on %s", device)
        self.steps = self.begins + -(-options.iterations // STEPS_PER_STATE)
        self.field, self.pretrained = self._fresh_field()
        self.average = WeightAverage(self.field)

    def _fresh_field(self) -> tuple[Field, mci.Pretrained | None]:
        """The field that the options ask for, and what its head starts from."""
        options, scan = self.options, self.scan
        network = architecture(options, self.cube)
        backend = None if options.backend == "auto" else options.backend
        field = make_field(network, scan.mu_water * range_of(options), self.device, backend, options.seed)
        if pretrained := mci.load(options.mci, network.head, scan):
            field.set_head(pretrained.parameters)
        return field, pretrained

    def states(self, resume=None) -> Iterator[State]:
        """Every state from the first, or from the one that `resume` was taken at."""
        require_more(int(resume["step"]) if resume else 0, self.steps)
        if self.start and "base" not in (resume or {}):
            yield from self._approach(resume)
            resume = None
        yield from self._refine(resume)

    def _approach(self, resume) -> Iterator[State]:
        """States of the volume to start from."""
        start = self.start
        done = start.resume(resume) if resume else 0
        for step, state in enumerate(start.states(done), start=done + 1):
            stage = "iterating" if step <= start.unmended else "iterating after restoration"
            metrics = {"residual": start.residual(state)}
            arrays = partial(lambda state, step: {**start.arrays(state), "step": np.array(step)}, state, step)
            spent = yield State(stage, step, self.steps, partial(start.means, state), metrics, arrays, facts=start.facts(step))
            self.spent = spent or 0.0
        self.spent_before = self.spent

    def _refine(self, resume) -> Iterator[State]:
        """States of the field, ten steps each."""
        base = None
        if self.start:
            base = resume["base"] if resume else self.start.solver.state.x.cpu().numpy()
        training, field, facts = self.training(base), self.field, self._facts()
        if resume:
            field.restore(resume)
            if self.options.averaging:
                self.average.restore(resume)
        neighbour = neighbour_weight(self.scan, self.grid) if self.start else 0.0
        for step in range(self.begins + field_steps(field) // STEPS_PER_STATE, self.steps):
            loss = self.ten_steps(training)
            self._count_weights_in()
            arrays = partial(self._arrays, base, step + 1)
            volume = partial(self._volume, training, neighbour)
            spent = yield State("training the field", step + 1, self.steps, volume, {"loss": loss}, arrays, facts=facts)
            self.spent = spent or 0.0

    def _facts(self) -> dict[str, str]:
        """Of the states with the field."""
        facts = self.start.facts(self.begins) if self.start else {}
        if self.pretrained:
            facts = {"weights": self.pretrained.source}
        return facts | {"field_backend": self.field.backend}

    def _count_weights_in(self) -> None:
        """To the mean, in the second half; a mean that there is goes on, also where a resumed run has got more steps or time."""
        if self.options.averaging and (self.average.count or self.progress >= AVERAGED_FROM):
            self.average.add()

    def _volume(self, training: RayTraining, neighbour: float) -> np.ndarray:
        """Of the mean weights as soon as there are any."""
        with self.average.in_place():
            volume = training.volume()
        return voxel_means(volume, neighbour)

    def _arrays(self, base, step) -> dict[str, np.ndarray]:
        kept = {} if base is None else {"base": base}
        return {**self.field.arrays(), **self.average.arrays(), **kept, "step": np.array(step)}

    def training(self, base) -> RayTraining:
        """The field, added to `base`, [z, y, x] or None, and what it learns from."""
        options, scan = self.options, self.scan
        A = projector(scan.geometry, self.grid, self.device)
        tv_weight = options.smoothness and options.smoothness * total_variation_weight(A)
        weights = measurement_weights(scan, self.grid)
        measurements = Measurements(scan.projections, weights, scan.mu_water, scan.photons, tv_weight, base, scan.attenuation)
        return RayTraining(self.field, A, measurements, options.loss, options.rays, options.sample_spacing)

    def ten_steps(self, training: RayTraining) -> float:
        """The mean loss of `STEPS_PER_STATE` steps."""
        options, field, losses = self.options, training.field, []
        rng = np.random.default_rng((options.seed, field_steps(field)))
        training.attraction = self.attraction
        for _ in range(STEPS_PER_STATE):
            factor = FINAL_RATE**self.progress if options.decay else 1.0
            losses.append(training.step(rng, factor * options.table_rate, factor * options.head_rate))
            if options.mask_step and field_steps(field) == options.mask_step:
                field.mask = channel_mask(field.features, self.cube, self.device)
        return float(np.mean(losses))

    @property
    def progress(self) -> float:
        """How much of the field's steps, or of its time if that is more, is spent: 0 to 1."""
        in_time = (self.spent - self.spent_before) / max(1e-9, 1 - self.spent_before)
        return min(1.0, max(in_time, field_steps(self.field) / self.options.iterations))


def field_steps(field) -> int:
    """Steps of Adam that a field has made."""
    return field.optimisers[0].steps
