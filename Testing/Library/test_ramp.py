"""The ramp filter: its closed form, its windows, and that it is its own adjoint."""

import numpy as np
import pytest
import torch

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.operators.ramp import WINDOWS, RampFilter


def kernel(n, pitch_mm):
    """Kak and Slaney 1988, eq. 61, times the pitch."""
    n = np.abs(n)
    return np.where(n == 0, 1 / (4 * pitch_mm), np.where(n % 2 == 1, -1 / (np.pi**2 * np.maximum(n, 1) ** 2 * pitch_mm), 0))


@pytest.mark.parametrize("columns", [1, 2, 7, 32, 100])
@pytest.mark.parametrize("pitch_mm", [0.5, 2.0])
def test_a_single_bright_column_becomes_the_closed_form(columns, pitch_mm):
    ramp = RampFilter(columns, pitch_mm)
    rows = torch.eye(columns)
    column = np.arange(columns)
    np.testing.assert_allclose(ramp(rows).numpy(), kernel(column - column[:, None], pitch_mm), atol=1e-6 / pitch_mm)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_filter_is_its_own_adjoint(window):
    ramp = RampFilter(37, 1.5, window)
    a, b = torch.rand(3, 4, 37, dtype=torch.float64), torch.rand(3, 4, 37, dtype=torch.float64)
    left, right = (ramp(a) * b).sum(), (a * ramp.T(b)).sum()
    assert float((left - right).abs()) < 1e-7 * float(ramp(a).norm() * b.norm())


@pytest.mark.parametrize("window", WINDOWS)
def test_a_wide_even_row_is_filtered_to_almost_nothing_in_its_middle(window):
    middle = [float(RampFilter(n, 1.0, window)(torch.ones(n))[n // 2]) for n in (64, 512)]
    assert 0 < middle[1] < middle[0] / 7 < 0.01


def test_windows_take_away_what_is_fine_and_leave_what_is_coarse():
    n = torch.arange(256)
    envelope = torch.hann_window(256, periodic=False)
    fine, coarse = envelope * torch.cos(np.pi * n), envelope * torch.cos(2 * np.pi * n / 64)
    gain = {window: [float(RampFilter(256, 1.0, window)(wave).norm()) for wave in (fine, coarse)] for window in WINDOWS}
    assert gain["hann"][0] < gain["cosine"][0] < 0.1 * gain["ram-lak"][0]
    assert gain["hann"][1] == pytest.approx(gain["ram-lak"][1], rel=0.02)
    half_nyquist = torch.cos(np.pi * n / 2) * envelope
    at_half = {window: float(RampFilter(256, 1.0, window)(half_nyquist).norm()) for window in WINDOWS}
    assert at_half["hann"] / at_half["ram-lak"] == pytest.approx(0.5, abs=0.01)
    assert at_half["cosine"] / at_half["ram-lak"] == pytest.approx(np.sqrt(0.5), abs=0.01)


def test_rows_do_not_reach_into_each_other_nor_around():
    stack = torch.zeros(2, 3, 20)
    stack[1, 1, 19] = 1
    filtered = RampFilter(20, 1.0)(stack)
    assert filtered[0].abs().max() == 0 and filtered[1, [0, 2]].abs().max() == 0
    assert float(filtered[1, 1, 0]) == pytest.approx(kernel(19, 1.0), abs=1e-7)


def test_an_unknown_window_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no ramp window 'han'; did you mean 'hann'"):
        RampFilter(8, 1.0, "han")


@pytest.mark.parametrize("window", WINDOWS)
def test_a_few_rows_are_filtered_alike_with_and_without_torch(window):
    ramp, rows = RampFilter(37, 1.5, window), np.random.default_rng(0).random((5, 37), dtype=np.float32)
    filtered = ramp.few_rows(rows)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, ramp(torch.from_numpy(rows)).numpy(), atol=1e-6)
