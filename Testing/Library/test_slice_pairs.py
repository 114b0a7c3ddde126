"""Pairs of stacks to learn the repair of slices from: they follow from their seed and show what they say."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from phantoms import Phantom
from round_bodies import round_body

from SparseCTReconLib import methods
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields.anatomy import ANATOMIES, propose
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.networks.biplanar import orthogonal_views
from SparseCTReconLib.simulate import simulate
from SparseCTReconLib.training import slice_pairs
from SparseCTReconLib.training.slice_pairs import KINDS, RUNS, UNDERFIT, StackPair, make_stack_pair, organ_of

EDGE = 16


@pytest.fixture(scope="module")
def ct():
    grid = Grid.centred((40, 40, 40), (5.0,) * 3)
    return Volume((50_000 * Phantom(80.0).volume(grid) - 1000).astype(np.float32), grid)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pieces and runs for a second."""
    monkeypatch.setattr(slice_pairs, "SIZES", (EDGE,))
    monkeypatch.setattr(slice_pairs, "VIEWS", (8, 12))
    monkeypatch.setattr(slice_pairs, "FIT_STEPS", (60, 80))
    fields = {**RUNS["naf"], "log2_table": 14, "levels": 4, "rays": 500}
    monkeypatch.setattr(slice_pairs, "RUNS", {**RUNS, "naf": fields, "r2-gaussian": {**RUNS["r2-gaussian"], "gaussians": 500}})


