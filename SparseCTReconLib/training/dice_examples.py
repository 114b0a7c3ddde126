"""What DeepSparse learns from in its three stages: scans with a few views that stand for a user's and others that make them dense.

    stage       2D features of      3D features of                 encoder, codebooks     denoise layers
    pretrain    6 to 24 views       24                             learn                  none
    adapt       n views             24                             learn                  none
    adjust      n views             n, mended towards those of 24  stay                   learn

(Lin et al. 2026, table 1; n: the number of views that a network is to be used with.) Points are of one of a volume's interleaved blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from .data import Drawn, Example, Examples
from .hyvip import MATCHINGS, hybrid_views
from .prepared import PreparedCT

STAGES = ("pretrain", "adapt", "adjust")
STRIDE = 4
"""Between the voxels of a block, along each axis, where that leaves enough: 64 blocks."""


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Parameters
    ----------
    name : str
        One of `STAGES`.
    few : tuple of int
        The fewest views that stand for a user's and the most.
    dense : int
        Views with those that make it dense.
    matching : str
        Of `hyvip.MATCHINGS`.
    """

    name: str = "pretrain"
    few: tuple[int, int] = (6, 24)
    dense: int = 24
    matching: str = MATCHINGS[0]

    def __post_init__(self):
        object.__setattr__(self, "few", tuple(int(n) for n in self.few))
        if self.name not in STAGES or self.matching not in MATCHINGS:
            known = f"known are {', '.join(STAGES)} and {', '.join(MATCHINGS)}"
            raise InputError(f"no stage {self.name!r} with the matching {self.matching!r}: {known}", "bad-option")
        if not len(self.few) == 2 or not 1 <= self.few[0] <= self.few[1] <= self.dense:
            raise InputError(f"{self.few} of {self.dense} views: give the fewest and the most, and no fewer in all", "bad-option")

    @property
    def adjusting(self) -> bool:
        """Whether denoise layers learn, and encoder and codebooks stay."""
        return self.name == "adjust"

    def views(self, candidates: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Which of so many views to take, evenly along an arc, and how many of the first are the few."""
        few = int(rng.integers(self.few[0], self.few[1] + 1))
        return hybrid_views(few, self.dense, candidates, rng, self.matching), few


@dataclass(frozen=True)
class HybridExample(Example):
    """A scan and its truth.

    Parameters
    ----------
    few : int
        Of the scan's views, how many of the first stand for a user's.
    """

    few: int = field(kw_only=True)

    def __post_init__(self):
        if self.truth.shape != self.grid.shape:
            raise InputError(f"a truth of shape {self.truth.shape} on a grid of shape {self.grid.shape} (z, y, x)", "bad-grid")
        if not 1 <= self.few <= self.scan.views:
            raise InputError(f"{self.few} of {self.scan.views} views: give at least one and no more than there are", "view-count")


class HeldExamples:
    """Examples of scans that were made beforehand, with many views each, as in the paper; all scans come once before any comes again.

    Parameters
    ----------
    scans : sequence of Example
        With their views evenly along an arc.
    stage : Stage
    seed : int
    """

    def __init__(self, scans: Sequence[Example], stage: Stage, seed: int = 0):
        if not scans:
            raise InputError("no scans to learn from: give at least one", "no-data")
        fewest = min(held.scan.views for held in scans)
        if fewest < stage.dense:
            raise InputError(f"a scan of {fewest} views where {stage.dense} are drawn from: give scans of at least as many", "view-count")
        self.scans, self.stage, self.seed = list(scans), stage, seed

    def __getitem__(self, index: int) -> HybridExample:
        turn, place = divmod(index, len(self.scans))
        held = self.scans[np.random.default_rng((self.seed, 0, turn)).permutation(len(self.scans))[place]]
        views, few = self.stage.views(held.scan.views, np.random.default_rng((self.seed, 1, index)))
        return HybridExample(held.scan.subset(views), held.grid, held.truth, few=few)


class HybridExamples:
    """Examples that are made when they are asked for, as `data.Examples` makes them, but with the views of a stage.

    Parameters
    ----------
    cts : sequence of PreparedCT
    drawn : Drawn
        Of which the number of views is not looked at.
    stage : Stage
    seed : int
    """

    def __init__(self, cts: Sequence[PreparedCT], drawn: Drawn, stage: Stage, seed: int = 0):
        if drawn.of < stage.dense:
            raise InputError(f"{drawn.of} views where {stage.dense} are drawn from: give at least as many", "view-count")
        self.examples, self.stage, self.seed = Examples(cts, drawn, seed), stage, seed
        self.whole = replace(drawn, views=(drawn.of, drawn.of))

    def __getitem__(self, index: int) -> HybridExample:
        views, few = self.stage.views(self.whole.of, np.random.default_rng((self.seed, 2, index)))
        made = self.examples.made(index, lambda *machine: self.whole.geometry(*machine)[views])
        return HybridExample(made.scan, made.grid, made.truth, few=few)


def interleaved(shape: tuple[int, int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (n, 3), z y x, of voxels of one interleaved block, in random order and none twice; fewer where there are not so many."""
    stride = next((step for step in (STRIDE, STRIDE // 2) if np.prod([n // step for n in shape]) >= count), 1)
    first = rng.integers(stride, size=3)
    block = [len(range(start, n, stride)) for start, n in zip(first, shape)]
    chosen = rng.choice(int(np.prod(block)), min(count, int(np.prod(block))), replace=False)
    return first + stride * np.stack(np.unravel_index(chosen, block), axis=1)
