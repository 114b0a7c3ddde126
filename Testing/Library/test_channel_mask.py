"""The mask of channels that are noise."""

import numpy as np
import pytest
import torch

from SparseCTReconLib.fields.channel_mask import LIMIT, channel_mask, mask_of_slice, noise, slice_points
from SparseCTReconLib.fields.field import AttenuationField
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.rays import UnitCube
from SparseCTReconLib.grid import Grid

WIDTH = 128


def white(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)))


def smooth(seed=0):
    """Bumps much larger than a pixel."""
    y, x = (torch.arange(WIDTH) - 63.5)[:, None], (torch.arange(WIDTH) - 63.5)[None, :]
    shift_y, shift_x = np.random.default_rng(seed).uniform(-5, 5, 2)
    return torch.exp(-((x - shift_x) ** 2 + (y - shift_y) ** 2) / 240)


def as_the_paper_writes_it(image):
    """Its formula, pixel by pixel."""
    w = len(image)
    image = image.numpy()
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2((image - image.min()) / (image.max() - image.min()))))
    total = 0.0
    for i in range(w):
        for j in range(w):
            if (i - w // 2) ** 2 + (j - w // 2) ** 2 >= (w // 4) ** 2:
                total += min(spectrum[i, j], 1.0) ** 2
    return total / w**2


@pytest.mark.parametrize("image", [white(), smooth(), smooth() + 0.02 * white(), white().cumsum(0).cumsum(1)])
def test_noise_is_what_the_formula_says(image):
    assert float(noise(image)) == pytest.approx(as_the_paper_writes_it(image), rel=1e-9)


def test_white_noise_lies_above_the_limit_and_smooth_channels_far_below():
    assert all(LIMIT < noise(white(seed)) < 1 - np.pi / 16 + 0.001 for seed in range(5))
    assert all(noise(smooth(seed)) < 0.1 for seed in range(5))


def test_noise_does_not_depend_on_a_channel_s_scale_and_a_constant_one_has_none():
    assert float(noise(white())) == pytest.approx(float(noise(1e-3 * white() - 7)))
    assert noise(torch.full((WIDTH, WIDTH), 3.0)) == 0


@pytest.mark.parametrize("first", [0, 2, 5])
def test_the_first_channel_of_noise_and_all_finer_ones_are_masked(first):
    channels = [smooth(n) for n in range(6)]
    channels[first] = white(1)
    mask = mask_of_slice(torch.stack(channels))
    assert mask.dtype == torch.float32
    assert mask.tolist() == [1.0] * first + [0.0] * (6 - first)


def test_without_noise_every_channel_stays():
    assert mask_of_slice(torch.stack([smooth(n) for n in range(8)])).tolist() == [1.0] * 8


@pytest.mark.parametrize("size, spacing", [((128, 128, 6), (1, 1, 1)), ((128, 90, 20), (1, 1, 2)), ((50, 140, 9), (2, 1, 3))])
def test_of_a_fresh_encoding_the_levels_finer_than_the_slice_s_pixels_are_masked(size, spacing):
    cube = UnitCube(Grid.centred(size, spacing))
    grid = HashGrid(4, 8, 8 * 8**3, 16, tuple(map(float, cube.upper)))
    field = AttenuationField(grid, Head(grid.channels, 8), 0.02, np.random.default_rng(0))
    mask = channel_mask(field.features, cube)
    assert mask.shape == (grid.channels,) and mask.dtype == np.float32
    assert mask.tolist() == [1.0] * 4 + [0.0] * 4


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_encoding_on_another_device_is_asked_there(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    def encode(points):
        asked.append(points.device.type)
        return torch.stack([smooth().flatten()] * 2).to("cpu" if device == "meta" else device)

    asked, cube = [], UnitCube(Grid.centred((WIDTH, WIDTH, 3), (1, 1, 1)))
    np.testing.assert_array_equal(channel_mask(encode, cube, device), [1, 1])
    assert asked == [device]


def test_the_slice_is_the_middle_one_across_the_whole_box():
    cube = UnitCube(Grid.centred((30, 20, 11), (1, 1, 2)))
    points = slice_points(cube)
    assert points.shape == (3, 900)
    assert points[2].unique().numpy() == pytest.approx([cube.upper[2] / 2])
    for axis in (0, 1):
        assert 0 < points[axis].min() < 0.02 and cube.upper[axis] - 0.02 < points[axis].max() < cube.upper[axis]