@pytest.fixture
def scans(monkeypatch):
    """The scans that pairs are made of, as they are made."""
    made = []

    def kept(*arguments, **options):
        made.append(simulate(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(slice_pairs, "simulate", kept)
    return made


def error(stack, truth):
    return np.linalg.norm(stack.astype(float) - truth)


def everything(pair):
    return [*pair.stacks, pair.truth, pair.xrays]


@pytest.mark.parametrize("kind, least", [("naf", 1.05), ("r2-gaussian", 1.05), ("admm-tv", 0.99)])
def test_the_end_of_a_fit_is_nearer_to_the_truth_than_where_it_was_broken_off_and_admm_tv_is_near_from_early_on(ct, kind, least):
    pair = make_stack_pair([ct], ["head"], 3, kind)
    nothing, underfit, end = (error(stack, pair.truth) for stack in (0 * pair.truth, *pair.stacks))
    assert 0.6 * nothing > underfit > least * end
    assert not np.array_equal(*pair.stacks)


@pytest.mark.parametrize("kind", RUNS)
def test_a_pair_follows_from_its_seed_and_has_the_form_that_it_says(ct, kind):
    one, again, other = (make_stack_pair([ct], ["head"], seed, kind) for seed in (1, 1, 2))
    for a, b, c in zip(everything(one), everything(again), everything(other)):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c) and a.dtype == np.float16 and np.isfinite(a).all()
    assert len(one.stacks) == 2 and {stack.shape for stack in one.stacks} == {one.truth.shape} == {(EDGE,) * 3}
    assert one.xrays.shape == (2, EDGE, EDGE) and one.organ == "head"


def test_what_is_learnt_from_is_attenuation_relative_to_water_and_xrays_over_that_of_the_grid(ct):
    pair = make_stack_pair([ct], ["head"], 3, "admm-tv")
    brain = pair.truth[(pair.truth > 0.7) & (pair.truth < 1.3)].astype(float)
    assert len(brain) > 100 and np.median(brain) == pytest.approx(1, abs=0.2)
    assert pair.truth.min() >= 0 and 0.2 < pair.xrays.max() < 2
    beside = pair.truth.astype(float).mean(axis=1).max(axis=1), pair.xrays.astype(float).max(axis=2)
    for sheet in beside[1]:
        assert np.corrcoef(beside[0], sheet)[0, 1] > 0.7


def test_the_xrays_belong_to_the_scan_and_not_to_its_reconstruction(ct, scans):
    pair = make_stack_pair([ct], ["head"], 3, "admm-tv")
    (scan,) = scans
    views = [scan.projections[view] / scan.mu_water for view in orthogonal_views(scan.geometry)]
    width = [sheet.max() / pair.xrays[number].max() for number, sheet in enumerate(views)]
    assert width[0] == pytest.approx(width[1], rel=0.1) and 150 < width[0] < 450


@pytest.mark.parametrize("kind", ["naf", "r2-gaussian"])
def test_fits_are_broken_off_after_a_quarter_to_a_half_of_their_steps(ct, kind, monkeypatch):
    method, shares = methods.get(kind), []

    def looked_at(state):
        shares.append(state.step / state.steps)
        return state.volume()

    class Watched:
        Options, presets, name = method.Options, method.presets, method.name

        def run(self, scan, grid, options):
            for state in method.run(scan, grid, options):
                yield replace(state, volume=partial(looked_at, state))

    monkeypatch.setattr(methods, "get", lambda name: Watched())
    for seed in range(2):
        make_stack_pair([ct], ["head"], seed, kind)
    for underfit, end in zip(shares[::2], shares[1::2]):
        assert UNDERFIT[0] <= underfit < UNDERFIT[1] + 0.2 and end == 1


def test_scans_differ_in_views_machine_and_dose_and_half_of_them_have_views_at_uneven_angles(ct):
    geometries = [slice_pairs._geometry(2 * EDGE, 200.0, np.random.default_rng(seed)) for seed in range(60)]
    gaps = [np.diff(np.unwrap(geometry.gantry_angles_rad)) for geometry in geometries]
    even = np.array([np.ptp(gap) < 1e-6 for gap in gaps])
    assert 0.3 < even.mean() < 0.7
    assert {geometry.views for geometry in geometries} == {8, 12}
    assert len({round(float(geometry.sid_mm[0]), 3) for geometry in geometries}) == 60
    assert all(gap.min() >= 0 and gap.sum() < 2 * np.pi for gap in gaps)
    assert min(np.ptp(gap) for gap, one in zip(gaps, even) if not one) > 0.05


def test_of_five_pairs_two_are_fields_two_are_gaussians_and_one_is_admm_tv():
    assert sorted(KINDS) == ["admm-tv", "naf", "naf", "r2-gaussian", "r2-gaussian"] and set(KINDS) == set(RUNS)


def test_a_pair_has_the_organ_of_the_ct_that_it_is_of(ct):
    bright = Volume(ct.array + np.where(ct.array > -500, 500, 0).astype(np.float32), ct.grid)
    found = [make_stack_pair([ct, bright], ["head", "limb"], seed, "admm-tv") for seed in range(6)]
    assert {pair.organ for pair in found} == {"head", "limb"}
    brightness = {organ: np.mean([pair.truth.max() for pair in found if pair.organ == organ]) for organ in ("head", "limb")}
    assert brightness["limb"] > brightness["head"]


def test_cts_of_nothing_but_air_are_refused_instead_of_searched_for_ever(ct):
    air = Volume(np.full_like(ct.array, -1000), ct.grid)
    with pytest.raises(InputError, match="hardly anything but air"):
        make_stack_pair([air], ["head"], 0, "admm-tv")
    assert organ_of(air) in ANATOMIES


@pytest.fixture
def file(tmp_path):
    """The file of a pair."""
    rng = np.random.default_rng(0)
    stacks, truth, xrays = (rng.random(shape).astype(np.float16) for shape in ((2, 4, 5, 6), (4, 5, 6), (2, 4, 6)))
    slice_pairs.write(StackPair(tuple(stacks), truth, xrays, "limb"), tmp_path / "a pair.npz")
    return tmp_path / "a pair.npz"


def test_a_pair_is_the_same_after_a_round_trip(file):
    pair = slice_pairs.read(file)
    slice_pairs.write(pair, file)
    again = slice_pairs.read(file)
    for a, b in zip(everything(pair), everything(again)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype == np.float16
    assert again.organ == "limb" and len(again.stacks) == 2 and type(again.organ) is str


def damaged(file, how):
    whole = bytearray(file.read_bytes())
    if how == "of something else":
        np.savez(file, truth=np.zeros(3))
    elif how == "an array alone":
        with open(file, "wb") as out:
            np.save(out, np.zeros(3))
    elif how == "changed":
        whole[len(whole) // 2] ^= 255
        file.write_bytes(whole)
    else:
        file.write_bytes({"empty": b"", "cut off": whole[: len(whole) // 2], "text": b"no pair"}[how])
    return file


@pytest.mark.parametrize("how", ["empty", "cut off", "changed", "text", "of something else", "an array alone"])
def test_a_file_that_is_damaged_or_no_pair_is_refused(file, how):
    with pytest.raises(InputError, match="a pair.npz cannot be read as a pair .*: delete it") as caught:
        slice_pairs.read(damaged(file, how))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ANATOMIES)
def test_a_ct_is_taken_for_the_part_of_the_body_that_a_scan_of_it_is_taken_for(kind):
    ct = round_body(kind)
    assert organ_of(ct) == propose(simulate(ct, 12, detector_shape=(40, 64), pixel_mm=(6.4, 6.4))) == kind
