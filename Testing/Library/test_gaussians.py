"""Gaussians: what they are, the formula of their line integrals, gradients down to the parameters."""

import numpy as np
import pytest
import torch
from gaussian_cases import GRID, cloud, double, poses

from SparseCTReconLib.gaussians import reference
from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.gaussians.rasteriser import Rasteriser


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
