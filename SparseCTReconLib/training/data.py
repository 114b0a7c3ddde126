"""Examples that feed-forward networks learn from: a CT, changed at random, and a scan of it, made when it is asked for.

The CT is turned, mirrored, stretched and its tone changed (`pairs`), and it may be deformed; machine, arc, views, dose and the detector's
place are drawn too, and it may be too small for the body. As in X-GRM a few views are picked evenly from many. Everything follows from the
seed and the number of the example, whichever process makes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..scan import Scan
from ..simulate import simulate
from .augmentation import LARGEST, SMALLEST, deformed, inner
from .pairs import body, grids, in_cylinder, in_voxels, machine
from .prepared import PreparedCT

ANY_FIELD = (0.0, np.inf)
OFFSET = 0.02
"""Of the detector's edge, by which it may be out of place along each of them."""

simulating = logging.getLogger("SparseCTReconLib.simulate")

SMALL = (0.4, 0.85)
"""Of their size, at which small bodies are shown."""

AHEAD = 2
"""Examples that each worker makes before they are asked for."""


@dataclass(frozen=True)
class Example:
    """A scan and its truth.

    Parameters
    ----------
    scan : Scan
        The views that a network is shown.
    grid : Grid
        Voxels of the truth.
    truth : array [z, y, x]
        Attenuation relative to water, float16.
    first : array [z, y, x], optional
        A first volume, likewise, for networks that better one.
    """

    scan: Scan
    grid: Grid
    truth: np.ndarray
    first: np.ndarray | None = None


@dataclass(frozen=True)
class Drawn:
    """What is drawn for each example.

    Parameters
    ----------
    voxels : tuple of int
        Along each axis of the truth; one of these.
    views : tuple of int
        The fewest and the most.
    of : int
        Views of the whole scan that they are picked from.
    photons : tuple of float
        The fewest and the most of a pixel, evenly on a logarithmic scale.
    half : float
        Share of the scans over 180 degrees; the others go full circle.
    deformed : float
        Share of the bodies that are deformed.
    truncated : float
        Share of the scans whose detector is too small for the body; their truth is what lies in its field.
    small : float
        Share of the bodies that are shown at less than their size, through which more photons come.
    """

    voxels: tuple[int, ...] = (64,)
    views: tuple[int, int] = (6, 10)
    of: int = 50
    photons: tuple[float, float] = (2e4, 3e5)
    half: float = 0.5
    deformed: float = 0.0
    truncated: float = 0.0
    small: float = 0.0

    def __post_init__(self):
        for name in ("voxels", "views", "photons"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        (few, many), (dim, bright) = self.views, self.photons
        if not self.voxels or min(self.voxels) < 8:
            raise InputError(f"volumes of {self.voxels} voxels along each axis: give 8 or more", "bad-option")
        if not 1 <= few <= many <= self.of:
            raise InputError(f"{few} to {many} of {self.of} views: give the fewest, the most, and no fewer of which", "bad-option")
        if not 1 <= dim <= bright < np.inf:
            raise InputError(f"{dim:g} to {bright:g} photons: give the fewest, 1 or more, and the most", "bad-option")
        shares = {
            "half circles": self.half,
            "deformed bodies": self.deformed,
            "truncated scans": self.truncated,
            "small bodies": self.small,
        }
        for what, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"a share {share} of {what}: give 0 to 1", "bad-option")

    def geometry(self, fine: int, field_mm: float, rng: np.random.Generator) -> Geometry:
        """A random machine's views of a field, with `fine` pixels along an edge of the detector."""
        made = machine(fine, field_mm, rng)
        half = rng.random() < self.half
        made["arc_rad"] = np.pi if half else 2 * np.pi
        made["offset_mm"] = tuple(OFFSET * fine * made["pixel_mm"][0] * rng.uniform(-1, 1, 2))
        count = int(rng.integers(self.views[0], self.views[1] + 1))
        return Geometry.circular(self.of, **made)[picked(count, self.of, half, rng)]

    def card(self) -> dict:
        """JSON values."""
        return asdict(self)


