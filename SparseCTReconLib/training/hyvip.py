"""Hybrid view sampling (HyViP; Lin et al. 2026, section 3.3): a few views that stand for a scan, and others that make it dense.

The few, S, and the dense, D, are each spread evenly over the arc from a random start. Of D those give way to S that lie nearest:

    minimise  sum over s in S of |s - phi(s)|      over bijections phi from S to a part of D         (eq. 8)

What is left of D and all of S are as many views as D. Lin et al.'s published code takes the nearest pair, then the nearest of what is left,
and so on, which costs more.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError

MATCHINGS = ("least-cost", "greedy")


def spread(count: int, candidates: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (count,) of views, evenly over those of an arc, from a random start."""
    views = np.arange(count) * candidates // count
    return views + rng.integers(candidates - views[-1])


def matched(few: np.ndarray, dense: np.ndarray, matching: str = "least-cost") -> np.ndarray:
    """Which of `dense`, indices (few,), give way to `few`.

    Parameters
    ----------
    few, dense : array
        Positions of views on an arc.
    matching : str
        One of `MATCHINGS`: "greedy" is the published code's.
    """
    cost = np.abs(few[:, None] - dense[None])
    if matching == "least-cost":
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(cost)[1]
    given = np.full(len(few), -1)
    for pair in np.argsort(cost, axis=None, kind="stable"):
        one, other = divmod(int(pair), len(dense))
        if given[one] < 0 and other not in given:
            given[one] = other
    return given


def hybrid_views(few: int, dense: int, candidates: int, rng: np.random.Generator, matching: str = "least-cost") -> np.ndarray:
    """Indices (dense,) of different views, the first `few` of which are spread evenly, and all together nearly so.

    Parameters
    ----------
    few : int
        Views that a user would have.
    dense : int
        Views in all.
    candidates : int
        Views that there are, evenly along an arc in their order.
    rng : numpy Generator
    matching : str
        One of `MATCHINGS`.

    Raises
    ------
    InputError
        For numbers of views that are impossible.
    """
    if not 1 <= few <= dense <= candidates:
        text = f"{few} of {dense} of {candidates} views: give at least one, and no more than there are"
        raise InputError(text, "view-count")
    if matching not in MATCHINGS:
        raise InputError(f"no matching {matching!r}: known are {', '.join(MATCHINGS)}", "bad-option")
    first = spread(few, candidates, rng)
    if few == dense:
        return first
    every = spread(dense, candidates, rng)
    return np.concatenate([first, np.delete(every, matched(first, every, matching))])
