"""Voxel-driven back-projection against its definition, one voxel after the other."""

import numpy as np
import pytest
import torch
from poses import hit_mm
from small_scanners import OBLIQUE, circular, cubic, irregular, tilted, turned_in_plane

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators.backprojection import weighted_backprojection

SCANNERS = {
    "circular": (circular(), cubic()),
    "half-fan": (circular(offset_mm=(17.0, -4.0)), cubic()),
    "turned in plane": (turned_in_plane(circular(), 0.2), cubic()),
    "tilted": (tilted(circular(), 0.3), cubic()),
    "irregular": (irregular(), cubic(10.0)),
    "oblique": (circular(), OBLIQUE),
}


def positions(grid):
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    return index @ grid.index_to_world[:3, :3].T + grid.origin_mm


def bilinear(image, row, column):
    """`image` [v, u] at fractional indices, zero beyond the centres of the outermost pixels."""
    nv, nu = image.shape
    if not (0 <= row <= nv - 1 and 0 <= column <= nu - 1):
        return 0.0
    weights_v, weights_u = (np.maximum(0, 1 - np.abs(np.arange(n) - at)) for n, at in ((nv, row), (nu, column)))
    return weights_v @ image @ weights_u


def by_definition(projections, geometry, grid, weights):
    """Voxels that lie behind any source are left at 0: only geometries of one view have such here."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    volume = []
    for point in positions(grid):
        depth = np.sum((point - geometry.source) * geometry.normal, axis=1)
        if (depth <= 0).any():
            volume.append(0.0)
            continue
        hits = hit_mm(geometry, point) / (du, dv) + ((nu - 1) / 2, (nv - 1) / 2)
        volume.append(sum(w / d**2 * bilinear(image, v, u) for w, d, image, (u, v) in zip(weights, depth, projections, hits)))
    return np.reshape(volume, grid.shape)


def random_stack(geometry):
    return np.random.default_rng(0).random((geometry.views, *geometry.detector_shape), dtype=np.float32)


@pytest.mark.parametrize("name", SCANNERS)
def test_every_voxel_collects_what_the_definition_says(name):
    geometry, grid = SCANNERS[name]
    grid = Grid(tuple(np.minimum(grid.size, 6)), grid.spacing_mm, grid.origin_mm, grid.direction)
    stack, weights = random_stack(geometry), np.linspace(1, 2, geometry.views)
    expected = by_definition(stack, geometry, grid, weights)
    volume = weighted_backprojection(torch.from_numpy(stack), geometry, grid, weights).numpy()
    assert expected.any()
    np.testing.assert_allclose(volume, expected, atol=2e-5 * expected.max())


@pytest.mark.parametrize("detector", [(1, 9), (9, 1), (1, 1), (2, 2)])
def test_a_detector_of_one_row_or_column_is_read_and_nothing_beside_it(detector):
    geometry, grid = circular(views=1, detector_shape=detector, start_rad=0.0), Grid.centred((5, 5, 5), (1.0, 1.0, 1.0))
    stack = random_stack(geometry)
    memory = torch.full((2, *detector[::-1]), torch.nan)  # what lies behind the stack in memory is no number
    memory[:1] = torch.from_numpy(stack).permute(0, 2, 1)
    volume = weighted_backprojection(memory[:1].permute(0, 2, 1), geometry, grid, np.ones(1)).numpy()
    expected = by_definition(stack, geometry, grid, np.ones(1))
    assert expected.any()
    np.testing.assert_allclose(volume, expected, rtol=1e-5, atol=1e-9)


def test_voxels_at_and_behind_the_source_collect_nothing():
    geometry = Geometry.circular(1, 16.0, 64.0, (8, 10), (5.0, 4.0))
    grid = Grid.centred((5, 41, 5), (2.0, 2.0, 2.0))
    stack = np.ones((1, 8, 10), np.float32)
    volume = weighted_backprojection(torch.from_numpy(stack), geometry, grid, np.ones(1)).numpy()
    np.testing.assert_allclose(volume, by_definition(stack, geometry, grid, [1.0]), rtol=1e-5)
    assert volume[:, 30:].any() and not volume[:, :13].any()


def test_the_result_does_not_depend_on_the_threads():
    geometry, grid = SCANNERS["circular"]
    stack, before, results = torch.from_numpy(random_stack(geometry)), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(weighted_backprojection(stack, geometry, grid, np.ones(geometry.views)).numpy())
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)
