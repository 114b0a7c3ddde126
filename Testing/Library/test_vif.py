"""Visual information fidelity against an implementation that is written from the paper, window by window."""

import math

import numpy as np
import pytest
from scipy.signal import convolve2d

from SparseCTReconLib.evaluation import metrics


def slow_vif(image, reference):
    """VIFp of one slice of grey values 0 to 255, with two-dimensional windows."""
    taken = offered = 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        axis = np.arange(n) - n // 2
        window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * (n / 5) ** 2))
        window /= window.sum()
        if scale > 1:
            image, reference = (convolve2d(each, window, mode="valid")[::2, ::2] for each in (image, reference))
        patches = [np.lib.stride_tricks.sliding_window_view(each, (n, n)) for each in (image, reference)]
        for d, c in zip(*(each.reshape(-1, n, n) for each in patches)):
            mc, md = (window * c).sum(), (window * d).sum()
            vc, vd = (window * (c - mc) ** 2).sum(), (window * (d - md) ** 2).sum()
            cov = (window * (c - mc) * (d - md)).sum()
            if vc > 1e-10:
                offered += math.log10(1 + vc / 2)
                g = cov / vc
                if g > 0 and vd > 1e-10:
                    taken += math.log10(1 + g * g * vc / (max(vd - g * cov, 0) + 2))
    return taken / offered


@pytest.fixture
def truth():
    rng = np.random.default_rng(3)
    z, y, x = np.meshgrid(np.arange(3), np.arange(52), np.arange(60), indexing="ij")
    return (300 * np.sin(0.31 * x + z) * np.cos(0.2 * y) + rng.normal(0, 60, z.shape)).astype(np.float32)


def test_vif_agrees_with_the_paper_window_by_window(truth):
    image = 0.8 * truth + np.random.default_rng(4).normal(0, 90, truth.shape)
    grey = [255 * metrics.unit_range(each).astype(np.float64) for each in (image, truth)]
    expected = np.mean([slow_vif(*pair) for pair in zip(*grey)])
    assert 0.05 < expected < 0.95
    assert metrics.vif(image, truth) == pytest.approx(expected, abs=1e-6)


def test_vif_of_a_volume_with_itself_is_one(truth):
    assert metrics.vif(truth, truth) == pytest.approx(1, abs=1e-6)


def test_more_contrast_than_the_reference_gives_more_than_one(truth):
    assert metrics.vif(1.5 * truth, truth) > 1.01


def test_noise_and_blur_both_cost_fidelity(truth):
    noisy = [metrics.vif(truth + np.random.default_rng(0).normal(0, sd, truth.shape), truth) for sd in (0, 50, 200)]
    assert noisy[0] > noisy[1] > noisy[2]
    blurred = (truth + np.roll(truth, 1, 2) + np.roll(truth, 1, 1)) / 3
    assert metrics.vif(blurred, truth) < 0.8


def test_slices_of_air_do_not_count(truth):
    image = truth + np.random.default_rng(1).normal(0, 80, truth.shape)
    air = np.full_like(truth, -1000)
    assert metrics.vif(np.concatenate([image, air]), np.concatenate([truth, air])) == pytest.approx(metrics.vif(image, truth))


def test_slices_too_small_for_four_scales_have_no_vif():
    assert math.isnan(metrics.vif(np.zeros((4, 30, 30)), np.eye(30)[None].repeat(4, 0)))


def test_a_nan_is_not_averaged_away(truth):
    image = truth.copy()
    image[1, 20, 20] = np.nan
    assert math.isnan(metrics.vif(image, truth))
