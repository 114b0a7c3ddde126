"""The picture that puts truth, reconstructions and differences side by side."""

import numpy as np
import pytest

from SparseCTReconLib.evaluation.pictures import Look, Panel, comparison
from SparseCTReconLib.grid import Grid

GRID = Grid.centred((20, 16, 12), (2, 2, 3))


def picture_of(path, recons):
    from matplotlib.image import imread

    truth = Panel("truth", np.full(GRID.shape, 40.0), "")
    comparison(truth, recons, GRID, path)
    return imread(path)[..., :3]


def test_there_is_a_column_for_the_truth_and_each_reconstruction(tmp_path):
    widths = []
    for count in (1, 2, 3):
        recons = [Panel(f"method {i}", np.zeros(GRID.shape), "20 dB") for i in range(count)]
        widths.append(picture_of(tmp_path / "demo.png", recons).shape[1])
    assert widths[2] - widths[1] == pytest.approx(widths[1] - widths[0], abs=2)
    assert widths[2] == pytest.approx(2 * widths[0], rel=0.02)


def test_a_reconstruction_without_error_has_a_dark_difference_and_one_with_error_is_bright(tmp_path):
    right, wrong = Panel("right", np.full(GRID.shape, 40.0)), Panel("wrong", np.full(GRID.shape, 340.0))
    image = picture_of(tmp_path / "demo.png", [right, wrong])
    height, width, _ = image.shape
    row = image[int(0.8 * height)]
    assert row[int(0.5 * width)].mean() < 0.15
    assert row[int(0.83 * width)].mean() > 0.8


def test_the_window_names_the_ends_of_the_grey_scale():
    assert Look(width_hu=400, level_hu=40).limits == (-160, 240)
