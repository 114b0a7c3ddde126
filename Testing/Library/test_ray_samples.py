"""Where a field learns: samples along rays, and blocks of voxels whose total variation stands for that of all."""

import numpy as np
import pytest
import torch
from small_scanners import OBLIQUE, TURNED, circular, cubic

from SparseCTReconLib.fields.rays import RaySampler, UnitCube
from SparseCTReconLib.fields.smoothness import EDGE, ROUNDING, SmoothnessBlock
from SparseCTReconLib.grid import Grid

BOXES = {
    "cube": (circular(), cubic()),
    "oblique": (circular(), OBLIQUE),
    "oblique, anisotropic": (circular(), TURNED),
    "beside the isocentre": (circular(), cubic(centre_mm=(16, -9, 7))),
    "source within": (circular(sid_mm=14.0, sdd_mm=60.0), Grid.centred((21, 23, 9), (2.0, 2.0, 2.0))),
    "detector within": (circular(sid_mm=100.0, sdd_mm=105.0, pixel_mm=(1.0, 1.0)), cubic()),
    "on the axes": (circular(views=4, start_rad=0.0, detector_shape=(17, 17)), cubic()),
}


def all_pixels(geometry):
    shape = (geometry.views, *geometry.detector_shape)
    return np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1).astype(np.int32)


def ends(geometry, pixels):
    """LPS positions of source and pixel of each ray, (rays, 3) each."""
    view, row, column = pixels.T
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    along_u = ((column - (nu - 1) / 2) * du)[:, None] * geometry.u[view]
    along_v = ((row - (nv - 1) / 2) * dv)[:, None] * geometry.v[view]
    return geometry.source[view], geometry.detector[view] + along_u + along_v


def length_in_box(source, pixel, grid):
    """Length in mm of the segments within the box of the grid (slabs, closed form)."""
    inverse = np.linalg.inv(grid.index_to_world)
    a, b = (point @ inverse[:3, :3].T + inverse[:3, 3] + 0.5 for point in (source, pixel))
    d = np.where(np.abs(b - a) < 1e-12, 1e-12, b - a)
    t = np.stack([-a / d, (np.array(grid.size) - a) / d])
    near, far = np.maximum(t.min(axis=0).max(axis=1), 0), np.minimum(t.max(axis=0).min(axis=1), 1)
    return np.maximum(far - near, 0) * np.linalg.norm(pixel - source, axis=1)


@pytest.mark.parametrize("name", BOXES)
def test_samples_lie_on_their_ray_in_the_box_and_share_out_its_length_there(name):
    geometry, grid = BOXES[name]
    cube = UnitCube(grid)
    sampler = RaySampler(geometry, cube, 2.0)
    pixels = all_pixels(geometry)
    points, steps = (found.numpy() for found in sampler(pixels, np.random.default_rng(7)))
    source, pixel = ends(geometry, pixels)
    expected = length_in_box(source, pixel, grid)
    np.testing.assert_allclose(steps * sampler.samples, expected, atol=2e-4 * cube.edge_mm)
    hit = expected > 0.05
    assert hit.mean() > 0.01
    matrix, shift = cube.from_world()
    world = np.linalg.inv(matrix) @ (points.astype(float) - shift[:, None])
    world = world.T.reshape(len(pixels), sampler.samples, 3)[hit]
    ray = (pixel - source)[hit] / np.linalg.norm(pixel - source, axis=1)[hit, None]
    along = np.einsum("rsi,ri->rs", world - source[hit][:, None], ray)
    assert np.abs(world - source[hit][:, None] - along[..., None] * ray[:, None]).max() < 1e-3
    assert (np.diff(along, axis=1) >= -1e-3).all() and along.min() > -1e-3
    inside = points.reshape(3, len(pixels), -1)[:, hit]
    assert (inside > -1e-5).all() and (inside < cube.upper[:, None, None] + 1e-5).all()


def test_there_is_one_sample_in_each_of_equal_parts_of_a_ray():
    geometry, grid = BOXES["cube"]
    sampler = RaySampler(geometry, UnitCube(grid), 1.0)
    pixels = sampler.draw(4, np.random.default_rng(0))
    points, steps = (found.numpy() for found in sampler(pixels, np.random.default_rng(8)))
    source, pixel = ends(geometry, pixels)
    hit = steps > 0.1
    matrix, shift = sampler.cube.from_world()
    world = (np.linalg.inv(matrix) @ (points.astype(float) - shift[:, None])).T.reshape(len(pixels), -1, 3)
    along = np.linalg.norm(world - source[:, None], axis=2)[hit]
    part = (along - along[:, :1]) / steps[hit, None]
    assert (np.abs(part - np.arange(sampler.samples)) < 1 + 1e-3).all()


