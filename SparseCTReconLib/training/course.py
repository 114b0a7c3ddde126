"""What a training of DeepSparse's or X-GRM's network goes through, from a plan to weights with their card.

dice          one of the stages of `dice_examples`
finetune      adapt, to CTs;  adjust, to few views, unless it betters a first volume:  the second goes on from what the first has written
xgrm          one stage
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid
from ..methods.admm_tv import first_volume
from ..networks import dice, dice_weights, scan_range, xgrm, xgrm_weights
from ..networks.dice_configuration import SIZES
from ..networks.xgrm_result import Reconstruction
from ..scan import Scan
from . import dice as dice_training
from . import xgrm as xgrm_training
from .data import Drawn, Example, Examples
from .dice_examples import HybridExamples, Stage
from .kept_examples import KeptExamples
from .learning import Learning
from .plan import DiCEPlan, FinetunePlan, Plan, XGRMPlan

log = logging.getLogger(__name__)

SCANS_OF_A_RANGE, ORBITS_OF_A_RANGE = 32, 500

ADJUST = "adjust"

ANY_BODY = 64, 256.0
"""Voxels and millimetres along its edge, where neither matters."""

KEPT = 1000
"""Examples with first volumes that are made and learnt from again and again, if not told otherwise."""


class Course:
    """The parts of a training, one after the other.

    Parameters
    ----------
    plan : Plan
    work : Path
        Folder for what is made on the way.
    """

    method: str
    form: str
    load: staticmethod

    def __init__(self, plan: Plan, work: Path):
        self.plan, self.work = plan, work
        self.parts = self.stages()

    def stages(self) -> list[str]:
        """Names of the parts."""
        raise NotImplementedError

    def begun(self):
        """A network that has learnt nothing."""
        raise NotImplementedError

    def examples(self, part: str, network, cts: list):
        """What a part's network learns from."""
        raise NotImplementedError

    def settings(self, part: str):
        """How it learns."""
        raise NotImplementedError

    def learner(self, part: str, network, cts: list, fabric, workers: int) -> Learning:
        """What learns in a part, on examples of CTs."""
        raise NotImplementedError

    def check(self, network) -> None:
        """Refuse, before anything is made, what no part of the training could follow.

        Raises
        ------
        InputError
        """
        for part in self.parts:
            self.settings(part)
            self.examples(part, network, [None])

    def views(self) -> tuple[int, int]:
        """The fewest that the network is to be used with, and the most."""
        raise NotImplementedError

    def orbits(self) -> Iterator[Geometry]:
        """Views as they are drawn for the last part, those that stand for a user's, of a field and a detector of any size."""
        for number in range(ORBITS_OF_A_RANGE):
            yield self.orbit(np.random.default_rng((self.plan.seed, 5, number)))

    def orbit(self, rng: np.random.Generator) -> Geometry:
        """One of them."""
        raise NotImplementedError

    def reconstruct(self, network, scan: Scan, grid: Grid) -> np.ndarray:
        """Attenuation in 1/mm [z, y, x]."""
        raise NotImplementedError

    def network(self):
        """What the first part begins with: weights that are given, or nothing."""
        start = self.plan.network.start
        return self.load(start.expanduser())[0] if start else self.begun()

    def place(self, part: str) -> Path:
        """Where a part that is over has left its weights."""
        return self.work / f"{part}.safetensors"

    def state(self, part: str) -> Path:
        """Where the checkpoint of a part lies."""
        return self.work / f"{part}.pt"

    def drawn(self, **changes) -> Drawn:
        """What is drawn for every scan."""
        return Drawn(**{**self.plan.scans.model_dump(), **changes})

    def betters(self, network) -> bool:
        """Whether a network is shown a first volume."""
        raise NotImplementedError

    def kept(self, part: str, examples, firsts: bool):
        """Examples as they are, or those that a part makes once and learns from again and again, with first volumes if need be."""
        count = self.plan.data.kept if self.plan.data.kept is not None else KEPT * firsts
        if firsts and not count:
            raise InputError(
                "data.kept=0: this network betters a first volume, which takes longer to make than to learn from: give the number of "
                "examples to make and keep on disk",
                "bad-option",
            )
        return KeptExamples(examples, self.work / f"{part}-examples", count, self.plan.seed, firsts) if count else examples

    def first(self, network, scan: Scan, grid: Grid) -> np.ndarray | None:
        """The first volume that a network is shown."""
        return first_volume(scan, grid) if self.betters(network) else None

    def identity(self, names: list[str]) -> dict:
        """What must be the same where a stopped training goes on, beside what a checkpoint says; JSON values."""
        plan = self.plan.model_dump(mode="json", include={"seed", "data", "scans", "network", "stage", "views"})
        told = ("recipe", "voxels", "spacing_mm", "made_up_limbs", "kept")
        return {**plan, "data": {name: plan["data"][name] for name in told}, "cts": names}

    def card(self, names: list[str], network, examples) -> dict:
        """What the weights' card says: of CTs by their names, of the scans that a network has seen."""
        said, seen = self.plan.card, (shown(examples[number]) for number in range(SCANS_OF_A_RANGE))
        return {
            "method": self.method,
            "anatomies": list(said.anatomies),
            "credit": said.credit or ", ".join(names) or "limbs drawn at random",
            "licence": said.licence,
            "version": __version__,
            "date": datetime.now(UTC).date().isoformat(),
            "data": {"cts": names, "made_up_limbs": self.plan.data.made_up_limbs, "recipe": self.plan.data.recipe},
            "scans": self.plan.scans.model_dump(mode="json"),
            "range": scan_range.of(network, seen, self.orbits()),
        }


