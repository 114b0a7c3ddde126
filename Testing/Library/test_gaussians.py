"""Gaussians: exact line integrals through every pose, values at voxels, gradients of both."""

import numpy as np
import pytest
import torch

from SparseCTReconLib.gaussians import reference
from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.gaussians.rasteriser import Rasteriser
from SparseCTReconLib.gaussians.voxeliser import Voxeliser
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid

GRID = Grid.centred((32, 28, 24), (4.0, 5.0, 6.0))


def cloud(n=40, seed=0, unit=0.02, bounds=(4.0, 20.0)) -> Cloud:
    rng = np.random.default_rng(seed)
    extent = np.array(GRID.size) * GRID.spacing_mm
    scales = rng.uniform(1.1 * bounds[0], 0.8 * bounds[1], (n, 3))
    centres = rng.uniform(0.25, 0.75, (n, 3)) * extent
    return Cloud.of(centres, rng.uniform(0.2, 1.5, n) * unit, scales, unit, bounds, rng.normal(size=(n, 4)))


def poses() -> dict[str, Geometry]:
    shape, pixel = (48, 56), (6.0, 5.0)
    tilted = Geometry.circular(6, 600.0, 900.0, shape, pixel)
    tilt = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    turned = Geometry(*(pose @ tilt.T for pose in (tilted.source, tilted.detector, tilted.u, tilted.v)), shape, pixel)
    return {
        "circle": Geometry.circular(4, 600.0, 900.0, shape, pixel),
        "half fan": Geometry.circular(4, 600.0, 900.0, shape, pixel, offset_mm=(90.0, 20.0)),
        "tilted orbit": turned,
        "close source": Geometry.circular(4, 180.0, 300.0, shape, (8.0, 7.0)),
    }


def double(cloud: Cloud):
    return [of.detach().double().requires_grad_() for of in cloud.gaussians()]


def relative(found, wanted) -> float:
    return float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())


@pytest.mark.parametrize("name", poses())
def test_line_integrals_are_those_of_the_formula_in_every_pose(name):
    geometry = poses()[name]
    rasteriser, of = Rasteriser(geometry, GRID), double(cloud())
    found = rasteriser(*cloud().gaussians(), range(geometry.views))
    for view, image in enumerate(found):
        wanted = reference.project(*of, rasteriser.rays[view], geometry.detector_shape)
        assert relative(image, wanted) < 1e-4


def test_the_formula_is_the_numerical_integral_along_the_ray():
    geometry, of = poses()["tilted orbit"], double(cloud(n=6))
    rays = Rasteriser(geometry, GRID).rays
    image = reference.project(*of, rays[1], geometry.detector_shape)
    for v, u in ((20, 25), (30, 30), (24, 20)):
        w = rays[1, 3:6] + u * rays[1, 6:9] + v * rays[1, 9:12]
        length = np.linalg.norm(w)
        t = torch.linspace(0, 1, 20001, dtype=torch.float64)
        places = torch.from_numpy(rays[1, :3])[:, None] + torch.from_numpy(w)[:, None] * t
        centres, whitening, density = of
        e = (whitening @ (places - centres[:, :, None])).square().sum(1)
        wanted = torch.trapezoid(density @ torch.exp(-0.5 * e), t) * length
        assert float(image.detach()[v, u]) == pytest.approx(float(wanted.detach()), rel=1e-6)


def test_values_at_voxels_are_those_of_the_formula_on_the_grid_and_on_a_box():
    of, voxeliser = double(cloud()), Voxeliser(GRID)
    wanted = reference.fill(*of, GRID.spacing_mm, (0, 0, 0), GRID.shape)
    assert relative(voxeliser(*cloud().gaussians()), wanted) < 1e-4
    box = voxeliser(*cloud().gaussians(), first=(5, 3, 7), shape=(10, 12, 9))
    assert relative(box, wanted[5:15, 3:15, 7:16]) < 1e-4


@pytest.mark.parametrize("name", poses())
def test_gradients_of_projections_are_those_of_the_formula(name):
    geometry = poses()[name]
    rasteriser, mine, of = Rasteriser(geometry, GRID), cloud(), double(cloud())
    given = [tensor.detach().requires_grad_() for tensor in mine.gaussians()]
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(2, *geometry.detector_shape)))
    (rasteriser(*given, [1, 3]) * weights.float()).sum().backward()
    wanted = sum((reference.project(*of, rasteriser.rays[view], geometry.detector_shape) * w).sum() for view, w in zip((1, 3), weights))
    wanted.backward()
    for found, exact in zip(given, of):
        assert relative(found.grad, exact.grad) < 1e-3


