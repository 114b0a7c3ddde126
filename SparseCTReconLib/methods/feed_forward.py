"""What methods have in common whose network makes a volume of a few views in one pass.

ADMM-TV                       if the network betters a first volume
looking at the views          a coarse volume, where the grid is large
making the volume             of the network, slab by slab
agreeing with the projections ADMM-TV from there, see `agreement`

A network that betters a first volume is shown what agrees with the projections, betters that too, and so on, some rounds long.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch.nn import functional

from .. import weights
from ..errors import InputError
from ..fields.anatomy import propose
from ..grid import Grid
from ..networks import scan_range
from ..networks.posed_views import LEAST_VIEWS
from ..operators.averaging import neighbour_weight, voxel_means
from ..scan import Scan
from ..weight_files import WeightFile
from .admm_tv import ADMMTV, ADMMTVOptions, Solver
from .agreement import Agreement, Wish
from .base import Method, MethodOptions, State, option, require_more

log = logging.getLogger(__name__)

COARSER = 4
"""Times as large along each axis are the voxels of the coarse volume."""

VOXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 23}
"""In a slab."""


class FeedForwardOptions(MethodOptions):
    weights: str = option(weights.AUTO, "", "Pretrained: a name, a file of train, or auto for what the scan seems to show.")
    agreement: int = option(20, "passes", "Of ADMM-TV from the network's volume on; 0 leaves that as it is.", ge=0, le=1000)
    rounds: int = option(3, "rounds", "Of network and agreement, where the network betters a volume that it is shown.", ge=1, le=100)
    smoothness: float = option(0.5, "", "Factor on the weight of total variation meanwhile.", gt=0, le=100)
    closeness: float = option(
        1.0,
        "",
        "How firmly the volume is held to the network's meanwhile; 0 not at all, 1 where it is measured badly.",
        ge=0,
        le=1e6,
        advanced=True,
    )
    edges: bool = option(True, "", "Total variation pulls less at the edges of the network's volume.", advanced=True)


class Learned(Protocol):
    """A network with its weights, for a scan.

    Parameters
    ----------
    file : WeightFile
        Of the weights.
    network : DiCE or XGRM
    betters : bool
        Whether it is shown a first volume.
    refinements : int
        Steps that it is refined by before its volume is asked for.
    """

    file: WeightFile
    network: torch.nn.Module
    betters: bool
    refinements: int

    def look(self, first: np.ndarray | None) -> None:
        """Look at the scan, and at a first volume in 1/mm [z, y, x] on the method's grid."""

    def refine(self) -> Iterator[float]:
        """Yield the loss of each of the refinements."""

    def volume(self, grid: Grid) -> np.ndarray:
        """Attenuation in 1/mm [z, y, x]."""


class FeedForward(Method):
    """A method whose network is loaded by `load`."""

    kind: ClassVar[weights.Kind]
    devices = ("cpu", "cuda")
    Options = FeedForwardOptions
    presets = {"recommended": {}, "paper": {"agreement": 0}}

    def load(self, path: Path, scan: Scan, grid: Grid, options: FeedForwardOptions, device: str) -> Learned:
        """The network of a file."""
        raise NotImplementedError

    def run(self, scan, grid, options, device="cpu", resume=None):
        yield from Run(self, scan, grid, options, device).states(resume)


def check_views(method: str, scan: Scan) -> None:
    """Refuse what no network can make a volume of."""
    if scan.views < LEAST_VIEWS:
        raise InputError(
            f"{method} needs {LEAST_VIEWS} views or more, the scan has {scan.views}: take more, or look at what fdk makes", "too-few-views"
        )


