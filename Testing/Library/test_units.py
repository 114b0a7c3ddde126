"""Hounsfield units and attenuation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from SparseCTReconLib.units import MU_WATER, hu_to_mu, mu_to_hu


def test_water_is_zero_hu_and_air_attenuates_nothing():
    assert hu_to_mu(0.0) == pytest.approx(MU_WATER)
    assert hu_to_mu(-1000.0) == 0
    assert mu_to_hu(MU_WATER) == pytest.approx(0)
    assert mu_to_hu(0.0) == -1000


def test_below_air_nothing_attenuates_less_than_nothing():
    np.testing.assert_array_equal(hu_to_mu(np.array([-3024.0, -1001.0, -1000.0])), 0)


@given(st.floats(-1000, 30000), st.floats(0.001, 1))
def test_hu_come_back_from_attenuation(hu, mu_water):
    assert mu_to_hu(hu_to_mu(hu, mu_water), mu_water) == pytest.approx(hu, abs=1e-6)


def test_numbers_arrays_and_tensors_agree_and_keep_their_type():
    values = np.array([-2000, -1000, 0, 1500], dtype=np.float32)
    mu = hu_to_mu(values)
    assert mu.dtype == np.float32
    tensor = hu_to_mu(torch.from_numpy(values))
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), mu)
    np.testing.assert_allclose([hu_to_mu(float(value)) for value in values], mu, rtol=1e-6)


def test_whole_numbers_of_a_ct_file_are_not_cut_to_whole_attenuations():
    np.testing.assert_allclose(hu_to_mu(np.array([-1000, 0, 1000], dtype=np.int16)), [0, 0.02, 0.04])
