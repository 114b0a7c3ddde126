"""The volume that a representation begins with: ADMM-TV's, mended by a network that knows what such volumes lack, and made to agree again.

    x  <-  ADMM-TV until it has converged; where views are few, reweighted at the edges that it finds
    x  <-  mend(x), in voxel means, which networks know;  x  <-  some passes of `agreement` from there          some rounds long

A large grid with few views begins with what all this gives on a coarser one (`coarse_to_fine`), and goes on with fewer passes and rounds:
as good in two thirds of the time. The dual variables of ADMM and of total variation are kept across the mending.

Rounds after the first gain where views are few, and lose some of that on limbs where they are many (PSNR in dB, a head and limbs that the
network had not seen, but for one of the two; all rounds on the one grid):

                                   rounds  0      1      2      3      4
    64 voxels cubed, 8 views,  head        25.91  26.36  26.62  26.83
                               limb        30.64  31.96  32.66  33.09
                     20 views, head        33.10  34.02  34.28  34.36  34.37
                               two limbs   38.50  39.58  39.27  38.93
    128,             10 views, head        27.81  27.99  28.14  28.25  28.33
                               limb        36.45  36.85  37.07  37.21  37.30
                     20 views, head        32.96  33.29  33.40  33.45  33.45
                               limb        40.50  40.92  40.87  40.78  40.69
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..classical.admm_tv import ADMMState
from ..operators.averaging import neighbour_weight, voxel_means
from .admm_tv import ADMMTVOptions, Solver
from .agreement import Agreement, Wish
from .coarse_to_fine import REFINING, can_be_halved, halved, interpolated

FEW = 0.125
"""Views over the grid's largest number of voxels along an axis, below which total variation is reweighted."""

ROUNDS, ROUNDS_OF_FEW, FINER_ROUNDS = 2, 4, 3
"""Of mending and agreeing; where total variation is reweighted; and behind such rounds on a coarser grid."""

WISH = Wish(passes=10, smoothness=0.5, closeness=1.0, edges=True)


class StartingVolume:
    """A solver, and its stages.

    Parameters
    ----------
    scan, grid
        As `Method.run` takes them.
    mend : callable, optional
        Mends a volume of voxel means, 1/mm [z, y, x]; its `source` names the weights that it has.
    coarser : bool
        Whether it mends those of coarser grids too.
    few : bool, optional
        Whether the views are to be taken for few; by their number if None.
    """

    def __init__(self, scan, grid, mend=None, coarser: bool = False, few: bool | None = None):
        self.neighbour, self.shape = neighbour_weight(scan, grid), grid.shape
        few = scan.views < FEW * max(grid.size) if few is None else few
        options = ADMMTVOptions(reweightings=2 if few else 0)
        self.solver = Solver(scan, grid, options)
        self.mend = mend
        self.coarse: StartingVolume | None = None
        if mend and coarser and few and can_be_halved(grid):
            self.coarse = StartingVolume(*halved(scan, grid), mend, coarser, few)
        self.turns = [REFINING] if self.coarse else options.turns(scan.views)
        self.rounds = (FINER_ROUNDS if self.coarse else ROUNDS_OF_FEW if few else ROUNDS) if mend else 0
        self.agreement: Agreement | None = None
        """Of the present round."""

    @property
    def unmended(self) -> int:
        """Passes before the volume is mended."""
        return self.coarse.unmended if self.coarse else sum(self.turns)

    @property
    def passes(self) -> int:
        """Over all views, in all stages."""
        return self._between + self.rounds * WISH.passes

    @property
    def _before(self) -> int:
        """Passes on coarser grids."""
        return self.coarse.passes if self.coarse else 0

    @property
    def _between(self) -> int:
        """Passes before the first round on this grid."""
        return self._before + sum(self.turns)

    def states(self, done: int = 0) -> Iterator[ADMMState]:
        """Yield the state after each pass from `done` on; on coarser grids at first."""
        if self.coarse and done <= self._before:
            yield from self.coarse.states(done)
            self.solver.begin(interpolated(self.coarse.solver.state.x.cpu().numpy(), self.shape))
        yield from self.solver.states(self.turns, max(0, done - self._before))
        for _ in range(max(0, done - self._between) // WISH.passes, self.rounds):
            self.agreement = self.agreement or self._mended()
            for state in self.agreement.states():
                self.solver.state = state
                yield state
            self.agreement = None

    def _mended(self) -> Agreement:
        """What makes the mended volume agree with the projections."""
        before = self.solver.state
        return Agreement(self.solver, self.neighbour, WISH, self.mend(self.means(before)), before)

    def facts(self, done: int) -> dict[str, str]:
        """Of the state after `done` passes: the weights that have mended it."""
        return {"weights": self.mend.source} if self.mend and done > self.unmended else {}

    def means(self, state: ADMMState) -> np.ndarray:
        """Means over the voxels, 1/mm [z, y, x]."""
        if self._is_coarse(state):
            return interpolated(self.coarse.means(state), self.shape)
        return voxel_means(state.x.cpu().numpy(), self.neighbour)

    def residual(self, state: ADMMState) -> float:
        """|A x - y| / |y|, weighted as ADMM-TV has it."""
        if self._is_coarse(state):
            return self.coarse.residual(state)
        return state.residual / (float(self.solver.y.norm()) or 1.0)

    def arrays(self, state: ADMMState) -> dict[str, np.ndarray]:
        """What `resume` goes on from, but for the step: of the newest state."""
        if self._is_coarse(state):
            return self.coarse.arrays(state)
        return (self.agreement or self.solver).arrays(state)

    def _is_coarse(self, state: ADMMState) -> bool:
        return tuple(state.x.shape) != self.shape

    def resume(self, arrays) -> int:
        """Take over what `arrays` gave, with its step; returns the passes that are done."""
        if self.coarse and int(arrays["step"]) <= self._before:
            return self.coarse.resume(arrays)
        done = self.solver.resume(arrays)
        if done > self._between and (done - self._between) % WISH.passes:
            self.agreement = Agreement(self.solver, self.neighbour, WISH, arrays["network"], self.solver.state)
            self.agreement.resume(arrays)
        return done