class Run:
    """The stages of a reconstruction.

    Parameters
    ----------
    method : FeedForward
    scan, grid, options, device
        As `Method.run` takes them.
    """

    def __init__(self, method: FeedForward, scan: Scan, grid: Grid, options: FeedForwardOptions, device: str):
        check_views(method.name, scan)
        path = weights.choose(options.weights, method.kind, scan.views, partial(propose, scan))
        self.scan, self.grid, self.options, self.device = scan, grid, options, device
        self.learned = method.load(path, scan, grid, options, device)
        file = self.learned.file
        log.info("the network has the weights %s", file.source)
        said = scan_range.warning(file.card, file.name, scan, partial(scan_range.features, self.learned.network, scan))
        if said:
            log.warning(said)
        self.warnings = tuple(filter(None, [said]))
        self.facts = {"weights": file.source}
        admm = ADMMTVOptions(**ADMMTV.presets["reweighted"])
        betters = self.learned.betters
        self.turns = admm.turns(scan.views) if betters else [0]
        self.rounds = options.rounds if betters and options.agreement else 1
        self.solver = Solver(scan, grid, admm) if betters or options.agreement else None
        if self.solver and device != "cpu":
            log.info("ADMM-TV runs on the cpu, the network on %s", device)
        self.neighbour = neighbour_weight(scan, grid)
        self.slabs = _slabs(grid, VOXELS_AT_ONCE[device])
        self.looks = self.learned.refinements + (len(self.slabs) > 1) + len(self.slabs)
        """Steps of a round until there is the network's volume."""
        self.steps = sum(self.turns) + self.rounds * (self.looks + options.agreement)

    def states(self, resume=None) -> Iterator[State]:
        """Every state from the first, or from the one that `resume` was taken at."""
        resume = resume or {}
        done = int(resume.get("step", 0))
        require_more(done, self.steps)
        if resume and self.learned.betters:
            self.solver.resume(resume)
        if self.learned.betters and "network" not in resume:
            yield from self._approach(done)
        for number in range(int(resume.get("round", 0)), self.rounds):
            yield from self._round(number, resume)
            resume = {}

    def _round(self, number: int, resume) -> Iterator[State]:
        """States of one round, from the volume where the solver stands."""
        before = self.solver.state if self.learned.betters else None
        if "network" in resume:
            volume = resume["network"]
        else:
            volume = yield from self._network(number, before)
        if self.options.agreement:
            yield from self._agree(number, volume, before, resume)

    def _begin(self, number: int) -> int:
        """The steps before a round."""
        return sum(self.turns) + number * (self.looks + self.options.agreement)

    def _state(self, stage: str, step: int, volume, metrics, checkpoint, **more) -> State:
        """A state that the network has shaped."""
        facts = self.facts | more
        return State(stage, step, self.steps, volume, metrics, checkpoint, facts=facts, warnings=self.warnings)

    def _approach(self, done: int) -> Iterator[State]:
        """States of the first volume."""
        solver, scale = self.solver, float(self.solver.y.norm()) or 1.0
        for step, state in enumerate(solver.states(self.turns, done), start=done + 1):
            arrays = partial(self._arrays, state, step)
            yield State("iterating", step, self.steps, partial(self._means, state), {"residual": state.residual / scale}, arrays)

    def _means(self, state) -> np.ndarray:
        return voxel_means(state.x.cpu().numpy(), self.neighbour)

    def _arrays(self, state, step: int) -> dict[str, np.ndarray]:
        return {**self.solver.arrays(state), "step": np.array(step)}

    def _network(self, number: int, before) -> Iterator[State]:
        """States of the network's volume, which is returned; until it is whole its checkpoints are those of what the network is shown."""
        learned, step, around = self.learned, self._begin(number), {"round": np.array(number)}
        shown = self._means(before) if before else None
        again = partial(_with, partial(self._arrays, before, step), **around) if before else None
        learned.look(shown)
        rough = partial(np.copy, shown) if number else self._coarse
        for loss in learned.refine():
            step += 1
            yield self._state("refining what the network sees", step, rough, {"loss": loss}, again)
        mu = np.empty(self.grid.shape, np.float32)
        if len(self.slabs) > 1:
            step += 1
            mu = rough()
            yield self._state("looking at the views", step, partial(np.copy, mu), {}, again)
        for first, last in self.slabs:
            step += 1
            mu[first:last] = learned.volume(_slab(self.grid, first, last))
            solved = partial(self._arrays, before, step) if before else partial(dict, step=np.array(step))
            checkpoint = partial(_with, solved, network=mu, **around) if last == len(mu) else again
            yield self._state("making the volume", step, partial(np.copy, mu), {}, checkpoint)
        return mu

    def _coarse(self) -> np.ndarray:
        """The network's volume on fewer voxels, interpolated."""
        size = tuple(max(1, n // COARSER) for n in self.grid.size)
        spacing = np.asarray(self.grid.extent_mm) / size
        shift = (spacing - self.grid.spacing_mm) / 2
        origin = self.grid.index_to_world[:3] @ [*(shift / self.grid.spacing_mm), 1.0]
        coarse = torch.from_numpy(self.learned.volume(Grid(size, tuple(spacing), tuple(origin), self.grid.direction)))
        return functional.interpolate(coarse[None, None], self.grid.shape, mode="trilinear")[0, 0].numpy()

    def _agree(self, number: int, volume: np.ndarray, before, resume) -> Iterator[State]:
        """States of the agreement, from whose end the solver goes on."""
        options = self.options
        wish = Wish(options.agreement, options.smoothness, options.closeness, options.edges)
        agreement, first = Agreement(self.solver, self.neighbour, wish, volume, before), self._begin(number) + self.looks
        if "agreed" in resume:
            agreement.resume(resume)
        scale = float(self.solver.y.norm()) or 1.0
        for state in agreement.states():
            step = first + agreement.done
            arrays = partial(_with, partial(agreement.arrays, state), step=np.array(step), round=np.array(number))
            metrics = {"residual": min(state.residual, agreement.limit) / scale}
            shown = partial(agreement.volume, state)
            yield self._state("agreeing with the projections", step, shown, metrics, arrays, agreement=agreement.fact(state))
        self.solver.state = agreement.state


def _with(arrays, **more) -> dict[str, np.ndarray]:
    """What `arrays` gives, and more."""
    return {**arrays(), **more}


def _slabs(grid: Grid, voxels: int) -> list[tuple[int, int]]:
    """First and last plane of slabs of so many voxels at most, or one plane."""
    planes = max(1, voxels // (grid.size[0] * grid.size[1]))
    return [(first, min(first + planes, grid.size[2])) for first in range(0, grid.size[2], planes)]


def _slab(grid: Grid, first: int, last: int) -> Grid:
    """The grid of some planes."""
    origin = grid.index_to_world[:3] @ [0, 0, first, 1]
    return Grid((*grid.size[:2], last - first), grid.spacing_mm, tuple(origin), grid.direction)
