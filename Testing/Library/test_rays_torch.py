"""Samples along rays in torch are those of the compiled kernel."""

import numpy as np
import pytest
import torch
from small_scanners import OBLIQUE, circular, cubic

from SparseCTReconLib.fields.rays import RaySampler, UnitCube, _sample
from SparseCTReconLib.fields.rays_torch import TorchRaySampler, ray_sampler, sample_rays
from SparseCTReconLib.grid import Grid

SCANS = {
    "cube": (circular(), cubic()),
    "oblique": (circular(), OBLIQUE),
    "beside the isocentre": (circular(), cubic(centre_mm=(16, -9, 7))),
    "source within": (circular(sid_mm=14.0, sdd_mm=60.0), Grid.centred((21, 23, 9), (2.0, 2.0, 2.0))),
    "on the axes": (circular(views=4, start_rad=0.0, detector_shape=(17, 17)), cubic()),
    "detector within": (circular(sid_mm=100.0, sdd_mm=105.0, pixel_mm=(1.0, 1.0)), cubic()),
    "on the axes, beside": (circular(views=4, start_rad=0.0, detector_shape=(17, 17)), cubic(centre_mm=(0, 0, 13))),
    "mostly air": (circular(detector_shape=(18, 60)), cubic()),
}


def all_pixels(geometry):
    shape = (geometry.views, *geometry.detector_shape)
    return np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1).astype(np.int32)


@pytest.mark.parametrize("name", SCANS)
def test_points_and_steps_are_those_of_the_compiled_kernel(name):
    geometry, grid = SCANS[name]
    compiled = RaySampler(geometry, UnitCube(grid), 2.0)
    pixels = all_pixels(geometry)
    jitter = np.random.default_rng(0).random((len(pixels), compiled.samples), dtype=np.float32)
    points, steps = np.empty((3, jitter.size), np.float32), np.empty(len(pixels), np.float32)
    _sample(0, len(pixels), pixels, jitter, compiled.poses, compiled.cube.upper, points, steps)
    arrays = (pixels, jitter, compiled.poses, compiled.cube.upper)
    ours, lengths = sample_rays(*(torch.from_numpy(array) for array in arrays))
    assert ours.dtype == lengths.dtype == torch.float32
    np.testing.assert_allclose(lengths, steps, atol=2e-6)
    hit = np.repeat(steps > 1e-4, compiled.samples)
    assert hit.mean() > 0.1
    np.testing.assert_allclose(ours.numpy()[:, hit], points[:, hit], atol=2e-5)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def test_the_sampler_of_a_device_is_the_compiled_one_in_all_but_its_random_places(device):
    geometry, grid = SCANS["cube"]
    compiled, ours = RaySampler(geometry, UnitCube(grid), 1.0), TorchRaySampler(geometry, UnitCube(grid), 1.0, device)
    pixels = compiled.draw(6, np.random.default_rng(0))
    np.testing.assert_array_equal(ours.draw(6, np.random.default_rng(0)), pixels)
    assert ours.samples == compiled.samples
    points, steps = ours(pixels, np.random.default_rng(1))
    _, expected = compiled(pixels, np.random.default_rng(1))
    assert points.device.type == steps.device.type == device
    assert points.shape == (3, len(pixels) * ours.samples) and points.is_contiguous()
    np.testing.assert_allclose(steps.cpu(), expected, atol=1e-4)


def test_a_seed_decides_the_places_and_they_fill_their_parts_of_a_ray_evenly(device):
    geometry, grid = SCANS["cube"]
    sampler = TorchRaySampler(geometry, UnitCube(grid), 1.0, device)
    pixels = sampler.draw(20, np.random.default_rng(0))
    points, steps = sampler(pixels, np.random.default_rng(1))
    assert torch.equal(points, sampler(pixels, np.random.default_rng(1))[0])
    assert not torch.equal(points, sampler(pixels, np.random.default_rng(2))[0])
    hit = (steps > 0.1).cpu()
    along = (points - points[:, :1]).cpu().reshape(3, len(pixels), -1)[:, hit]
    distance = (along - along[:, :, :1]).square().sum(dim=0).sqrt() * sampler.cube.edge_mm / steps.cpu()[hit, None]
    offsets = distance - torch.arange(sampler.samples)
    assert offsets.abs().max() < 1.01 and offsets[:, 1:].std() == pytest.approx((1 / 6) ** 0.5, rel=0.1)


def test_the_cpu_has_the_compiled_sampler():
    geometry, grid = SCANS["cube"]
    assert type(ray_sampler(geometry, UnitCube(grid), 2.0, "cpu")) is RaySampler
