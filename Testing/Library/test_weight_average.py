"""The mean of a field's weights: what it is, and what naf's volume gains by it."""

import json

import numpy as np
import pytest
import torch
from small_scans import psnr

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import averaging
from SparseCTReconLib.fields.averaging import WeightAverage
from SparseCTReconLib.fields.backends import make_field
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.networks import HashNetwork, Siren
from SparseCTReconLib.methods.naf import NAFOptions
from SparseCTReconLib.methods.reconstruct import prepare

FIELDS = {
    "numba": (HashNetwork(HashGrid(2, 4, 9, 10), Head(4, 16)), "numba"),
    "torch": (HashNetwork(HashGrid(2, 4, 9, 10), Head(4, 16)), "torch"),
    "siren": (Siren(2, 24), "torch"),
}
SMALL = {"start": "nothing", "smoothness": 1.0, "levels": 4, "hidden": 16, "rays": 200, "decay": False}


@pytest.fixture(params=FIELDS)
def field(request):
    architecture, backend = FIELDS[request.param]
    return make_field(architecture, 0.02, "cpu", backend)


def train(field, steps=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        points, gradient = torch.rand(3, 200, generator=generator), torch.randn(200, generator=generator)
        field.descend(points, field.forward(points)[1], gradient, 0.05, 0.02)


def copies(arrays):
    return {name: np.array(array) for name, array in arrays.items()}


def averaged(field, states=5):
    """The mean of the field's weights after each of so many steps, and these weights."""
    average, seen = WeightAverage(field), []
    for seed in range(states):
        train(field, seed=seed)
        average.add()
        seen.append({name: weights.numpy().astype(float) for name, weights in field.weights().items()})
    return average, seen


def test_the_mean_is_the_mean(field, monkeypatch):
    monkeypatch.setattr(averaging, "EXCHANGED_AT_ONCE", 7)
    average, seen = averaged(field)
    with average.in_place():
        for name, weights in field.weights().items():
            np.testing.assert_allclose(weights, np.mean([state[name] for state in seen], axis=0), rtol=1e-5, atol=1e-7)
    assert average.count == 5


def test_the_field_is_the_mean_s_for_as_long_as_it_is_asked_and_then_exactly_itself_again(field):
    average, _ = averaged(field)
    points, before = torch.rand(3, 50), copies(field.arrays())
    own, moments = field(points), [name for name in before if name not in field.weights()]
    with pytest.raises(KeyError), average.in_place():
        assert not torch.equal(field(points), own)
        for name in moments:
            np.testing.assert_array_equal(field.arrays()[name], before[name])
        raise KeyError("whoever looks may fail")
    for name, array in field.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert torch.equal(field(points), own)


def test_a_mean_of_nothing_leaves_the_field_as_it_is(field):
    average, points = WeightAverage(field), torch.rand(3, 50)
    own = field(points)
    with average.in_place():
        assert torch.equal(field(points), own)
    assert average.arrays() == {}


def test_a_mean_goes_on_exactly_from_its_arrays(field):
    average, _ = averaged(field)
    kept, other = copies(average.arrays()), WeightAverage(field)
    assert not kept.keys() & field.arrays().keys()
    other.restore(kept)
    train(field)
    for one in (average, other):
        one.add()
    for name, array in average.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array, err_msg=name)
    other.restore(field.arrays())
    assert other.count == 0 and other.arrays() == {}


def states_of(tiny, resume=None, spent=lambda state: None, most=np.inf, **options):
    """Of a run whose volume is looked at in every state: its checkpoints and volumes."""
    run, seen = methods.get("naf").run(*tiny, NAFOptions(**{"iterations": 60, **SMALL, **options}), resume=resume), []
    share = None
    while len(seen) < most:
        try:
            state = run.send(share)
        except StopIteration:
            return seen
        volume = state.volume()
        seen.append((copies(state.checkpoint()), volume))
        share = spent(len(seen))
    return seen