def picked(count: int, of: int, half: bool, rng: np.random.Generator) -> np.ndarray:
    """Which of a scan's views, as evenly as may be: from end to end of half a circle, from a random one on of a whole one."""
    if half:
        return np.rint(np.linspace(0, of - 1, count)).astype(int)
    return np.sort((np.rint(np.arange(count) * of / count).astype(int) + int(rng.integers(of))) % of)


class Examples:
    """As many examples as are asked for; all CTs come once, in random order, before any comes again.

    Parameters
    ----------
    cts : sequence of PreparedCT
    drawn : Drawn
    seed : int
    """

    def __init__(self, cts: Sequence[PreparedCT], drawn: Drawn, seed: int = 0):
        if not cts:
            raise InputError("no CTs to make examples of: give at least one", "no-data")
        self.cts, self.drawn, self.seed = list(cts), drawn, seed

    def ct(self, index: int) -> PreparedCT:
        """Of which CT an example is."""
        turn, place = divmod(index, len(self.cts))
        return self.cts[np.random.default_rng((self.seed, 0, turn)).permutation(len(self.cts))[place]]

    def __getitem__(self, index: int) -> Example:
        return self.made(index, self.drawn.geometry)

    def made(self, index: int, views_of: Callable[[int, float, np.random.Generator], Geometry]) -> Example:
        """An example with the views that `views_of` draws in the place of `Drawn.geometry`."""
        rng = np.random.default_rng((self.seed, 1, index))
        _, values, field_mm = body([self.ct(index).volume()], self.drawn.voxels, rng, ANY_FIELD)
        values, share, size = self._changed(values, np.random.default_rng((self.seed, 3, index)))
        field_mm *= size
        fine, grid = grids(len(values), field_mm)
        geometry, photons = views_of(len(values), field_mm * share, rng), np.exp(rng.uniform(*np.log(self.drawn.photons)))
        with _silent(simulating if share < 1 else None):
            scan = simulate(Volume(values, fine), geometry=geometry, photons=float(photons), seed=int(rng.integers(1 << 31)))
        seen = inner(grid.size[0], share)
        middle = Grid.centred((seen.stop - seen.start,) * 3, grid.spacing_mm)
        return Example(scan, middle, in_voxels(values)[seen, seen, seen].astype(np.float16))

    def _changed(self, values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
        """A body, deformed or as it was, how much of its field the detector sees, and the share of its size at which it is shown."""
        deforming, truncating = rng.random(2) < (self.drawn.deformed, self.drawn.truncated)
        values = in_cylinder(deformed(values, rng)) if deforming else values
        share = rng.uniform(SMALLEST, LARGEST) if truncating else 1.0
        return values, share, rng.uniform(*SMALL) if rng.random() < self.drawn.small else 1.0


@contextmanager
def _silent(log: logging.Logger | None):
    """Let a logger keep its warnings to itself: of truncation that is meant, say."""
    level = log and log.level
    if log:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if log:
            log.setLevel(level)


def stream(examples, numbers: Iterable[int], workers: int = 0) -> Iterator[Example]:
    """Examples by their numbers, in that order.

    Parameters
    ----------
    examples : Examples
        Or whatever gives them by number.
    workers : int
        Processes that make them ahead of time; 0 to make them here, when they are asked for. They are the same either way.

    Raises
    ------
    InputError
        Where a CT has gone or holds nothing to learn from.
    """
    if not workers:
        yield from (examples[number] for number in numbers)
        return
    from torch.utils.data import DataLoader

    made = DataLoader(_Faultless(examples), None, sampler=numbers, num_workers=workers, collate_fn=_as_it_is, prefetch_factor=AHEAD)
    for example in made:
        if isinstance(example, InputError):
            raise example
        yield example


class _Faultless:
    """Examples that hand a user's fault on, since what a worker raises comes with its traceback in the sentence."""

    def __init__(self, examples):
        self.examples = examples

    def __getitem__(self, number: int):
        try:
            return self.examples[number]
        except InputError as fault:
            return fault


def _as_it_is(example):
    return example
