"""Comparison by HU: who belongs where, and what is measured over whose mask."""

import numpy as np
import pytest

from SparseCTReconLib.evaluation.compare import aligned
from SparseCTReconLib.evaluation.tissues import TISSUES, compare_tissues
from SparseCTReconLib.grid import Grid, Volume

GRID = Grid.centred((10, 10, 10), (2, 3, 5))


def compared(recon, truth, grid=GRID, truth_grid=None):
    pair = aligned(Volume(np.asarray(recon, np.float32), grid), Volume(np.asarray(truth, np.float32), truth_grid or grid))
    return {tissue["name"]: tissue for tissue in compare_tissues(pair)}


@pytest.mark.parametrize(
    ("hu", "name"),
    [(-1000, "air"), (-901, "air"), (-900, "lung"), (-501, "lung"), (-190, "fat"), (-31, "fat"), (-30, "soft tissue"), (149, "soft tissue")]
    + [(150, "bone"), (3000, "bone"), (-500, None), (-191, None)],
)
def test_every_hu_belongs_to_one_class_or_to_none(hu, name):
    assert [tissue.name for tissue in TISSUES if tissue.mask(np.array([hu])).all()] == ([name] if name else [])


def test_volumes_are_in_millilitres():
    truth = np.full(GRID.shape, -1000.0)
    truth[:2] = 40
    found = compared(truth, truth)
    assert found["soft tissue"]["reference_volume_ml"] == pytest.approx(200 * 2 * 3 * 5 / 1000)
    assert found["soft tissue"]["volume_ml"] == found["soft tissue"]["reference_volume_ml"]


def test_dice_of_half_of_it_missing():
    truth, recon = np.full(GRID.shape, -1000.0), np.full(GRID.shape, -1000.0)
    truth[:4], recon[:2] = 700, 700
    assert compared(recon, truth)["bone"]["dice"] == pytest.approx(2 * 2 / (4 + 2), abs=1e-5)


def test_hu_errors_are_over_the_references_own_voxels():
    truth = np.full(GRID.shape, -100.0)
    truth[:5] = 60
    recon = truth.copy()
    recon[:5, :5] += 200
    recon[:5, 5:] -= 100
    soft = compared(recon, truth)["soft tissue"]
    assert soft["reference_mean_hu"] == 60 and soft["mean_hu"] == 110 and soft["error_hu"] == 50
    assert soft["rmse_hu"] == pytest.approx(np.sqrt((200**2 + 100**2) / 2), abs=1e-2)


def test_a_tissue_that_nobody_has_has_no_figures():
    lung = compared(np.zeros(GRID.shape), np.zeros(GRID.shape))["lung"]
    assert lung["dice"] is None and lung["error_hu"] is None and lung["volume_ml"] == 0


def test_a_tissue_that_only_the_reconstruction_has_is_no_overlap():
    recon = np.zeros(GRID.shape)
    recon[0] = -700
    lung = compared(recon, np.zeros(GRID.shape))["lung"]
    assert lung["dice"] == 0 and lung["volume_ml"] > 0 and lung["error_hu"] is None


def test_what_lies_outside_the_reference_does_not_count():
    small = Grid.centred((4, 4, 4), (2, 3, 5))
    recon = np.full(GRID.shape, 900.0)
    recon[3:7, 3:7, 3:7] = 40
    found = compared(recon, np.full(small.shape, 40.0), truth_grid=small)
    assert found["bone"]["volume_ml"] == 0 and found["soft tissue"]["dice"] == 1
