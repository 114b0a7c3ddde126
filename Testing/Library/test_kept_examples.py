"""Examples that are kept on disk: what is read is what was made, and from every side it is a scan of what it says."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from small_dice import orbit

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector
from SparseCTReconLib.scan import Scan
from SparseCTReconLib.training import kept_examples
from SparseCTReconLib.training.data import Example
from SparseCTReconLib.training.dice_examples import HybridExample
from SparseCTReconLib.training.kept_examples import KeptExamples, from_another_side, read, with_first, write

GRID = Grid.centred((16, 16, 12), (3.0, 3.0, 3.0), (1.0, 2.0, -3.0))


def example(**changes):
    """A scan of an asymmetrical body, as the projector has it."""
    truth = np.zeros(GRID.shape)
    truth[2:9, 3:11, 4:7] = 1.0
    truth[5:7, 4:6, 5:12] = 2.0
    geometry = orbit(views=6, detector_shape=(24, 32), isocentre_mm=(1.0, 2.0, -3.0), offset_mm=(3.0, -4.0), arc_rad=2.0)
    A = projector(geometry, GRID)
    scan = Scan(A(A.volume(truth.astype(np.float32) * 0.02)).numpy(), geometry, photons=1e5)
    return HybridExample(scan, GRID, truth.astype(np.float16), few=4, **changes)


def test_what_is_read_is_what_was_written(tmp_path):
    made = example(first=np.full(GRID.shape, 0.5, np.float16))
    write(made, tmp_path / "one.npz")
    found = read(tmp_path / "one.npz")
    assert type(found) is HybridExample and found.few == 4 and found.grid == GRID and found.scan.photons == 1e5
    np.testing.assert_array_equal(found.truth, made.truth)
    np.testing.assert_array_equal(found.first, made.first)
    np.testing.assert_allclose(found.scan.projections, made.scan.projections, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.scan.geometry.source, made.scan.geometry.source)
    write(Example(made.scan, GRID, made.truth), tmp_path / "plain.npz")
    plain = read(tmp_path / "plain.npz")
    assert type(plain) is Example and plain.first is None


def test_two_that_make_the_same_example_at_the_same_time_do_not_disturb_each_other(tmp_path, monkeypatch):
    together = Barrier(2, timeout=20)

    def written(*what):
        together.wait()
        write(*what)
        together.wait()

    monkeypatch.setattr(kept_examples, "write", written)
    kept = KeptExamples([example()], tmp_path, 1, firsts=False)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(kept.kept, [0, 0]))
    assert all(np.array_equal(each.truth, example().truth) for each in found)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.npz"]


@pytest.mark.parametrize("seed", range(12))
def test_from_every_side_the_projections_are_those_of_the_truth(seed):
    made = example()
    made = HybridExample(made.scan, GRID, made.truth, made.truth, few=4)
    seen = from_another_side(made, np.random.default_rng(seed))
    A = projector(seen.scan.geometry, seen.grid)
    again = A(A.volume(seen.truth.astype(np.float32) * 0.02)).numpy()
    assert np.abs(again - made.scan.projections).max() < 0.02 * made.scan.projections.max()
    np.testing.assert_array_equal(seen.first, seen.truth)
    assert seen.few == 4 and seen.grid == GRID


def test_there_are_sixteen_sides_and_another_at_every_turn():
    made = example()
    sides = {from_another_side(made, np.random.default_rng(seed)).truth.tobytes() for seed in range(200)}
    assert len(sides) == 16


class Counted:
    def __init__(self):
        self.asked = []

    def __getitem__(self, number):
        self.asked.append(number)
        return example()


def test_each_is_made_once_and_comes_once_a_turn(tmp_path):
    source = Counted()
    kept = KeptExamples(source, tmp_path, 3, firsts=False)
    for index in range(9):
        kept[index]
    assert sorted(source.asked) == [0, 1, 2]
    again = KeptExamples(source, tmp_path, 3, firsts=False)
    np.testing.assert_array_equal(again[4].truth, kept[4].truth)
    assert len(source.asked) == 3


def test_the_first_volume_is_of_the_few_views_and_near_the_truth():
    made = with_first(example())
    truth = made.truth.astype(np.float32)
    assert made.first.dtype == np.float16 and made.first.shape == GRID.shape
    assert np.square(made.first - truth).mean() < 0.3 * np.square(truth).mean()
    other = example()
    spoiled = other.scan.projections.copy()
    spoiled[4:] = 7.0
    again = with_first(HybridExample(Scan(spoiled, other.scan.geometry, photons=1e5), GRID, other.truth, few=4))
    np.testing.assert_array_equal(again.first, made.first)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"])
def test_a_damaged_example_is_said(tmp_path, content):
    (tmp_path / "000000.npz").write_bytes(content)
    with pytest.raises(InputError, match="delete it, and it is made anew"):
        KeptExamples(None, tmp_path, 1)[0]


def test_none_to_keep_is_refused(tmp_path):
    with pytest.raises(InputError, match="give at least one"):
        KeptExamples(None, tmp_path, 0)