def test_a_run_learns_from_its_own_weights_and_shows_their_mean_over_the_second_half(tiny):
    plain, ours = states_of(tiny), states_of(tiny, averaging=True)
    for (own, volume), (same, shown) in zip(plain, ours, strict=True):
        for name, array in own.items():
            np.testing.assert_array_equal(same[name], array, err_msg=name)
        assert np.array_equal(volume, shown) == (own["step"] <= 3)
    for name in ("table", "head"):
        mean = np.mean([own[name].astype(float) for own, _ in plain[2:]], axis=0)
        np.testing.assert_allclose(ours[-1][0][f"mean_{name}"], mean, rtol=1e-5, atol=1e-7)
    assert [int(kept.get("mean_of", 0)) for kept, _ in ours] == [0, 0, 1, 2, 3, 4]


def test_where_time_runs_out_first_the_second_half_is_that_of_the_time(tiny):
    seen = states_of(tiny, spent=lambda state: state / 4, most=5, iterations=1000, averaging=True)
    assert ["mean_of" in kept for kept, _ in seen] == [False, False, True, True, True]


@pytest.mark.parametrize("start", ["nothing", "admm-tv"])
@pytest.mark.parametrize("before_the_end", [5, 2, 1])
def test_a_run_goes_on_exactly_with_its_mean(tiny, start, before_the_end):
    unbroken = states_of(tiny, start=start, averaging=True)
    resumed = states_of(tiny, unbroken[-1 - before_the_end][0], start=start, averaging=True)
    assert len(resumed) == before_the_end
    np.testing.assert_array_equal(resumed[-1][1], unbroken[-1][1])
    for name, array in unbroken[-1][0].items():
        np.testing.assert_array_equal(resumed[-1][0][name], array, err_msg=name)


def test_a_run_with_more_steps_goes_on_with_the_mean_that_there_is(tiny):
    kept, _ = states_of(tiny, averaging=True)[-1]
    assert [int(more["mean_of"]) for more, _ in states_of(tiny, kept, iterations=200, averaging=True)[:2]] == [5, 6]


def test_without_the_option_a_mean_in_the_checkpoint_is_left_alone(tiny):
    kept, _ = states_of(tiny, averaging=True)[-2]
    np.testing.assert_array_equal(states_of(tiny, kept)[-1][1], states_of(tiny)[-1][1])


def test_the_mean_is_better_than_the_weights_it_is_the_mean_of(head):
    scan, grid, truth = head
    with_it, without = (
        psnr(reconstruct(scan, "naf", grid, preset="from-scratch", iterations=100, **chosen).array, truth)
        for chosen in ({}, {"averaging": False})
    )
    assert with_it > without + 0.2


def test_a_volume_says_that_it_was_averaged_and_is_otherwise_no_different_in_its_origin(tiny):
    scan, grid = tiny
    plain, ours = (
        reconstruct(scan, "naf", grid, **{"iterations": 20, **SMALL, "averaging": chosen}).attributes for chosen in (False, True)
    )
    own = {"options", "seconds", "date", "reprojection_residual"}
    assert {name for name in plain | ours if plain.get(name) != ours.get(name)} <= {f"SparseCTRecon.{name}" for name in own}
    assert json.loads(ours["SparseCTRecon.options"])["averaging"] is True


def test_the_mean_counts_as_memory(tiny):
    scan, grid = tiny
    naf = methods.get("naf")
    plain, ours = (NAFOptions(**SMALL, averaging=chosen) for chosen in (False, True))
    *_, state = prepare(scan, "naf", grid, options={"iterations": 10, **SMALL, "averaging": True}).states()
    more = naf.memory_bytes(grid, scan, ours) - naf.memory_bytes(grid, scan, plain)
    assert more == state.checkpoint()["mean_table"].nbytes > 0


@pytest.mark.parametrize("value", ["perhaps", 2, None])
def test_what_is_neither_yes_nor_no_is_refused_by_name(value):
    with pytest.raises(InputError, match="averaging"):
        methods.parse_options(methods.get("naf"), {"averaging": value})
