"""A scan on half as many pixels and voxels."""

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import circular
from small_scans import scan_of

from SparseCTReconLib.classical.weights import photon_variance
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.coarse_to_fine import LEAST, halved, interpolated, problems
from SparseCTReconLib.operators import projector
from SparseCTReconLib.scan import Scan

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def scan(shape=(20, 24), pixel_mm=(2.0, 2.0), **more):
    geometry = Geometry.preset("linac", 5, detector_shape=shape, pixel_mm=pixel_mm)
    return Scan(np.random.default_rng(0).random((5, *shape)), geometry, **more)


def test_half_the_voxels_fill_the_same_box():
    grid = Grid((17, 8, 1), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), TURN)
    coarse = halved(scan(), grid)[1]
    assert coarse.size == (8, 4, 1)
    np.testing.assert_allclose(coarse.extent_mm, grid.extent_mm)
    np.testing.assert_allclose(coarse.centre_mm, grid.centre_mm, atol=1e-9)
    np.testing.assert_allclose(coarse.direction, TURN)


def test_what_is_interpolated_lies_where_it_did():
    grid = Grid((17, 24, 16), (2.0, 1.5, 3.0), (4.0, 5.0, -6.0), TURN)
    coarse = halved(scan(), grid)[1]

    def ramp(on):
        places = np.stack(np.indices(on.shape)[::-1], axis=-1) * 1.0 @ on.index_to_world[:3, :3].T + on.index_to_world[:3, 3]
        return (0.5 + places @ [0.01, 0.02, -0.03]).astype(np.float32)

    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(interpolated(ramp(coarse), grid.shape)[inner], ramp(grid)[inner], atol=1e-4)


def test_a_volume_casts_the_same_shadows_on_half_the_pixels():
    grid = Grid.centred((24, 24, 20), (4.0,) * 3)
    body = Phantom(40.0).volume(grid)
    geometry = Geometry.preset("linac", 6, detector_shape=(65, 96), pixel_mm=(2.0, 2.0))
    fine = projector(geometry, grid)(torch.from_numpy(body)).numpy()
    coarse = halved(Scan(fine, geometry), grid)[0]
    assert coarse.geometry.detector_shape == (32, 48) and coarse.geometry.pixel_mm == (4.0, 4.0)
    again = projector(coarse.geometry, grid)(torch.from_numpy(body)).numpy()
    assert np.abs(again - coarse.projections).mean() < 0.005 * fine.max()
    assert np.abs(np.roll(again, 1, axis=2) - coarse.projections).mean() > 0.02 * fine.max()


def test_noise_falls_as_that_of_means_of_pixels_does():
    rng = np.random.default_rng(1)
    seen = scan((40, 48), photons=1e4, provenance={"electronic_noise": 30.0})
    seen.projections[...] = 1.0
    sigma = np.sqrt(photon_variance(seen))
    noisy = Scan(1.0 + sigma * rng.normal(size=sigma.shape), seen.geometry, seen.photons, provenance=seen.provenance)
    coarse = halved(noisy, Grid.centred((16,) * 3, (4.0,) * 3))[0]
    assert coarse.photons == 4e4 and noisy.provenance["electronic_noise"] == 30.0
    assert coarse.projections.std() == pytest.approx(np.sqrt(photon_variance(coarse)).mean(), rel=0.03)


def test_what_was_taken_out_is_halved_too_and_large_pixels_are_not():
    grid, taken_out = Grid.centred((16,) * 3, (4.0,) * 3), np.full((5, 20, 24), 0.5, np.float32)
    assert halved(scan(taken_out=taken_out), grid)[0].taken_out.shape == (5, 10, 12)
    large = scan(pixel_mm=(12.0, 12.0))
    assert halved(large, grid)[0] is large


def test_as_often_as_the_coarsest_grid_is_large_enough():
    seen = scan_of(Phantom(20.0), circular())
    sizes = [
        [grid.size for _, grid in problems(seen, Grid.centred(size, (1.0,) * 3))] for size in ((2 * LEAST - 1,) * 3, (4 * LEAST, 30, 9))
    ]
    assert sizes == [[(127,) * 3], [(64, 7, 2), (128, 15, 4), (256, 30, 9)]]