def test_gradients_of_a_box_are_those_of_the_formula():
    given, of = [tensor.detach().requires_grad_() for tensor in cloud().gaussians()], double(cloud())
    first, shape = (5, 3, 7), (10, 12, 9)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=shape))
    (Voxeliser(GRID)(*given, first=first, shape=shape) * weights.float()).sum().backward()
    (reference.fill(*of, GRID.spacing_mm, first, shape) * weights).sum().backward()
    for found, exact in zip(given, of):
        assert relative(found.grad, exact.grad) < 1e-3


def test_gradients_reach_the_parameters_as_finite_differences_say():
    geometry = poses()["half fan"]
    rasteriser, mine = Rasteriser(geometry, GRID), cloud(n=5)
    rays, shape = rasteriser.rays[2], geometry.detector_shape

    def value(cloud):
        return (reference.project(*(of.double() for of in cloud.gaussians()), rays, shape).square()).sum()

    for tensor in mine.parameters().values():
        tensor.requires_grad_()
    rasteriser(*mine.gaussians(), [2]).square().sum().backward()
    for name, tensor in mine.parameters().items():
        direction = torch.from_numpy(np.random.default_rng(3).normal(size=tuple(tensor.shape)))
        wide = {key: of.detach().double() for key, of in mine.parameters().items()}
        ends = [
            value(Cloud(**{**wide, name: wide[name] + sign * 1e-5 * direction}, unit=mine.unit, bounds_mm=mine.bounds_mm))
            for sign in (1, -1)
        ]
        slope = float(ends[0] - ends[1]) / 2e-5
        assert float((tensor.grad * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_the_same_cloud_gives_the_same_bits_whatever_the_threads(monkeypatch):
    geometry = poses()["circle"]
    threads, made = torch.get_num_threads(), []
    for n in (1, 3):
        torch.set_num_threads(n)
        given = [tensor.detach().requires_grad_() for tensor in cloud().gaussians()]
        image = Rasteriser(geometry, GRID)(*given, [0, 1])
        image.square().sum().backward()
        made.append([image.detach(), *(tensor.grad for tensor in given)])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*made))


def test_gaussians_behind_the_source_and_beside_the_detector_are_not_seen():
    geometry = poses()["circle"]
    rasteriser = Rasteriser(geometry, GRID)
    source = rasteriser.rays[0, :3]
    away = source + (source - rasteriser.rays[0, 3:6]) * 0 + (source - np.array(GRID.size) * GRID.spacing_mm / 2) * 0.2
    beside = np.array(GRID.size) * GRID.spacing_mm / 2 + np.array([0, 0, 900.0])
    lost = Cloud.of(np.stack([away, beside]), [0.02, 0.02], np.full((2, 3), 6.0), 0.02, (4.0, 20.0))
    assert float(rasteriser(*lost.gaussians(), [0]).abs().max()) == 0


@pytest.mark.parametrize("far", [1e12, 1e30, -1e30, np.inf, np.nan])
def test_a_gaussian_far_away_or_nowhere_is_not_seen_and_does_no_harm(far):
    centres = np.array([[60.0, 60.0, 60.0], [far, 60.0, 60.0], [60.0, far, 60.0], [60.0, 60.0, far]])
    lost = Cloud.of(centres, np.full(4, 0.02), np.full((4, 3), 6.0), 0.02, (4.0, 20.0))
    given, seen = lost.gaussians(), lost.chosen([0]).gaussians()
    geometry = poses()["circle"]
    assert torch.equal(Rasteriser(geometry, GRID)(*given, [0]), Rasteriser(geometry, GRID)(*seen, [0]))
    assert torch.equal(Voxeliser(GRID)(*given), Voxeliser(GRID)(*seen))


def test_a_cloud_keeps_densities_positive_and_scales_in_their_bounds():
    wild = Cloud(
        torch.zeros(3, 3), torch.tensor([-50.0, 0.0, 50.0]), torch.tensor([[-40.0, 0, 40]] * 3), torch.randn(3, 4), 0.02, (1.0, 9.0)
    )
    assert (wild.density() >= 0).all() and wild.scales().min() >= 1 and wild.scales().max() <= 9
    turned = wild.axes() @ wild.axes().transpose(1, 2)
    assert torch.allclose(turned, torch.eye(3).expand(3, 3, 3), atol=1e-5)


def test_a_cloud_is_what_it_was_made_of():
    rng = np.random.default_rng(0)
    centres, density, scales = rng.normal(size=(7, 3)), rng.uniform(0.001, 0.05, 7), rng.uniform(2, 8, (7, 3))
    made = Cloud.of(centres, density, scales, 0.02, (1.0, 9.0))
    assert np.allclose(made.density(), density, rtol=1e-4) and np.allclose(made.scales(), scales, rtol=1e-4)
    assert len(made.joined(made.chosen([0, 2]))) == 9
