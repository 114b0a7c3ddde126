"""A learned reconstruction on one grid: a first volume, then rounds of network and agreement.

ADMM-TV                       if the network betters a first volume; some passes, where a coarser grid's volume is there to begin with
looking at the views          a coarse volume, where the grid is large
making the volume             of the network, slab by slab
agreeing with the projections ADMM-TV from there, see `agreement`

A network that betters a first volume is shown what agrees with the projections, betters that too, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import numpy as np
import torch

from ..grid import Grid
from ..operators.averaging import neighbour_weight, voxel_means
from ..scan import Scan
from ..weight_files import WeightFile
from .admm_tv import ADMMTV, ADMMTVOptions, Solver
from .agreement import Agreement, Wish
from .base import State
from .coarse_to_fine import interpolated

COARSER = 4
"""Times as large along each axis are the voxels of the coarse volume that is there first."""

VOXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 23}
"""In a slab."""


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


class Rounds:
    """The stages on a grid.

    Parameters
    ----------
    learned : Learned
    scan, grid, device
        As `Method.run` takes them.
    count : int
        Rounds.
    wish : Wish
        Of the agreement, none without passes.
    refining : int, optional
        Passes of ADMM-TV from the volume that `begin` is given; from nothing, as many as that takes, if None.
    """

    def __init__(self, learned: Learned, scan: Scan, grid: Grid, device: str, count: int, wish: Wish, refining: int | None = None):
        self.learned, self.grid, self.count, self.wish = learned, grid, count, wish
        admm = ADMMTVOptions(**ADMMTV.presets["reweighted"])
        self.turns = [0]
        if learned.betters:
            self.turns = admm.turns(scan.views) if refining is None else [refining]
        self.solver = Solver(scan, grid, admm) if learned.betters or wish.passes else None
        self.neighbour = neighbour_weight(scan, grid)
        self.slabs = _slabs(grid, VOXELS_AT_ONCE[device])
        self.looks = learned.refinements + (len(self.slabs) > 1) + len(self.slabs)
        """Steps of a round until there is the network's volume."""
        self.steps = sum(self.turns) + count * (self.looks + wish.passes)

    def begin(self, samples: np.ndarray) -> None:
        """Begin with samples in 1/mm [z, y, x] of the same box in other voxels."""
        self.solver.begin(interpolated(samples, self.grid.shape))

    @property
    def samples(self) -> np.ndarray:
        """Where the solver stands, 1/mm [z, y, x]."""
        return self.solver.state.x.cpu().numpy()

    def states(self, resume: dict) -> Iterator[State]:
        """Every state from the first, or from the one that `resume` was taken at."""
        if resume and self.learned.betters:
            self.solver.resume(resume)
        if self.learned.betters and "network" not in resume:
            yield from self._approach(int(resume.get("step", 0)))
        for number in range(int(resume.get("round", 0)), self.count):
            yield from self._round(number, resume)
            resume = {}

    def _round(self, number: int, resume) -> Iterator[State]:
        """States of one round, from the volume where the solver stands."""
        before = self.solver.state if self.learned.betters else None
        if "network" in resume:
            volume = resume["network"]
        else:
            volume = yield from self._network(number, before)
        if self.wish.passes:
            yield from self._agree(number, volume, before, resume)

    def _begin(self, number: int) -> int:
        """The steps before a round."""
        return sum(self.turns) + number * (self.looks + self.wish.passes)

    def _state(self, stage: str, step: int, volume, metrics, checkpoint, **facts) -> State:
        """A state that the network has shaped."""
        return State(stage, step, self.steps, volume, metrics, checkpoint, facts={"weights": self.learned.file.source} | facts)

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
        again = partial(with_more, partial(self._arrays, before, step), **around) if before else None
        learned.look(shown)
        rough = partial(np.copy, shown) if before else self._coarse
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
            checkpoint = partial(with_more, solved, network=mu, **around) if last == len(mu) else again
            yield self._state("making the volume", step, partial(np.copy, mu), {}, checkpoint)
        return mu

    def _coarse(self) -> np.ndarray:
        """The network's volume on fewer voxels, interpolated."""
        coarse = self.grid.divided([max(1, n // COARSER) for n in self.grid.size])
        return interpolated(self.learned.volume(coarse), self.grid.shape)

    def _agree(self, number: int, volume: np.ndarray, before, resume) -> Iterator[State]:
        """States of the agreement, from whose end the solver goes on."""
        agreement, first = Agreement(self.solver, self.neighbour, self.wish, volume, before), self._begin(number) + self.looks
        if "agreed" in resume:
            agreement.resume(resume)
        scale = float(self.solver.y.norm()) or 1.0
        for state in agreement.states():
            step = first + agreement.done
            arrays = partial(with_more, partial(agreement.arrays, state), step=np.array(step), round=np.array(number))
            metrics = {"residual": min(state.residual, agreement.limit) / scale}
            shown = partial(agreement.volume, state)
            yield self._state("agreeing with the projections", step, shown, metrics, arrays, agreement=agreement.fact(state))
        self.solver.state = agreement.state


def with_more(arrays, **more) -> dict[str, np.ndarray]:
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
