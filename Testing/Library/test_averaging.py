"""Voxel means of interpolated samples."""

import numpy as np

from SparseCTReconLib.operators.averaging import NEIGHBOUR, voxel_means


def test_a_plane_through_the_samples_keeps_its_values():
    z, y, x = np.meshgrid(np.arange(5.0), np.arange(6.0), np.arange(7.0), indexing="ij")
    samples = (1 + 2 * x - 3 * y + 0.5 * z).astype(np.float32)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(voxel_means(samples)[inner], samples[inner], rtol=1e-6)


def test_a_single_sample_spreads_to_its_neighbours_and_its_sum_stays():
    samples = np.zeros((5, 5, 5), np.float32)
    samples[2, 2, 2] = 1
    means = voxel_means(samples)
    assert means.sum() == np.float32(1) and means.min() >= 0
    np.testing.assert_allclose(means[2, 2, 1:4] / means[2, 2, 2], [NEIGHBOUR / (1 - 2 * NEIGHBOUR), 1, NEIGHBOUR / (1 - 2 * NEIGHBOUR)])


def test_a_uniform_volume_stays_uniform_up_to_its_faces_and_in_a_single_slice():
    for shape in ((4, 5, 6), (1, 3, 3)):
        np.testing.assert_allclose(voxel_means(np.full(shape, 0.02, np.float32)), 0.02, rtol=1e-6)
