"""Projections and volumes of Gaussians keep one contract, whatever makes them: numba, torch or Triton, with lists by torch or gsplat."""

import logging
import os
import sys

import numpy as np
import played_gsplat
import pytest
import torch
from gaussian_cases import GRID, cloud, double, poses, quicken, relative

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.gaussians import backends, reference, tile_lists
from SparseCTReconLib.gaussians.cloud import Cloud

RUNS = {
    "numba": ("numba", "cpu"),
    "torch": ("torch", "cpu"),
    "triton, interpreted": ("triton", "cpu"),
    "torch on cuda": ("torch", "cuda"),
    "triton on cuda": ("triton", "cuda"),
}
every_run = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.gpu) if "cuda" in n else n for n in RUNS])
every_pose = pytest.mark.parametrize("pose", poses())
VIEWS, FEW = (1, 3), 16
unheeded = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""The interpreter's numpy speaks of numbers that are masked later."""


class Backend:
    """What a run makes of Gaussians, on its device."""

    def __init__(self, name, geometry=None):
        backend, self.device = RUNS[name]
        self.rasteriser = backends.rasteriser(geometry or poses()["circle"], GRID, self.device, backend)
        self.voxeliser = backends.voxeliser(GRID, self.device, backend)

    def leaves(self, of):
        return [tensor.detach().to(self.device).requires_grad_() for tensor in of.gaussians()]

    def project(self, of, views=VIEWS):
        return self.rasteriser(*self.leaves(of), views).detach().cpu()

    def fill(self, of, **box):
        return self.voxeliser(*self.leaves(of), **box).detach().cpu()


@pytest.fixture
def make(monkeypatch):
    """Makes the backend of a run, or skips with the reason why it cannot."""

    def backend(name, geometry=None):
        kind, device = RUNS[name]
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        if kind == "triton":
            if reason := backends.triton_fails(device):
                pytest.skip(reason)
            if device == "cpu":
                quicken(monkeypatch)
        return Backend(name, geometry)

    return backend


def wanted_images(of, geometry, views=VIEWS):
    rays = Backend("numba", geometry).rasteriser.rays
    return torch.stack([reference.project(*of, rays[view], geometry.detector_shape) for view in views])


def noise(shape):
    return torch.from_numpy(np.random.default_rng(1).normal(size=tuple(shape)))


def close(leaves, of):
    return all(relative(found.grad.cpu(), exact.grad) < 1e-3 for found, exact in zip(leaves, of))


@every_pose
@every_run
def test_line_integrals_and_their_gradients_are_those_of_the_formula_in_every_pose(name, pose, make):
    geometry, of = poses()[pose], double(cloud(FEW))
    ours = make(name, geometry)
    given = ours.leaves(cloud(FEW))
    found, wanted = ours.rasteriser(*given, VIEWS), wanted_images(of, geometry)
    assert found.dtype == torch.float32 and found.device.type == ours.device
    assert all(relative(one.cpu(), other) < 1e-4 for one, other in zip(found, wanted))
    weights = noise(wanted.shape)
    (found * weights.float().to(ours.device)).sum().backward()
    (wanted * weights).sum().backward()
    assert close(given, of)


@pytest.mark.parametrize("box", [{}, {"first": (5, 3, 7), "shape": (10, 12, 9)}, {"first": (12, 0, 0), "shape": (1, 28, 32)}])
@every_run
def test_values_at_voxels_and_their_gradients_are_those_of_the_formula(name, box, make):
    ours, of = make(name), double(cloud(FEW))
    given = ours.leaves(cloud(FEW))
    found = ours.voxeliser(*given, **box)
    wanted = reference.fill(*of, GRID.spacing_mm, box.get("first", (0, 0, 0)), box.get("shape", GRID.shape))
    assert found.dtype == torch.float32 and found.device.type == ours.device and relative(found.cpu(), wanted) < 1e-4
    weights = noise(wanted.shape)
    (found * weights.float().to(ours.device)).sum().backward()
    (wanted * weights).sum().backward()
    assert close(given, of)


