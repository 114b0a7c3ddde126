"""Figures against closed forms and against a slow reference written here."""

import math
import time

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.evaluation import compare, metrics
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.units import hu_to_mu


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def smooth_volume(rng, shape=(14, 15, 16)):
    z, y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    return (400 * np.sin(2 * x + y) * np.cos(z) + rng.normal(0, 40, shape)).astype(np.float32)


def slow_ssim(image_hu, truth_hu):
    """R2-Gaussian's convention, pixel by pixel: an 11x11 window of zeros and slices, no separable filter, no cleverness."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (np.clip((np.asarray(v, dtype=np.float64) + 1000) / 2000, 0, 1) for v in (image_hu, truth_hu))
    axes = []
    for k in range(3):
        values = []
        for p, q in zip(np.moveaxis(a, k, 0), np.moveaxis(b, k, 0)):
            if q.max() == 0:
                continue
            p, q = np.pad(p, 5), np.pad(q, 5)
            scores = []
            for i in range(p.shape[0] - 10):
                for j in range(p.shape[1] - 10):
                    s, t = p[i : i + 11, j : j + 11], q[i : i + 11, j : j + 11]
                    ms, mt = (window * s).sum(), (window * t).sum()
                    vs, vt, c = (window * s * s).sum() - ms**2, (window * t * t).sum() - mt**2, (window * s * t).sum() - ms * mt
                    scores.append((2 * ms * mt + 1e-4) * (2 * c + 9e-4) / ((ms**2 + mt**2 + 1e-4) * (vs + vt + 9e-4)))
            values.append(np.mean(scores))
        axes.append(np.mean(values))
    return np.mean(axes)


def test_psnr_of_a_constant_offset_is_its_closed_form():
    truth = np.zeros((4, 5, 6), np.float32)
    assert metrics.psnr(truth + 20, truth) == pytest.approx(-20 * math.log10(20 / 2000), abs=1e-4)


def test_psnr_of_a_volume_with_itself_is_infinite():
    assert metrics.psnr(np.ones((3, 3, 3)), np.ones((3, 3, 3))) == math.inf


def test_what_lies_outside_the_window_counts_for_rmse_but_not_for_psnr():
    truth = np.full((3, 4, 5), 2000.0)
    assert metrics.psnr(truth + 500, truth) == math.inf
    assert metrics.rmse(truth + 500, truth) == pytest.approx(500)


def test_only_counted_voxels_count():
    truth = np.zeros((4, 4, 4))
    image = truth.copy()
    image[0], image[1] = 900, 30
    counted = np.zeros(truth.shape, bool)
    counted[1:3] = True
    assert metrics.rmse(image, truth, counted) == pytest.approx(30 / math.sqrt(2))
    assert metrics.psnr(image, truth, counted) == pytest.approx(-20 * math.log10(30 / 2000 / math.sqrt(2)), abs=1e-4)


def test_ssim_agrees_with_a_slow_pixel_by_pixel_reference(rng):
    truth = smooth_volume(rng)
    truth[:, :3] = -1024
    image = truth + rng.normal(0, 80, truth.shape)
    assert metrics.ssim(image, truth) == pytest.approx(slow_ssim(image, truth), abs=2e-5)


def test_ssim_of_a_volume_with_itself_is_one(rng):
    truth = smooth_volume(rng)
    assert metrics.ssim(truth, truth) == pytest.approx(1, abs=1e-6)


def test_ssim_of_constants_inside_is_the_luminance_term():
    a, b, n = 0.3, 0.6, 64
    image, truth = (np.full((n, n, n), 2000 * value - 1000) for value in (a, b))
    inner = np.zeros((n, n, n), bool)
    inner[8:-8, 8:-8, 8:-8] = True
    assert metrics.ssim(image, truth, inner) == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)


def test_ssim_over_several_sets_of_voxels_is_that_over_each(rng):
    truth = smooth_volume(rng, (12, 14, 16))
    image = truth + rng.normal(0, 150, truth.shape)
    some = np.zeros(truth.shape, bool)
    some[3:9, 2:7, 4:] = True
    together = metrics.ssims(image, truth, (None, some))
    assert together == pytest.approx([metrics.ssim(image, truth), metrics.ssim(image, truth, some)], rel=1e-9)


def test_slices_of_air_do_not_raise_ssim(rng):
    truth = smooth_volume(rng, (16, 16, 16))
    image = truth + rng.normal(0, 150, truth.shape)
    air = np.full((16, 16, 16), -1024, np.float32)
    pairs = [map(metrics.unit_range, pair) for pair in _with_and_without(image, truth, air)]
    only_slices = [metrics._axis_means(*pair, [None], 0, _Here())[0] for pair in pairs]
    assert only_slices[0] == pytest.approx(only_slices[1], abs=1e-6)


def _with_and_without(image, truth, air):
    return (image, truth), (np.concatenate([image, air]), np.concatenate([truth, air]))


class _Here:
    """A pool of one that works in this thread."""

    map = staticmethod(map)


def test_a_nan_is_not_averaged_away(rng):
    truth = smooth_volume(rng)
    image = truth.copy()
    image[5, 5, 5] = np.nan
    assert math.isnan(metrics.psnr(image, truth)) and math.isnan(metrics.ssim(image, truth)) and math.isnan(metrics.rmse(image, truth))


def test_the_body_is_the_largest_region_with_its_lungs_filled():
    ct = np.full((6, 30, 30), -1000.0)
    ct[:, 5:20, 5:20] = 40
    ct[1:5, 10:14, 10:14] = -900
    ct[2, 25, 25] = 300
    expected = np.zeros(ct.shape, bool)
    expected[:, 5:20, 5:20] = True
    np.testing.assert_array_equal(metrics.body_mask(ct), expected)


def test_every_figure_names_its_convention_and_its_window():
    grid = Grid.centred((12, 12, 12), (2, 2, 2))
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    found = compare.evaluate(volume, volume, window_hu=metrics.DENTAL_WINDOW_HU)
    figures = {key for key, value in found.items() if key not in ("conventions", "compared_fraction")}
    assert figures == set(found["conventions"])
    assert "[-1000, 3000]" in found["conventions"]["ssim"]


def test_a_finer_reference_is_averaged_over_the_voxels_of_the_reconstruction(rng):
    fine = Grid.centred((16, 12, 8), (1, 1, 1), (10, -20, 30))
    coarse = Grid.centred((8, 6, 4), (2, 2, 2), (10, -20, 30))
    array = rng.normal(0, 100, fine.shape).astype(np.float32)
    values, within = compare.resample(Volume(array, fine), coarse)
    assert within.all()
    np.testing.assert_allclose(values, array.reshape(4, 2, 6, 2, 8, 2).mean((1, 3, 5)), atol=1e-3)


def test_a_pattern_finer_than_the_grid_is_not_aliased():
    fine = Grid.centred((96, 4, 4), (1, 1, 1))
    stripes = np.broadcast_to(1000.0 * (np.arange(96) % 3 == 0), fine.shape).astype(np.float32)
    values, within = compare.resample(Volume(stripes, fine), Grid.centred((30, 1, 1), (3, 3, 3)))
    assert within.all()
    np.testing.assert_allclose(values, 1000 / 3, atol=1)


@pytest.mark.parametrize("flip", [np.diag([1.0, 1, 1]), np.diag([-1.0, -1, 1]), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])])
def test_a_linear_ramp_stays_where_it_was_whatever_the_axes(flip):
    grid = Grid((20, 20, 20), (1, 1, 1), tuple(-flip @ np.full(3, 9.5)), flip)
    index = np.stack(np.meshgrid(*(np.arange(20),) * 3, indexing="ij")[::-1], axis=-1)
    world = index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]
    ramp = Volume((world @ [3.0, -2, 5]).astype(np.float32), grid)
    target = Grid.centred((5, 6, 7), (1.3, 0.8, 1.9), (1, 2, -1))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij")[::-1], axis=-1)
    expected = (index @ target.index_to_world[:3, :3].T + target.index_to_world[:3, 3]) @ [3.0, -2, 5]
    values, within = compare.resample(ramp, target)
    assert within.all()
    np.testing.assert_allclose(values, expected, atol=1e-2)


def test_voxels_outside_the_reference_do_not_count():
    small = Grid.centred((10, 10, 10), (2, 2, 2))
    large = Grid.centred((20, 20, 20), (2, 2, 2))
    recon = np.full(large.shape, 900.0)
    recon[5:15, 5:15, 5:15] = 10
    found = compare.evaluate(Volume(recon, large), Volume(np.zeros(small.shape), small))
    assert found["rmse_hu"] == pytest.approx(10)
    assert found["compared_fraction"] == pytest.approx(1 / 8)


def test_volumes_that_do_not_overlap_are_refused():
    far = Volume(np.zeros((4, 4, 4)), Grid.centred((4, 4, 4), (1, 1, 1), (1000, 0, 0)))
    with pytest.raises(InputError, match="do not overlap"):
        compare.evaluate(far, Volume(np.zeros((4, 4, 4)), Grid.centred((4, 4, 4), (1, 1, 1))))


def test_a_reconstruction_in_attenuation_is_compared_in_hu(rng):
    grid = Grid.centred((12, 12, 12), (2, 2, 2))
    hu = smooth_volume(rng, grid.shape)
    mu = Volume(hu_to_mu(hu, 0.0187), grid, {"SparseCTRecon.mu_water_per_mm": "0.0187"}, "1/mm")
    assert compare.evaluate(mu, Volume(hu, grid))["rmse_hu"] == pytest.approx(0, abs=1e-2)


@pytest.mark.slow
def test_all_figures_of_a_128_cube_take_seconds(rng):
    grid = Grid.centred((128,) * 3, (2, 2, 2))
    truth = Volume(rng.normal(0, 300, grid.shape).astype(np.float32), grid)
    start = time.process_time()
    compare.evaluate(truth, truth)
    assert time.process_time() - start < 12
