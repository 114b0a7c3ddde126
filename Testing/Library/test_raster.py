"""Gradients of the terms of `inr` and of rasterised fields, against dense formulas and autograd."""

import numpy as np
import pytest
import torch
from inr_cases import options, relative
from small_scanners import as_matrix, circular

from SparseCTReconLib.classical.data_terms import DataTerm, filtered_metric, plain_metric
from SparseCTReconLib.classical.fdk import fdk_weights
from SparseCTReconLib.fields import raster as raster_module
from SparseCTReconLib.fields.raster import draw
from SparseCTReconLib.fields.rays import UnitCube
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.inr import Descent
from SparseCTReconLib.operators import projector

ORBITS = {
    "full circle": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0)),
    "short scan": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0), arc_rad=3.8),
    "displaced detector": circular(views=4, detector_shape=(5, 9), pixel_mm=(8.0, 5.0), offset_mm=(14.0, 0.0)),
}
FEW = Grid.centred((6, 5, 4), (4.0, 4.0, 4.0))


def ramp_matrix(columns):
    """The band-limited ramp between the pixels of a row (Kak and Slaney 1988, eq. 61), divided by its kernel's centre."""
    n = np.subtract.outer(np.arange(columns), np.arange(columns))
    return np.where(n == 0, 1.0, np.where(n % 2 == 1, -4 / (np.pi**2 * np.where(n == 0, 1, n) ** 2), 0.0))


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("filtered", [False, True])
def test_the_gradient_is_that_of_the_loss_written_out_in_matrices(orbit, filtered):
    geometry, rng = ORBITS[orbit], np.random.default_rng(0)
    A = projector(geometry, FEW)
    weights = A.projections(rng.uniform(0.1, 1, A.projection_shape))
    x, y = A.volume(rng.random(FEW.shape)), A.projections(10 * rng.random(A.projection_shape))
    metric = filtered_metric(weights, geometry) if filtered else plain_metric(weights)
    dense, root = as_matrix(A), np.sqrt(weights.numpy().astype(float))
    if filtered:
        root = root * np.sqrt(2 * fdk_weights(geometry).numpy())

    def loss(volume):
        r = root * ((dense @ volume.ravel()).reshape(A.projection_shape) - y.numpy())
        return 0.5 * np.sum(r * (r @ ramp_matrix(r.shape[2]) if filtered else r))

    gradient, residual = DataTerm(A, y, metric).gradient(x)
    direction, start = rng.standard_normal(FEW.shape), x.numpy().astype(float)
    slope = (loss(start + 1e-3 * direction) - loss(start - 1e-3 * direction)) / 2e-3
    assert np.sum(gradient.numpy() * direction) == pytest.approx(slope, rel=2e-3)
    assert relative(residual, (A(x) - y).numpy()) < 1e-5


@pytest.mark.parametrize("filtered", [False, True])
def test_the_subsets_gradients_are_on_average_the_whole_one(filtered):
    geometry = circular(views=6, detector_shape=(5, 9), pixel_mm=(8.0, 5.0))
    A, rng = projector(geometry, FEW), np.random.default_rng(1)
    x, y, weights = (
        A.volume(rng.random(FEW.shape)),
        A.projections(10 * rng.random(A.projection_shape)),
        A.projections(rng.random(A.projection_shape)),
    )
    metric = filtered_metric(weights, geometry) if filtered else plain_metric(weights)
    whole, parts = DataTerm(A, y, metric), DataTerm(A, y, metric, subsets=3)
    mean = sum(parts.gradient(x, turn)[0] for turn in range(3)) / 3
    assert relative(mean, whole.gradient(x)[0]) < 1e-5


class Recorder:
    """Takes the place of a field's step: keeps the gradient that was added up and leaves the parameters alone."""

    def __init__(self, field):
        self.field, field.step = field, self

    def __call__(self, encoder_rate, head_rate):
        self.gradient = np.concatenate([tensor.grad.numpy().ravel() for tensor in self.field.module.parameters()])
        self.field.module.zero_grad()


def recorded(scan, grid, chosen):
    training = Descent(scan, grid, chosen)
    return training, Recorder(training.field)


