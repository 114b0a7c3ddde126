"""What methods have in common whose network makes a volume of a few views in one pass: the stages of `rounds`.

Where a network betters a first volume, a large grid is begun on coarser ones (`coarse_to_fine`): all rounds on the coarsest, and on each
finer one some passes of ADMM-TV and one round more, with half as many passes of agreement.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import weights
from ..errors import InputError
from ..fields.anatomy import propose
from ..grid import Grid
from ..networks import scan_range
from ..networks.posed_views import LEAST_VIEWS
from ..scan import Scan
from .agreement import Wish
from .base import Method, MethodOptions, State, option, require_more
from .coarse_to_fine import REFINING, interpolated, problems
from .rounds import Learned, Rounds, with_more

log = logging.getLogger(__name__)


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
    """A reconstruction, with what is to be said of its weights.

    Parameters
    ----------
    method : FeedForward
    scan, grid, options, device
        As `Method.run` takes them.
    """

    def __init__(self, method: FeedForward, scan: Scan, grid: Grid, options: FeedForwardOptions, device: str):
        check_views(method.name, scan)
        path = weights.choose(options.weights, method.kind, scan.views, partial(propose, scan))
        learned = method.load(path, scan, grid, options, device)
        file = learned.file
        log.info("the network has the weights %s", file.source)
        said = scan_range.warning(file.card, file.name, scan, partial(scan_range.features, learned.network, scan))
        if said:
            log.warning(said)
        self.warnings = tuple(filter(None, [said]))
        self.facts = {"weights": file.source}
        if device != "cpu" and (learned.betters or options.agreement):
            log.info("ADMM-TV runs on the cpu, the network on %s", device)
        wish = Wish(options.agreement, options.smoothness, options.closeness, options.edges)
        again = bool(learned.betters and wish.passes)
        *coarser, finest = problems(scan, grid) if again else [(scan, grid)]
        asked = [(method.load(path, *each, options, device), *each, device) for each in coarser] + [(learned, *finest, device)]
        once = replace(wish, passes=-(-wish.passes // 2))
        self.levels = [Rounds(*asked[0], options.rounds if again else 1, wish), *(Rounds(*each, 1, once, REFINING) for each in asked[1:])]
        self.shape = grid.shape
        self.ends = np.cumsum([level.steps for level in self.levels]).tolist()

    def states(self, resume=None) -> Iterator[State]:
        """Every state from the first, or from the one that `resume` was taken at."""
        resume = resume or {}
        done = int(resume.get("step", 0))
        require_more(done, self.ends[-1])
        before = None
        for number in range(int(resume.get("level", 0)), len(self.levels)):
            level, first = self.levels[number], self.ends[number] - self.levels[number].steps
            if before:
                level.begin(before.samples)
            for state in level.states({**resume, "step": done - first} if resume else {}):
                yield self._of_all(state, number, first)
            before, resume = level, {}

    def _of_all(self, state: State, number: int, first: int) -> State:
        """A level's state as one of the whole reconstruction's."""
        step, shaped = first + state.step, number > 0 or "weights" in state.facts
        return replace(
            state,
            step=step,
            steps=self.ends[-1],
            volume=partial(_fitted, state.volume, self.shape),
            checkpoint=partial(with_more, state.checkpoint, step=np.array(step), level=np.array(number)),
            facts=self.facts | state.facts if shaped else state.facts,
            warnings=self.warnings if shaped else (),
        )


def _fitted(volume, shape: tuple[int, int, int]) -> np.ndarray:
    """What `volume` gives, in as many voxels as asked for."""
    found = volume()
    return found if found.shape == shape else interpolated(found, shape)
