"""Examples for feed-forward networks: what is drawn, that truth and scan belong together, and that workers change nothing."""

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.operators import projector
from SparseCTReconLib.training import data
from SparseCTReconLib.training.data import Drawn, Examples, picked, stream
from SparseCTReconLib.training.prepared import TOP, PreparedCT, Recipe

RECIPE = Recipe(16, 10.0, (-1000.0, 3000.0))
DRAWN = Drawn(voxels=(8,), views=(3, 4), of=9, photons=(1e6, 1e6))


@pytest.fixture(scope="module")
def cts(tmp_path_factory):
    """Two prepared CTs: balls of soft tissue with a core of bone."""
    folder, made = tmp_path_factory.mktemp("cache"), []
    radius = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    for number, size in enumerate((7.0, 5.0)):
        hu = np.where(radius < size, 40.0, -1000.0) + np.where(radius < 2, 900, 0)
        np.save(folder / f"{number}.npy", np.rint((hu + 1000) / 4000 * TOP).astype(np.uint16))
        made.append(PreparedCT(folder / f"{number}.npy", f"ball {number}", RECIPE))
    return made


@pytest.mark.parametrize("count", [3, 6, 8, 10, 50])
def test_views_are_picked_as_evenly_as_may_be(count):
    rng = np.random.default_rng(0)
    half = picked(count, 50, True, rng)
    assert len(set(half)) == count and half[0] == 0 and half[-1] == 49 and np.ptp(np.diff(half)) <= 1
    firsts = set()
    for _ in range(20):
        whole = picked(count, 50, False, rng)
        gaps = np.diff(np.append(whole, whole[0] + 50))
        assert len(set(whole)) == count and np.ptp(gaps) <= 1 and whole.min() >= 0 and whole.max() < 50
        firsts.add(int(whole[0]))
    assert count == 50 or len(firsts) > 1


def test_machines_arcs_views_and_detectors_places_are_drawn():
    drawn, rng = Drawn(views=(6, 10)), np.random.default_rng(0)
    made = [drawn.geometry(16, 200.0, rng) for _ in range(60)]
    assert {geometry.views for geometry in made} == {6, 7, 8, 9, 10}
    spans = [np.ptp(np.unwrap(np.sort(geometry.gantry_angles_rad))) for geometry in made]
    half = [np.isclose(span, np.pi, atol=1e-6) or span < np.pi + 1e-6 for span in spans]
    assert 0.2 < np.mean([geometry.is_full_circle() for geometry in made]) < 0.8 and any(half)
    assert np.std([geometry.sid_mm[0] for geometry in made]) > 50
    points = np.concatenate([geometry.principal_point_mm / geometry.pixel_mm[0] for geometry in made])
    assert 0.1 < np.abs(points).max() <= 0.02 * 16 + 1e-6
    for geometry in made:
        assert geometry.field_of_view()[0] > 0.97 * 100.0


def test_an_example_is_a_scan_of_its_truth(cts):
    one = Examples(cts, DRAWN)[0]
    assert one.truth.shape == one.grid.shape == (8, 8, 8) and one.truth.dtype == np.float16
    assert 3 <= one.scan.views <= 4 and one.scan.geometry.detector_shape == (16, 16) and one.scan.photons == pytest.approx(1e6)
    made = projector(one.scan.geometry, one.grid)(projector(one.scan.geometry, one.grid).volume(one.truth * np.float32(0.02))).numpy()
    assert made.max() > 0.3
    assert np.abs(made - one.scan.projections).mean() < 0.1 * made.max()
    assert np.corrcoef(made.ravel(), one.scan.projections.ravel())[0, 1] > 0.97


def same(one, other):
    return np.array_equal(one.truth, other.truth) and one.scan.content_hash() == other.scan.content_hash()


def test_an_example_follows_from_seed_and_number_alone(cts):
    one, again, other = (Examples(cts, DRAWN, seed) for seed in (3, 3, 4))
    first = one[5]
    again[4]
    assert same(first, again[5]) and not same(first, one[6]) and not same(first, other[5])


def test_every_ct_comes_once_before_any_comes_again(cts):
    many = Examples([*cts, *cts, cts[0]], DRAWN)
    many.cts = list("abcde")
    turns = ["".join(many.ct(turn * 5 + place) for place in range(5)) for turn in range(6)]
    assert all(sorted(turn) == list("abcde") for turn in turns) and len(set(turns)) > 1


def test_workers_make_the_same_examples_in_the_same_order(cts):
    examples = Examples(cts, DRAWN, 1)
    here, there = list(stream(examples, [2, 3, 4])), list(stream(examples, [2, 3, 4], workers=2))
    assert len(here) == len(there) == 3 and all(map(same, here, there))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_ct_that_has_gone_is_said_in_a_sentence_by_whoever_misses_it(cts, workers):
    gone = PreparedCT(cts[0].path.with_name("gone.npy"), "knee.nrrd", RECIPE)
    with pytest.raises(InputError, match="what was kept of knee.nrrd cannot be read .*: make the CTs alike again") as caught:
        list(stream(Examples([gone], DRAWN), [0], workers))
    assert caught.value.code == "unreadable" and "Traceback" not in str(caught.value)


def test_nothing_is_made_before_it_is_asked_for():
    asked = []

    class Counting:
        def __getitem__(self, number):
            asked.append(number)
            return number

    some = stream(Counting(), range(7, 12))
    assert asked == [] and next(some) == 7 and asked == [7] and list(some) == [8, 9, 10, 11]


def test_air_is_not_learnt_from(cts, monkeypatch):
    """A piece of nothing but air is drawn anew."""
    real, pieces = data.body, []

    def watched(*arguments):
        found = real(*arguments)
        pieces.append((found[1] > -500).mean())
        return found

    monkeypatch.setattr(data, "body", watched)
    for number in range(4):
        Examples(cts, DRAWN)[number]
    assert min(pieces) > 0.03


WRONG = [{"voxels": ()}, {"voxels": (4,)}, {"views": (0, 3)}, {"views": (7, 6)}, {"views": (6, 60)}, {"photons": (0, 1)}, {"half": 1.5}]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(InputError, match="give"):
        Drawn(**wrong)


def test_no_cts_are_refused():
    with pytest.raises(InputError, match="at least one"):
        Examples([], DRAWN)