class DiCECourse(Course):
    """DeepSparse's network."""

    method, form, load = "deepsparse", dice_weights.FORMAT, staticmethod(dice_weights.load)

    def stages(self) -> list[str]:
        return ["adapt", ADJUST] if isinstance(self.plan, FinetunePlan) else [self.plan.stage.name]

    def begun(self):
        if isinstance(self.plan, FinetunePlan):
            raise InputError("nothing to finetune: give pretrained weights with --start or as network.start", "no-weights")
        return dice.begin(SIZES[self.plan.network.size], self.plan.seed)

    def network(self):
        """As any course; what betters a first volume has no adjusting, since it sees few views alone.

        Raises
        ------
        InputError
            Where nothing else was asked for.
        """
        network = super().network()
        if not self.betters(network) or ADJUST not in self.parts:
            return network
        self.parts = [part for part in self.parts if part != ADJUST]
        if not self.parts:
            raise InputError(
                "stage.name=adjust: this network betters a first volume and sees few views alone, so that there is nothing to adjust: give "
                "stage.name=adapt",
                "bad-option",
            )
        log.warning("these weights better a first volume and see few views alone: they are adapted, and there is nothing to adjust")
        return network

    def stage(self, part: str) -> Stage:
        told = self.plan.views if isinstance(self.plan, FinetunePlan) else self.plan.stage
        return Stage(**{**told.model_dump(), "name": part})

    def views(self) -> tuple[int, int]:
        return self.stage(self.parts[-1]).few

    def orbit(self, rng: np.random.Generator) -> Geometry:
        of = self.plan.scans.of
        views, few = self.stage(self.parts[-1]).views(of, rng)
        return self.drawn(views=(of, of)).geometry(*ANY_BODY, rng)[views[:few]]

    def settings(self, part: str) -> dice_training.Settings:
        steps = getattr(self.plan, part) if isinstance(self.plan, FinetunePlan) else self.plan.training
        return dice_training.Settings(**steps.model_dump())

    def examples(self, part: str, network, cts: list):
        drawn = self.drawn(views=(1, self.plan.scans.of))
        return self.kept(part, HybridExamples(cts, drawn, self.stage(part), self.plan.seed), self.betters(network))

    def learner(self, part: str, network, cts: list, fabric, workers: int) -> Learning:
        examples, stage, settings = self.examples(part, network, cts), self.stage(part), self.settings(part)
        return dice_training.DiCETraining(examples, network, stage, settings, self.plan.seed, str(fabric.device), workers, fabric)

    def reconstruct(self, network, scan: Scan, grid: Grid) -> np.ndarray:
        return dice.reconstruct(network, scan, grid, first=self.first(network, scan, grid))

    def betters(self, network) -> bool:
        return bool(network.configuration.around)


class XGRMCourse(Course):
    """X-GRM's network."""

    method, form, load = "x-grm", xgrm_weights.FORMAT, staticmethod(xgrm_weights.load)

    def stages(self) -> list[str]:
        return ["train"]

    def begun(self):
        size = replace(xgrm.SIZES[self.plan.network.size], head=self.plan.network.head)
        return xgrm.begin(size, self.plan.seed)

    def views(self) -> tuple[int, int]:
        return self.plan.scans.views

    def orbit(self, rng: np.random.Generator) -> Geometry:
        return self.drawn().geometry(*ANY_BODY, rng)

    def settings(self, part: str) -> xgrm_training.Settings:
        return xgrm_training.Settings(**self.plan.training.model_dump())

    def examples(self, part: str, network, cts: list):
        return self.kept(part, Examples(cts, self.drawn(), self.plan.seed), self.betters(network))

    def learner(self, part: str, network, cts: list, fabric, workers: int) -> Learning:
        examples, settings = self.examples(part, network, cts), self.settings(part)
        return xgrm_training.XGRMTraining(examples, network, settings, self.plan.seed, str(fabric.device), workers, fabric)

    def reconstruct(self, network, scan: Scan, grid: Grid) -> np.ndarray:
        return Reconstruction(network, scan, grid, self.first(network, scan, grid)).volume()

    def betters(self, network) -> bool:
        return bool(network.size.around)


COURSES = {DiCEPlan: DiCECourse, FinetunePlan: DiCECourse, XGRMPlan: XGRMCourse}


def course(plan: Plan, work: Path) -> Course:
    """The course of a plan."""
    return COURSES[type(plan)](plan, work)


def shown(example: Example) -> Scan:
    """The views of an example that stand for a user's."""
    few = getattr(example, "few", example.scan.views)
    return example.scan.subset(np.arange(few))


def learnt(learner: Learning, state: Path, every_s: float, warn) -> Iterator[dict[str, float]]:
    """Yield the losses of each step; on the way write checkpoints, the first process alone.

    Parameters
    ----------
    learner : Learning
    state : Path
        The checkpoint.
    every_s : float
        Seconds between checkpoints.
    warn : callable
        Told in a sentence where one cannot be written: the one before stays, and training goes on.
    """
    last = time.monotonic()
    for losses in learner.losses():
        if learner.fabric.global_rank == 0 and time.monotonic() - last >= every_s:
            try:
                learner.save_state(state)
            except InputError as error:
                warn(f"{error}; training goes on, and the checkpoint from before stays")
            last = time.monotonic()
        yield losses