@every_run
def test_a_cloud_without_gaussians_is_empty(name, make):
    ours, nothing = make(name), cloud().chosen(torch.zeros(40, dtype=torch.bool))
    given = ours.leaves(nothing)
    image, volume = ours.rasteriser(*given, VIEWS), ours.voxeliser(*given)
    assert image.shape == (2, 48, 56) and volume.shape == GRID.shape and not image.any() and not volume.any()
    (image.sum() + volume.sum()).backward()
    assert [tensor.grad.shape for tensor in given] == [(0, 3), (0, 3, 3), (0,)]


def lost() -> Cloud:
    """Gaussians behind the source of view 0, beside its detector, about that source, and with an end behind it."""
    ray = Backend("numba").rasteriser.rays[0]
    source, middle = ray[:3], np.array(GRID.size) * GRID.spacing_mm / 2
    beside = middle + np.array([0, 0, 900.0])
    centres = np.stack([source + 0.2 * (source - middle), beside, source, source + 0.05 * (middle - source)])
    scales = np.float32([[6.0] * 3, [6.0] * 3, [6.0] * 3, [15.0] * 3])
    return Cloud.of(centres, np.full(4, 0.02), scales, 0.02, (4.0, 20.0))


@every_run
def test_gaussians_behind_the_source_and_beside_the_detector_are_not_seen_and_pull_at_nothing(name, make):
    ours = make(name)
    given = ours.leaves(lost())
    image = ours.rasteriser(*given, [0])
    image.sum().backward()
    assert not image.any() and not any(tensor.grad.any() for tensor in given)


@pytest.mark.parametrize("far", [1e12, 1e30, -1e30, np.inf, np.nan])
@unheeded
@every_run
def test_a_gaussian_far_away_or_nowhere_is_not_seen_and_does_no_harm(name, far, make):
    centres = np.array([[60.0, 60.0, 60.0], [far, 60.0, 60.0], [60.0, far, 60.0], [60.0, 60.0, far]])
    mixed = Cloud.of(centres, np.full(4, 0.02), np.full((4, 3), 6.0), 0.02, (4.0, 20.0))
    ours, alone = make(name), mixed.chosen([0])
    given = ours.leaves(mixed)
    image, volume = ours.rasteriser(*given, [0]), ours.voxeliser(*given)
    assert torch.allclose(image.detach().cpu(), ours.project(alone, [0]), rtol=1e-6)
    assert torch.allclose(volume.detach().cpu(), ours.fill(alone), rtol=1e-6)
    (image.sum() + volume.sum()).backward()
    assert all(torch.isfinite(tensor.grad).all() and not tensor.grad[1:].any() for tensor in given)


@unheeded
@every_run
def test_a_gaussian_without_an_extent_along_an_axis_does_no_harm(name, make):
    """Its whitening has no inverse."""
    ours, (centres, whitening, density) = make(name), cloud(n=2).gaussians()
    flat = whitening.clone()
    flat[0] = 0
    given = [tensor.to(ours.device).requires_grad_() for tensor in (centres, flat, density)]
    image, volume = ours.rasteriser(*given, [0]), ours.voxeliser(*given)
    (image.sum() + volume.sum()).backward()
    assert torch.isfinite(image).all() and torch.isfinite(volume).all() and torch.isfinite(given[0].grad).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_few_pairs_at_a_time_give_the_same_bits(device, make, monkeypatch):
    ours = make("triton, interpreted" if device == "cpu" else "triton on cuda")
    image, volume = ours.project(cloud(), [0]), ours.fill(cloud())
    made = []
    monkeypatch.setattr(tile_lists, "PAIRS", 60)
    monkeypatch.setattr(tile_lists, "by_torch", lambda region, by_torch=tile_lists.by_torch: made.append(region) or by_torch(region))
    assert torch.equal(ours.project(cloud(), [0]), image) and torch.equal(ours.fill(cloud()), volume)
    assert len(made) > 3 and all(region.pairs <= 60 for region in made)


