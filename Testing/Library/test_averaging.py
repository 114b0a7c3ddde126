"""Voxel means of interpolated samples."""

import numpy as np
import pytest

from SparseCTReconLib import Geometry, Grid, Scan
from SparseCTReconLib.operators.averaging import neighbour_weight, voxel_means


def test_a_plane_through_the_samples_keeps_its_values():
    z, y, x = np.meshgrid(np.arange(5.0), np.arange(6.0), np.arange(7.0), indexing="ij")
    samples = (1 + 2 * x - 3 * y + 0.5 * z).astype(np.float32)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(voxel_means(samples, 0.05)[inner], samples[inner], rtol=1e-6)


def test_a_single_sample_spreads_to_its_neighbours_and_its_sum_stays():
    samples = np.zeros((5, 5, 5), np.float32)
    samples[2, 2, 2] = 1
    means = voxel_means(samples, 0.05)
    assert means.sum() == np.float32(1) and means.min() >= 0
    np.testing.assert_allclose(means[2, 2, 1:4] / means[2, 2, 2], [1 / 18, 1, 1 / 18])


def test_a_uniform_volume_stays_uniform_up_to_its_faces_and_in_a_single_slice():
    for shape in ((4, 5, 6), (1, 3, 3)):
        np.testing.assert_allclose(voxel_means(np.full(shape, 0.02, np.float32), 0.05), 0.02, rtol=1e-6)


@pytest.mark.parametrize(("ct_mm", "expected"), [(2.0, 0.0), (1.0, 0.04), (0.5, 0.055), (None, 0.06)])
def test_the_coarser_the_voxels_are_than_the_scanned_ct_the_more_is_averaged(ct_mm, expected):
    geometry = Geometry.circular(2, detector_shape=(4, 4), pixel_mm=(1.6, 1.6))
    provenance = {"ct_grid": {"spacing_mm": [ct_mm] * 3}} if ct_mm else {}
    scan = Scan(np.zeros((2, 4, 4)), geometry, provenance=provenance)
    assert neighbour_weight(scan, Grid.centred((4, 4, 4), (2, 2, 2))) == pytest.approx(expected, abs=2e-3)
