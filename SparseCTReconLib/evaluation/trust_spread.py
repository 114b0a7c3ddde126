"""How far volumes of the same scan disagree: other seeds, other methods, or some of the views left out.

Where they agree, the choice that differs between them does not matter; they may still all be wrong in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..grid import Volume
from .compare import aligned, check_finite, in_hu

LEAST_HU = 1.0
"""Spread that is assumed at least, so that volumes which agree to the last digit contradict nobody."""


@dataclass(frozen=True)
class Spread:
    """Maps on the volume's voxels in HU, float32 [z, y, x].

    Parameters
    ----------
    spread : ndarray
        Standard deviation of the others about their mean; of left-out views the jackknife's, which is larger.
    apart : ndarray
        The volume less the others' mean.
    """

    spread: np.ndarray
    apart: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """How many standard deviations the volume is apart from the others."""
        return (self.apart / np.maximum(self.spread, LEAST_HU)).astype(np.float32)


def spread_of(volume: Volume, others: Sequence[Volume], jackknife: bool = False) -> Spread:
    """Disagreement of `others`, resampled onto the voxels of `volume`.

    Parameters
    ----------
    volume : Volume
    others : sequence of Volume
        Two or more; those of left-out views in the order of the groups.
    jackknife : bool
        Whether each was made without one of as many groups of the views: sqrt((n - 1) / n sum (x - mean)^2) (Efron and Stein 1981).

    Raises
    ------
    InputError
        For less than two, and where one does not overlap the volume.
    """
    check_enough(len(others))
    own = in_hu(volume)
    check_finite(own, "volume")
    arrays = [aligned(volume, other).truth for other in others]
    mean = np.mean(arrays, axis=0, dtype=np.float32)
    squares = sum((array - mean) ** 2 for array in arrays)
    n = len(arrays)
    spread = np.sqrt(squares * (n - 1) / n if jackknife else squares / (n - 1))
    return Spread(spread.astype(np.float32), (own - mean).astype(np.float32))


def check_enough(others: int) -> None:
    """Refuse fewer other volumes than have a spread.

    Raises
    ------
    InputError
    """
    if others < 2:
        raise InputError(f"{others} other volume: a spread needs two or more, of other seeds, methods or views", "too-few-volumes")


def groups_of(views: int, groups: int) -> Iterator[np.ndarray]:
    """Which views (bool) each group holds: every n-th, so that what is left still goes round.

    Raises
    ------
    InputError
        Where a group would leave nothing, or the views do not suffice.
    """
    if not 2 <= groups <= views // 2:
        raise InputError(
            f"{groups} groups of {views} views: give 2 to {views // 2}, so that each holds views and leaves most of them"
            if views >= 4
            else f"{views} views cannot be held back in groups: give a scan of 4 or more",
            "bad-groups",
        )
    return (np.arange(views) % groups == group for group in range(groups))