@pytest.mark.parametrize("loss", ["ls", "fls"])
def test_the_parameters_gradient_is_autograd_s_through_projector_filter_and_network(tiny, loss):
    scan, grid = tiny
    training, recorder = recorded(scan, grid, options(loss, "siren", share=1.0, smoothness=0, views_per_subset=5))
    training.step()
    module = training.field.module
    x = training.field.scale * module(UnitCube(grid).voxel_centres(0, grid.size[2])).reshape(grid.shape)
    residual = training.A(x) - training.y
    (0.5 * (residual * training.term.parts[0][2](residual)).sum() / training.scale).backward()
    assert relative(recorder.gradient, torch.cat([p.grad.reshape(-1) for p in module.parameters()])) < 1e-4


def test_smoothness_adds_the_gradient_of_total_variation(tiny):
    scan, grid = tiny
    plain, smooth = (Descent(scan, grid, options("ls", smoothness=s)) for s in (0.0, 2.0))
    x = plain.A.volume(0.02 * np.random.default_rng(2).random(grid.shape))
    added = (smooth.gradient(x)[0] - plain.gradient(x)[0]) * smooth.scale / smooth.tv_weight

    def total_variation(volume):
        differences = [np.diff(volume, axis=axis, append=np.take(volume, [-1], axis)) for axis in range(3)]
        return np.sqrt(sum(d * d for d in differences) + 1e-8).sum()

    start, direction = x.numpy().astype(float), np.random.default_rng(3).standard_normal(grid.shape)
    slope = (total_variation(start + 1e-7 * direction) - total_variation(start - 1e-7 * direction)) / 2e-7
    assert np.sum(added.numpy() * direction) == pytest.approx(slope, rel=1e-2)


def test_every_voxel_is_drawn_as_often_as_any_other():
    rng, counts = np.random.default_rng(4), np.zeros(50)
    for _ in range(4000):
        index = draw(50, 17, rng)
        assert len(index) == 17 and (np.diff(index) >= 0).all()
        np.add.at(counts, index, 1)
    assert np.abs(counts / 4000 / (17 / 50) - 1).max() < 0.1


def test_the_gradient_from_a_share_of_the_voxels_is_unbiased(tiny):
    scan, grid = tiny
    training, recorder = recorded(scan, grid, options("fls", "siren", share=1.0, views_per_subset=5))
    gradient = training.gradient(training.raster.volume())[0]
    rng, estimates = np.random.default_rng(5), []
    training.raster.descend(gradient, (0, 0), 1.0, rng)
    whole = recorder.gradient
    for _ in range(300):
        training.raster.descend(gradient, (0, 0), 0.1, rng)
        estimates.append(recorder.gradient)
    deviation = np.std(estimates, axis=0) / np.sqrt(300)
    assert relative(estimates[0], whole) > 0.05
    assert np.sqrt(np.mean(((np.mean(estimates, axis=0) - whole) / (deviation + 1e-12)) ** 2)) < 1.5


def test_slabs_give_the_volume_and_the_gradient_of_the_whole(tiny, monkeypatch):
    _, grid = tiny
    scan, results = tiny[0], []
    for points in (1 << 19, 400):
        monkeypatch.setattr(raster_module, "POINTS", points)
        training, recorder = recorded(scan, grid, options("fls", "relu"))
        x = training.raster.volume()
        gradients = []
        for share in (1.0, 0.3):
            training.raster.volume(keep=True)
            training.raster.descend(x, (0, 0), share, np.random.default_rng(6))
            gradients.append(recorder.gradient)
        results.append((len(training.raster.slabs), x, *gradients))
    assert results[0][0] == 1 and results[1][0] == 6
    for one, many in zip(results[0][1:], results[1][1:]):
        assert relative(many, one) < 1e-5


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_wide_network_computes_each_voxel_once_even_if_it_cannot_keep_them_all(tiny, share):
    scan, grid = tiny
    raster, counted, gradients = Descent(scan, grid, options("fls", "relu")).raster, [], []
    module, target = raster.field.module, torch.rand(grid.shape, generator=torch.Generator().manual_seed(1))
    recorder = Recorder(raster.field)
    module.register_forward_pre_hook(lambda module, points: counted.append(points[0].shape[1]))
    for step in (raster.fit, raster.descend):
        for raster.field.at_once in (10**6, 500):
            counted.clear()
            step(target, (0, 0), share, np.random.default_rng(0))
            assert sum(counted) == raster.drawn(share) and max(counted) <= raster.field.at_once
            gradients.append(recorder.gradient)
        assert relative(gradients[-1], gradients[-2]) < 1e-5
