"""Hybrid view sampling: which views are drawn, and which of the dense ones give way."""

from itertools import permutations

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.training.hyvip import MATCHINGS, hybrid_views, matched, spread


def rng(seed=0):
    return np.random.default_rng(seed)


def cost(few, dense, given):
    return np.abs(few - dense[given]).sum()


@pytest.mark.parametrize("seed", range(12))
def test_the_matching_costs_as_little_as_the_best_of_all_bijections(seed):
    random = rng(seed)
    few, dense = random.random(random.integers(1, 5)), random.random(6)
    best = min(cost(few, dense, list(given)) for given in permutations(range(6), len(few)))
    given = matched(few, dense)
    assert len(set(given)) == len(few) and cost(few, dense, given) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(12))
def test_the_greedy_matching_takes_the_nearest_pair_of_what_is_left(seed):
    random = rng(seed)
    few, dense = random.random(4), random.random(6)
    wanted = {}
    while len(wanted) < 4:
        pairs = [(abs(a - b), i, j) for i, a in enumerate(few) for j, b in enumerate(dense) if i not in wanted and j not in wanted.values()]
        _, i, j = min(pairs)
        wanted[i] = j
    assert matched(few, dense, "greedy").tolist() == [wanted[i] for i in range(4)]


def test_greed_can_cost_more():
    few, dense = np.array([0.0, 1.0]), np.array([0.9, 3.0, -10.0])
    assert cost(few, dense, matched(few, dense)) == pytest.approx(0.9 + 2.0)
    assert matched(few, dense, "greedy").tolist() == [1, 0]


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize(
    "few, dense, candidates", [(6, 24, 200), (10, 24, 50), (1, 2, 2), (24, 24, 24), (7, 23, 24), (1, 1, 1), (23, 24, 24)]
)
def test_all_views_differ_and_the_few_are_evenly_spread(matching, few, dense, candidates):
    for seed in range(20):
        views = hybrid_views(few, dense, candidates, rng(seed), matching)
        assert len(views) == dense == len(set(views.tolist())) and views.min() >= 0 and views.max() < candidates
        gaps = np.diff(views[:few])
        assert len(gaps) == 0 or (gaps.min() >= candidates // few and gaps.max() <= -(-candidates // few))


def test_all_together_they_are_nearly_as_even_as_the_dense_ones():
    for seed in range(20):
        gaps = np.diff(np.sort(hybrid_views(6, 24, 240, rng(seed))))
        assert gaps.max() <= 20 and np.abs(gaps - 10).mean() < 4


def test_the_start_is_random_and_the_draw_follows_from_the_seed():
    starts = {int(spread(6, 200, rng(seed))[0]) for seed in range(300)}
    assert min(starts) == 0 and max(starts) == 200 - 166 - 1 and len(starts) > 25
    assert hybrid_views(6, 24, 200, rng(3)).tolist() == hybrid_views(6, 24, 200, rng(3)).tolist()


@pytest.mark.parametrize("few, dense, candidates", [(0, 24, 200), (25, 24, 200), (6, 24, 23), (-1, 2, 3)])
def test_impossible_numbers_of_views_are_refused(few, dense, candidates):
    with pytest.raises(InputError, match=f"{few} of {dense} of {candidates} views"):
        hybrid_views(few, dense, candidates, rng())


def test_an_unknown_matching_is_refused():
    with pytest.raises(InputError, match="no matching 'best'"):
        hybrid_views(6, 24, 200, rng(), "best")