def test_lists_by_gsplat_give_the_same_bits(make, monkeypatch):
    ours = make("triton, interpreted")
    image = ours.project(cloud(), [0])
    monkeypatch.setattr(tile_lists, "library", lambda: played_gsplat)
    monkeypatch.setattr(ours.rasteriser, "lists", tile_lists.by_gsplat)
    assert torch.equal(ours.project(cloud(), [0]), image)


def test_tiles_and_programs_of_any_size_give_the_same_image(make, monkeypatch):
    from SparseCTReconLib.gaussians import triton_rasteriser

    ours = make("triton, interpreted")
    given = ours.leaves(cloud(n=6))
    image = ours.rasteriser(*given, [0])
    image.sum().backward()
    for constant, value in (("TILE", 16), ("AT_ONCE", 4), ("OWNED", 1), ("PIXELS", 64)):
        monkeypatch.setattr(triton_rasteriser, constant, value)
    again = ours.leaves(cloud(n=6))
    other = ours.rasteriser(*again, [0])
    other.sum().backward()
    assert relative(other, image) < 1e-6 and all(relative(one.grad, two.grad) < 1e-5 for one, two in zip(again, given))


@pytest.mark.parametrize("what", ["image", "volume"])
def test_the_torch_twin_s_gradients_are_the_same_in_parts(what, make, monkeypatch):
    found = []
    for most in (reference.CHUNK, 20_000):
        monkeypatch.setattr(reference, "CHUNK", most)
        ours = make("torch")
        given = ours.leaves(cloud())
        made = ours.rasteriser(*given, [0]) if what == "image" else ours.voxeliser(*given)
        made.square().sum().backward()
        found.append([tensor.grad for tensor in given])
    assert all(relative(one, other) < 1e-5 for one, other in zip(*found))


def test_the_cpu_has_numba(make):
    assert backends.choose("cpu") == make("numba").rasteriser.backend == make("numba").voxeliser.backend == "numba"


@pytest.mark.parametrize(
    "reason, chosen, said", [(None, "triton", ""), ("no compiler", "torch", "many times slower than triton, because: no compiler")]
)
def test_a_gpu_has_triton_or_a_warning(reason, chosen, said, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "triton_fails", lambda device: reason)
    with caplog.at_level(logging.WARNING):
        assert backends.choose("cuda") == backends.choose("cuda") == chosen
    assert said in caplog.text and len(caplog.records) == bool(said), "said once, though a training asks at every step"


@pytest.mark.parametrize("reason, maker", [(None, tile_lists.by_gsplat), ("too old", tile_lists.by_torch)])
def test_gsplat_makes_the_lists_where_it_works(reason, maker, monkeypatch, caplog):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tile_lists, "gsplat_fails", lambda device: reason)
    with caplog.at_level(logging.WARNING):
        assert backends._list_maker.__wrapped__("cuda") is maker
    assert (reason or "") in caplog.text


@pytest.mark.parametrize(
    "device, backend, said",
    [("tpu", None, "give cpu or cuda"), ("cuda", "numba", "runs on the cpu alone"), ("cpu", "tritn", "triton"), ("cuda", None, "no GPU")],
)
def test_what_cannot_run_is_refused(device, backend, said):
    if device == "cuda" and backend is None and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for refuse in (
        lambda: backends.voxeliser(GRID, device, backend),
        lambda: backends.rasteriser(poses()["circle"], GRID, device, backend),
    ):
        with pytest.raises(InputError, match=said):
            refuse()


def test_triton_is_refused_with_the_reason_where_it_does_not_run(monkeypatch):
    monkeypatch.setattr(backends, "triton_fails", lambda device: "no driver")
    with pytest.raises(InputError, match="no driver; take the backend torch"):
        backends.voxeliser(GRID, "cpu", "triton")
