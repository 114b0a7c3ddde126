"""Structural similarity of pictures and volumes, as results are judged by it."""

import numpy as np
import pytest
import torch

from SparseCTReconLib.evaluation.metrics import ssim as judged
from SparseCTReconLib.operators.ssim import ssim, ssim_3d


def pair(shape, noise=0.2, seed=0):
    """A volume and what noise makes of it, both 0 to 1."""
    rng = np.random.default_rng(seed)
    one = rng.random(shape).astype(np.float32)
    other = np.clip(one + noise * rng.standard_normal(shape), 0, 1).astype(np.float32)
    return torch.from_numpy(one), torch.from_numpy(other)


def in_hu(values):
    return 2000 * values.numpy() - 1000


@pytest.mark.parametrize("shape", [(20, 20, 20), (12, 25, 31), (30, 4, 7), (1, 16, 20)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_of_volumes_it_is_the_one_that_results_are_judged_by(shape, noise):
    one, other = pair(shape, noise)
    assert float(ssim_3d(one, other)) == pytest.approx(judged(in_hu(one), in_hu(other)), abs=1e-4)


def test_of_smooth_volumes_it_is_the_one_that_results_are_judged_by():
    ticks = (np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in (16, 20, 24))
    z, y, x = (torch.from_numpy(axis.astype(np.float32)) for axis in np.meshgrid(*ticks, indexing="ij"))
    one, other = 0.4 + 0.5 * x * y * z, 0.5 + 0.3 * x * y * z
    assert float(ssim_3d(one, other)) == pytest.approx(judged(in_hu(one), in_hu(other)), abs=1e-4)


def test_of_pictures_it_is_the_mean_over_the_pictures():
    one, other = pair((5, 18, 23))
    each = [ssim(one[n : n + 1], other[n : n + 1]) for n in range(5)]
    torch.testing.assert_close(ssim(one, other), torch.stack(each).mean())
    along = [ssim(one.movedim(axis, 0), other.movedim(axis, 0)) for axis in range(3)]
    torch.testing.assert_close(ssim_3d(one, other), torch.stack(along).mean())
    assert np.ptp(torch.stack(along).numpy()) > 1e-4


@pytest.mark.parametrize("measure", [ssim, ssim_3d])
def test_a_volume_is_like_itself_and_as_like_another_as_that_is_like_it(measure):
    one, other = pair((12, 15, 13))
    assert float(measure(one, one)) == pytest.approx(1, abs=1e-5)
    assert float(measure(one, other)) == pytest.approx(float(measure(other, one)), abs=1e-6)
    assert 0 < float(measure(one, pair((12, 15, 13), 0.5)[1])) < float(measure(one, other)) < 0.98


@pytest.mark.parametrize("measure", [ssim, ssim_3d])
def test_its_gradient_is_its_slope(measure):
    one, other = (values.double() for values in pair((6, 13, 9)))
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(one.shape))
    leaf = one.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(measure(leaf, other), leaf)
    step = 1e-6
    slope = (measure(one + step * direction, other) - measure(one - step * direction, other)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)