def test_rays_that_miss_the_box_have_no_length():
    geometry = circular(detector_shape=(18, 60))
    sampler = RaySampler(geometry, UnitCube(cubic()), 2.0)
    pixels = all_pixels(geometry)
    _, steps = sampler(pixels, np.random.default_rng(9))
    missing = length_in_box(*ends(geometry, pixels), cubic()) == 0
    assert missing.mean() > 0.3 and not steps[missing].any()


def test_samples_are_about_as_far_apart_as_asked_also_in_a_box_that_few_rays_meet():
    geometry = circular(views=12, detector_shape=(64, 64), pixel_mm=(3.0, 3.0))
    for size in (20, 6):
        grid = Grid.centred((size,) * 3, (1.0,) * 3)
        sampler = RaySampler(geometry, UnitCube(grid), 0.5)
        longest = length_in_box(*ends(geometry, all_pixels(geometry)), grid).max()
        assert 0.7 * longest < sampler.samples * 0.5 < 1.3 * longest


def test_whole_detector_rows_are_drawn_and_every_row_of_every_view_comes():
    geometry = circular(views=3, detector_shape=(4, 7))
    sampler = RaySampler(geometry, UnitCube(cubic()), 2.0)
    pixels = sampler.draw(200, np.random.default_rng(10))
    assert pixels.shape == (1400, 3) and pixels.dtype == np.int32
    rows = pixels.reshape(200, 7, 3)
    assert (rows[:, :, 2] == np.arange(7)).all() and (rows[:, :, :2] == rows[:, :1, :2]).all()
    assert len({tuple(row) for row in rows[:, 0, :2]}) == 12


def smoothed_total_variation(mu):
    differences = [np.diff(mu, axis=axis, append=np.take(mu, [-1], axis)) for axis in range(3)]
    return np.sqrt(sum(d * d for d in differences) + ROUNDING**2).sum()


def test_smoothness_is_the_gradient_of_total_variation():
    block = SmoothnessBlock(UnitCube(Grid.centred((4, 6, 5), (1, 1, 1))))
    mu = 0.02 * np.random.default_rng(11).random((5, 6, 4))
    gradient = block.gradient(torch.from_numpy(mu).float().reshape(-1)).numpy().reshape(mu.shape)
    for index in [(0, 0, 0), (4, 5, 3), (2, 3, 1), (0, 5, 2)]:
        shifted = [mu.copy(), mu.copy()]
        shifted[0][index] += 1e-6
        shifted[1][index] -= 1e-6
        slope = (smoothed_total_variation(shifted[0]) - smoothed_total_variation(shifted[1])) / 2e-6
        assert gradient[index] == pytest.approx(slope, abs=1e-3)


def test_a_block_stands_for_the_whole_volume():
    """Its slope along a direction is, on average, that of the whole volume's total variation."""
    grid = Grid.centred((72, 64, 48), (1.0, 2.0, 1.5))
    cube = UnitCube(grid)
    block = SmoothnessBlock(cube)
    frequency = np.array([90.0, 70.0, 110.0])[:, None]

    def values(points):
        return 0.01 + 0.005 * np.sin((frequency * points).sum(axis=0))

    whole = values(cube.voxel_centres(0, 48).numpy()).reshape(grid.shape)
    expected = (smoothed_total_variation(1.001 * whole) - smoothed_total_variation(whole)) / 0.001
    rng = np.random.default_rng(12)
    slopes = []
    for _ in range(30):
        mu = values(block.draw(rng).numpy()).astype(np.float32)
        slopes.append(float(block.gradient(torch.from_numpy(mu)) @ torch.from_numpy(mu)))
    assert block.shape == (EDGE,) * 3
    assert np.mean(slopes) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("size", [(40, 30, 50), (8, 60, 3), (1, 1, 1)])
def test_blocks_lie_in_the_volume_and_reach_its_ends(size):
    cube = UnitCube(Grid.centred(size, (1.0, 2.0, 0.5)))
    block, rng = SmoothnessBlock(cube), np.random.default_rng(13)
    points = np.stack([block.draw(rng) for _ in range(200)])
    voxel = np.array([1.0, 2.0, 0.5]) / cube.edge_mm
    assert points.min() >= 0 and (points.max(axis=(0, 2)) <= cube.upper * (1 + 1e-6)).all()
    assert (points.min(axis=(0, 2)) < 3 * voxel).all() and (points.max(axis=(0, 2)) > cube.upper - 3 * voxel).all()
