"""VoxGS: Gaussians at the centres of voxels, and the X-rays that they cast."""

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import circular
from small_xgrm import GRID

from SparseCTReconLib.gaussians.cloud import inverse_softplus
from SparseCTReconLib.gaussians.rasteriser import Rasteriser
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import voxel_gaussians
from SparseCTReconLib.networks.voxel_gaussians import BEGIN, LEAST, MOST, NUMBERS, gaussians, render, render_voxels, voxels

UNIT = 0.02


def numbers(grid=GRID, seed=0, most=1.0):
    return most * torch.randn(int(np.prod(grid.size)), NUMBERS, generator=torch.Generator().manual_seed(seed))


def test_voxels_come_in_the_order_of_an_array():
    index = voxels(GRID, 0, int(np.prod(GRID.size)))
    assert torch.equal(index, torch.from_numpy(np.indices(GRID.shape).reshape(3, -1)[::-1].T.copy()).float())
    assert torch.equal(voxels(GRID, 17, 90), index[17:90])


def test_a_gaussian_stands_at_the_centre_of_its_voxel_whatever_the_numbers():
    raw = numbers()
    whole = gaussians(raw, GRID, 0, UNIT)
    torch.testing.assert_close(whole[0], voxels(GRID, 0, len(raw)) * torch.tensor([3.0, 2.5, 4.0]))
    for some, all_ in zip(gaussians(raw[40:60], GRID, 40, UNIT), whole):
        torch.testing.assert_close(some, all_[40:60])


def covariances(whitening):
    return torch.linalg.inv(whitening.transpose(1, 2) @ whitening)


@pytest.mark.parametrize("grid", [GRID, Grid.centred((3, 3, 3), (1.0, 1.0, 1.0)), Grid.centred((3, 4, 2), (1.0, 1.0, 1.8))])
@pytest.mark.parametrize("most", [0, 3.0])
def test_a_gaussian_is_as_heavy_as_its_voxel_whatever_its_scales(grid, most):
    """The integral of a Gaussian is (2 pi)^3/2 times its density and its three deviations."""
    raw = numbers(grid, most=most)
    _, whitening, density = gaussians(raw, grid, 0, UNIT)
    weight = density * (2 * np.pi) ** 1.5 * torch.linalg.det(covariances(whitening).double()).sqrt().float()
    wanted = UNIT * torch.nn.functional.softplus(raw[:, 0]) * float(np.prod(grid.spacing_mm))
    torch.testing.assert_close(weight, wanted, rtol=1e-3, atol=0)


def test_zeros_stand_for_deviations_of_half_a_voxel_along_the_axes_of_the_grid():
    _, whitening, _ = gaussians(torch.zeros(4, NUMBERS), GRID, 0, UNIT)
    wanted = torch.diag(torch.tensor(GRID.spacing_mm) * BEGIN).square()
    torch.testing.assert_close(covariances(whitening), wanted.expand(4, 3, 3), rtol=1e-3, atol=1e-4)


def test_no_number_makes_a_gaussian_too_narrow_or_too_wide():
    _, whitening, density = gaussians(numbers(most=1e3), GRID, 0, UNIT)
    deviations = torch.linalg.svdvals(whitening).reciprocal()
    assert deviations.min() >= LEAST * 2.5 - 1e-3 and deviations.max() <= MOST * 4.0 + 1e-3
    assert deviations.max() > 3.9 and deviations.min() < 0.9
    assert torch.isfinite(density).all()


def smooth():
    """A grid with something smooth on it, in 1/mm, air at its faces."""
    grid = Grid.centred((14, 15, 13), (2.0, 2.0, 2.0))
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij")
    return grid, (UNIT * np.exp(-4 * (1.2 * x**2 + y**2 + 0.8 * z**2))).astype(np.float32)


def as_gaussians(mu, grid):
    """The Gaussians whose opacities are a volume."""
    raw = torch.zeros(mu.size, NUMBERS)
    raw[:, 0] = inverse_softplus(torch.from_numpy(mu.ravel() / UNIT).clamp(min=1e-6))
    return gaussians(raw, grid, 0, UNIT)


@pytest.mark.parametrize("geometry", [circular(), circular(offset_mm=(9.0, -6.0), arc_rad=2.0)], ids=["centred", "offset"])
def test_a_volume_and_the_gaussians_of_its_opacities_cast_the_same_xrays(geometry):
    grid, mu = smooth()
    made, wanted = render(as_gaussians(mu, grid), grid, geometry), render_voxels(torch.from_numpy(mu), grid, geometry)
    assert made.shape == wanted.shape == (geometry.views, *geometry.detector_shape)
    assert (made - wanted).abs().max() < 0.04 * wanted.max()


def test_the_volume_casts_the_xrays_of_the_object_that_it_shows():
    phantom, grid = Phantom(11.0), Grid.centred((26, 26, 26), (1.0, 1.0, 1.0))
    wanted = torch.from_numpy(phantom.line_integrals(circular(), finer=2))
    made = render_voxels(torch.from_numpy(phantom.volume(grid)), grid, circular())
    assert (made - wanted).abs().mean() < 0.03 * wanted.max()


def test_rendered_some_at_a_time_gaussians_cast_the_same_xrays_and_have_the_same_gradients(monkeypatch):
    raw, found = numbers().requires_grad_(), []
    for at_once in (1 << 20, 37):
        monkeypatch.setattr(voxel_gaussians, "GAUSSIANS_AT_ONCE", at_once)
        xrays = render(gaussians(raw, GRID, 0, UNIT), GRID, circular())
        found.append((xrays, *torch.autograd.grad(xrays.square().sum(), raw)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    everything = Rasteriser(circular(), GRID)(*gaussians(raw, GRID, 0, UNIT), range(5))
    torch.testing.assert_close(found[0][0], everything)
    assert (found[0][1].abs().amax(dim=0) > 0).all()
