"""Bodies that are deformed, and scans whose detector is too small for them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector
from SparseCTReconLib.training.augmentation import MOST, POINTS, deformed, inner
from SparseCTReconLib.training.data import Drawn, Examples
from SparseCTReconLib.training.dice_examples import HybridExamples, Stage
from SparseCTReconLib.training.prepared import TOP, PreparedCT, Recipe
from SparseCTReconLib.units import MU_WATER

RECIPE = Recipe(16, 10.0, (-1000.0, 3000.0))
DRAWN = Drawn(voxels=(16,), views=(3, 4), of=9, photons=(1e9, 1e9))


@pytest.fixture(scope="module")
def cts(tmp_path_factory):
    """A prepared CT that is all soft tissue, so that whatever is cut off is missed."""
    path = tmp_path_factory.mktemp("cache") / "0.npy"
    np.save(path, np.full((16, 16, 16), round(1040 / 4000 * TOP), np.uint16))
    return [PreparedCT(path, "block", RECIPE)]


def spots(n=48):
    """A grid of small Gaussian spots in air, and where they are."""
    values, places = np.full((n, n, n), -1024.0, np.float32), []
    ticks = np.arange(n)
    for z in (12, 24, 36):
        for y in (12, 24, 36):
            for x in (12, 24, 36):
                squares = (ticks[:, None, None] - z) ** 2 + (ticks[:, None] - y) ** 2 + (ticks - x) ** 2
                values += 1000 * np.exp(-squares / 4.5)
                places.append((z, y, x))
    return values, places


def moved(values, place):
    """How far the spot near a place has moved, in voxels."""
    at = tuple(slice(c - 5, c + 6) for c in place)
    return np.array(center_of_mass(np.clip(values[at] + 1024, 5, None) - 5)) - 5


def test_a_deformation_moves_things_smoothly_and_not_far():
    values, places = spots()
    far = []
    for seed in range(6):
        found = np.array([moved(deformed(values, np.random.default_rng(seed)), place) for place in places])
        far.append(np.abs(found).max())
        assert np.abs(found).max() < MOST * 48 + 0.3
        neighbours = found.reshape(3, 3, 3, 3)
        assert np.abs(np.diff(neighbours, axis=0)).max() < 2 * MOST * 48
    assert np.mean(far) > 0.4


def test_nothing_folds():
    """Between neighbouring points of the field displacements differ by less than the points are apart, whatever is drawn."""
    assert 2 * MOST < 1 / (POINTS - 1)


def test_a_uniform_body_stays_uniform_and_beyond_it_lies_air():
    values = np.full((20, 20, 20), 40.0, np.float32)
    changed = deformed(values, np.random.default_rng(0))
    assert np.allclose(changed[5:-5, 5:-5, 5:-5], 40, atol=1e-3) and changed.min() >= -1024 - 1e-3 and changed.max() <= 40 + 1e-3
    values[:, :, :10] = -1024
    assert not np.allclose(deformed(values, np.random.default_rng(0)), values, atol=50)


def test_deformation_and_truncation_follow_from_the_seed_and_change_nothing_where_there_is_none(cts):
    changed = replace(DRAWN, deformed=1.0, truncated=1.0)
    one, again, plain = Examples(cts, changed)[3], Examples(cts, changed)[3], Examples(cts, DRAWN)[3]
    assert np.array_equal(one.truth, again.truth) and np.array_equal(one.scan.projections, again.scan.projections)
    none = Examples(cts, replace(DRAWN, deformed=0.0, truncated=0.0))[3]
    assert np.array_equal(plain.truth, none.truth) and plain.grid == none.grid


def test_about_as_many_are_changed_as_is_asked_for(cts):
    sizes = [Examples(cts, replace(DRAWN, truncated=0.5))[number].grid.size[0] for number in range(24)]
    assert 5 < sum(size < 16 for size in sizes) < 19 and all(size % 2 == 0 for size in sizes)


def more_than_its_truth(example):
    """Line integrals through the middle of a scan over those of its truth."""
    of_truth = projector(example.scan.geometry, example.grid)
    made = of_truth(of_truth.volume(example.truth.astype(np.float32) * MU_WATER)).numpy()
    middle = (slice(None), *(slice(n // 4, 3 * n // 4) for n in made.shape[1:]))
    return example.scan.projections[middle].mean() / made[middle].mean()


def test_the_truth_of_a_truncated_scan_is_what_its_detector_sees_and_the_body_goes_on_beyond(cts, caplog):
    found = []
    for number in range(4):
        one, whole = (Examples(cts, replace(DRAWN, truncated=share))[number] for share in (1.0, 0.0))
        radius, _ = one.scan.geometry.field_of_view()
        assert one.grid.extent_mm[0] / 2 == pytest.approx(radius, rel=0.12) and one.truth.shape == one.grid.shape
        assert one.grid.spacing_mm == whole.grid.spacing_mm and one.grid.size[0] < whole.grid.size[0]
        found.append((more_than_its_truth(one), more_than_its_truth(whole)))
    truncated, not_truncated = np.mean(found, axis=0)
    assert truncated > 1.04 and not_truncated == pytest.approx(1, abs=0.02) and not caplog.records


def test_a_small_body_has_the_same_voxels_smaller_and_lets_more_photons_through(cts):
    for number in range(3):
        one, whole = (Examples(cts, replace(DRAWN, small=share))[number] for share in (1.0, 0.0))
        share = one.grid.spacing_mm[0] / whole.grid.spacing_mm[0]
        assert 0.4 <= share <= 0.85 and np.array_equal(one.truth, whole.truth)
        assert one.scan.projections.mean() == pytest.approx(share * whole.scan.projections.mean(), rel=0.1)


def test_the_stages_of_deepsparse_have_them_too(cts):
    drawn = replace(DRAWN, truncated=1.0, deformed=1.0)
    one = HybridExamples(cts, drawn, Stage("adapt", (3, 3), 6))[0]
    assert one.few == 3 and one.scan.views == 6 and one.grid.size[0] < 16


def test_the_middle_of_an_edge():
    assert inner(16, 1.0) == slice(0, 16) and inner(16, 0.75) == slice(2, 14) and inner(10, 0.6) == slice(2, 8)
    assert Grid.centred((6, 6, 6), (1, 1, 1)).size[0] == inner(10, 0.6).stop - inner(10, 0.6).start


@pytest.mark.parametrize("wrong", [{"half": 1.1}, {"deformed": -0.1}, {"truncated": 2.0}, {"small": 2.0}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match="a share .* give 0 to 1"):
        Drawn(**wrong)
