"""Neural fields keep one contract, whatever runs them: numba, torch, Triton or tiny-cuda-nn, hash grid, SIREN or ReLU."""

import os
import sys

import numpy as np
import played_tinycudann
import pytest
import torch

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import backends, reference, tinycudann_field
from SparseCTReconLib.fields.backends import make_field
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.networks import BEND, FourierReLU, HashNetwork, Siren
from SparseCTReconLib.fields.rays import UnitCube
from SparseCTReconLib.fields.torch_field import TorchField
from SparseCTReconLib.grid import Grid

SCALE, INTERPRETED = 0.02, "interpreted"
HASH = HashNetwork(HashGrid(2, 4, 9, 10), Head(4, 16))
PAPER = HashNetwork(HashGrid(4, 3, 11, 8), Head(8, 12, skip=True, activation="gelu"))
SINES, RAMPS = Siren(2, 24, omega=12.0), FourierReLU(2, 24, frequencies=3, bandwidth=1.0)
RUNS = {
    "numba": (HASH, "numba", "cpu"),
    "torch": (HASH, "torch", "cpu"),
    "triton, interpreted": (HASH, "triton", "cpu"),
    "tinycudann, played": (HASH, "tinycudann", "cpu"),
    "NI-NeRF's head, numba": (PAPER, "numba", "cpu"),
    "NI-NeRF's head, torch": (PAPER, "torch", "cpu"),
    "siren": (SINES, "torch", "cpu"),
    "relu": (RAMPS, "torch", "cpu"),
    "torch on cuda": (HASH, "torch", "cuda"),
    "triton on cuda": (HASH, "triton", "cuda"),
    "tinycudann": (HASH, "tinycudann", "cuda"),
    "siren on cuda": (SINES, "torch", "cuda"),
    "relu on cuda": (RAMPS, "torch", "cuda"),
}
ON_CUDA = {name for name, (_, _, device) in RUNS.items() if device == "cuda"}
HASHED = [name for name, (architecture, _, _) in RUNS.items() if isinstance(architecture, HashNetwork)]
every_run = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.gpu) if n in ON_CUDA else n for n in RUNS])


@pytest.fixture
def make(monkeypatch):
    """Makes the field of a run, or skips with the reason why it cannot."""

    def field(name, seed=0):
        architecture, backend, device = RUNS[name]
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        if "played" in name:
            monkeypatch.setattr(tinycudann_field, "library", lambda: played_tinycudann)
            return tinycudann_field.tinycudann_field(architecture, SCALE, np.random.default_rng(seed), "cpu")
        if backend == "tinycudann":
            pytest.importorskip("tinycudann", exc_type=ImportError)
        if backend == "triton" and (reason := backends.triton_fails(device)):
            pytest.skip(reason)
        if INTERPRETED in name:
            from SparseCTReconLib.fields import triton_hash

            monkeypatch.setattr(triton_hash, "POINTS", 1024)
            monkeypatch.setattr(triton_hash, "NUMBERS", 4096)
        made = make_field(architecture, SCALE, device, backend, seed)
        if isinstance(made, TorchField):
            made.precision = "float32"
        return made

    return field


def batch(field, count=300, seed=0):
    """Points of the cube, and a gradient of mu at them."""
    generator = torch.Generator().manual_seed(seed)
    points, gradient = torch.rand(3, count, generator=generator), torch.randn(count, generator=generator)
    return points.to(field.device), gradient.to(field.device)


def train(field, steps, rate=0.01):
    for step in range(steps):
        points, gradient = batch(field, seed=step)
        field.descend(points, field.forward(points)[1], gradient, rate, rate)
    return field


def gradients(field):
    """What was added up: of the table where there is one, and of the network."""
    if field.backend == "numba":
        return [np.array(gradient) for gradient in field._gradients]
    return [tensor.grad.cpu().numpy() for tensor in (field.module.table, field.module.weights) if tensor is not None]


def copies(field):
    return {name: np.array(array) for name, array in field.arrays().items()}


def relative(a, b):
    a, b = np.asarray(a, dtype=float).reshape(-1), np.asarray(b, dtype=float).reshape(-1)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def layered(spec, points, parameters):
    """SIREN and the ReLU network, spelt out."""
    x = 2 * points.T - 1
    if isinstance(spec, FourierReLU):
        waves = [np.pi * f * x[:, axis] for axis in range(3) for f in np.geomspace(0.5, spec.bandwidth, spec.frequencies)]
        x = torch.cat([x, torch.stack([w.sin() for w in waves], dim=1), torch.stack([w.cos() for w in waves], dim=1)], dim=1)
    widths = [x.shape[1], *[spec.width] * spec.depth, 1]
    for layer, (columns, rows) in enumerate(zip(widths[:-1], widths[1:])):
        weights, bias, parameters = parameters[: rows * columns], parameters[rows * columns :][:rows], parameters[rows * (columns + 1) :]
        x = x @ weights.reshape(rows, columns).T + bias
        if layer < spec.depth:
            x = torch.sin(spec.omega * x) if isinstance(spec, Siren) else torch.relu(x)
    return SCALE * 0.5 * (x[:, 0] + (x[:, 0] ** 2 + BEND**2).sqrt())


def exact(name, field, points):
    """mu in float64 from the field's arrays, and what its gradient is with respect to."""
    architecture, arrays = RUNS[name][0], field.arrays()
    parameters = torch.from_numpy(np.array(arrays["head"])).double().requires_grad_()
    if not isinstance(architecture, HashNetwork):
        return layered(architecture, points.cpu().double(), parameters), [parameters]
    table = torch.from_numpy(np.array(arrays["table"])).double().requires_grad_()
    features = reference.encode(points.cpu().double(), table.view(-1, 2), architecture.grid)
    return reference.head(features, parameters, architecture.head, SCALE, torch.from_numpy(np.array(arrays["mask"]))), [table, parameters]


@every_run
def test_values_and_gradients_are_those_of_double_precision(name, make):
    if name == "tinycudann":
        pytest.skip("its grid is its own: there is no reference")
    field = train(make(name), 2)
    points, mu_gradient = batch(field, 500, seed=9)
    expected, parameters = exact(name, field, points)
    (expected * mu_gradient.cpu()).sum().backward()
    mu, kept = field.forward(points)
    field.gradient(points, kept, mu_gradient)
    assert mu.dtype == torch.float32 and mu.shape == (500,) and mu.device.type == field.device and not mu.requires_grad
    assert relative(mu.cpu(), expected.detach()) < 1e-5
    for ours, theirs in zip(gradients(field), parameters):
        assert relative(ours, theirs.grad) < 1e-4


@every_run
def test_a_seed_decides_the_start(name, make):
    field, again, other = make(name), make(name), make(name, seed=1)
    points, _ = batch(field)
    assert torch.equal(field(points), again(points)) and not torch.equal(field(points), other(points))
    assert (field.scale, field.device, field.backend) == (SCALE, RUNS[name][2], RUNS[name][1])


@every_run
def test_the_same_steps_lead_to_the_same_field(name, make):
    first, second = copies(train(make(name), 3)), copies(train(make(name), 3))
    for key, array in first.items():
        np.testing.assert_allclose(second[key], array, rtol=1e-3 if name in ON_CUDA else 0, atol=1e-4 if name in ON_CUDA else 0)


@every_run
def test_a_field_goes_on_exactly_from_its_arrays(name, make):
    through, other = train(make(name), 3), make(name, seed=99)
    kept = copies(through)
    other.restore(kept)
    for name_, array in copies(other).items():
        np.testing.assert_array_equal(array, kept[name_], err_msg=name_)
    for field in (through, other):
        points, gradient = batch(field, seed=7)
        field.descend(points, field.forward(points)[1], gradient, 0.01, 0.005)
    for name_, array in copies(through).items():
        np.testing.assert_allclose(copies(other)[name_], array, rtol=0, atol=1e-4 if name in ON_CUDA else 0, err_msg=name_)


@every_run
def test_the_weights_are_the_field_s_own_memory_and_all_that_it_learns(name, make):
    field, other = train(make(name), 2), make(name, seed=1)
    before = copies(field)
    assert set(field.weights()) == before.keys() & {"table", "head"}
    for key, weights in field.weights().items():
        assert weights.dtype == torch.float32 and weights.device.type == field.device and not weights.requires_grad
        np.testing.assert_array_equal(weights.cpu(), before[key])
        weights.copy_(other.weights()[key])
    points, _ = batch(field)
    assert torch.equal(field(points), other(points))
    for key in before.keys() - field.weights().keys():
        np.testing.assert_array_equal(copies(field)[key], before[key], err_msg=key)


@every_run
def test_gradients_of_batches_add_up_to_that_of_one(name, make):
    whole, halves = make(name), make(name)
    points, gradient = batch(whole)
    whole.gradient(points, whole.forward(points)[1], gradient)
    for part in (slice(0, 120), slice(120, None)):
        some = points[:, part].contiguous()
        halves.gradient(some, halves.forward(some)[1], gradient[part])
    for one, sum_ in zip(gradients(whole), gradients(halves)):
        assert relative(sum_, one) < 1e-5
    before = copies(whole)
    for field in (whole, halves):
        field.step(0.01, 0.002)
        assert not any(part.any() for part in gradients(field))
    for key in copies(whole).keys() & {"table", "head"}:
        largest = np.abs(copies(whole)[key] - before[key]).max()
        assert largest == pytest.approx(0.01 if key == "table" else 0.002, rel=1e-3)  # the first step of Adam is as long as its rate
        assert np.mean(np.abs(copies(halves)[key] - copies(whole)[key])) < 1e-3 * largest


@every_run
def test_what_was_kept_saves_time_and_changes_nothing(name, make):
    first, second = make(name), make(name)
    points, gradient = batch(first)
    first.gradient(points, first.forward(points)[1], gradient)
    second.gradient(points, None, gradient)
    for kept, anew in zip(gradients(first), gradients(second)):
        np.testing.assert_allclose(anew, kept, rtol=0, atol=1e-5 * np.abs(kept).max() if name in ON_CUDA else 0)


@every_run
def test_to_descend_is_to_add_a_gradient_and_step(name, make):
    first, second = make(name), make(name)
    points, gradient = batch(first)
    first.descend(points, first.forward(points)[1], gradient, 0.01, 0.003)
    second.gradient(points, second.forward(points)[1], gradient)
    second.step(0.01, 0.003)
    for key, array in copies(first).items():
        np.testing.assert_allclose(copies(second)[key], array, atol=1e-4 if name in ON_CUDA else 0, rtol=0)


@every_run
def test_a_step_without_a_gradient_changes_nothing(name, make):
    field = make(name)
    before = copies(field)
    field.step(0.1, 0.1)
    for key in before.keys() - {"updates"}:
        np.testing.assert_array_equal(copies(field)[key], before[key])


@every_run
def test_attenuation_is_never_negative_and_nothing_saturates(name, make):
    field = make(name)
    points, _ = batch(field)
    for bias, lowest, highest in ((-300.0, 0.0, 0.1 * SCALE), (300.0, 290 * SCALE, 310 * SCALE)):
        arrays = copies(field)
        arrays["head"][-1] = bias
        field.restore(arrays)
        assert float(field(points).min()) >= lowest and float(field(points).max()) <= highest
        mu, kept = field.forward(points)
        field.gradient(points, kept, torch.ones_like(mu))
        assert all(np.isfinite(part).all() for part in gradients(field))
    assert gradients(field)[-1][-1] == pytest.approx(300 * SCALE, rel=0.01)  # mu rises with the bias by the scale, at any height


@every_run
def test_a_volume_is_the_field_at_the_voxel_centres(name, make):
    field, cube = make(name), UnitCube(Grid.centred((5, 7, 4), (1.0, 2.0, 1.5)))
    volume = field.volume(cube)
    assert volume.shape == (4, 7, 5) and volume.dtype == np.float32
    centre = (np.array([3, 6, 1]) + 0.5) * (1.0, 2.0, 1.5) / 14.0
    expected = field(torch.tensor(centre, dtype=torch.float32)[:, None].to(field.device))
    assert volume[1, 6, 3] == pytest.approx(float(expected), rel=1e-4)


def smooth(points):
    """Between 0.2 and 1.8 water, a wave across the cube."""
    return SCALE * (1 + 0.8 * torch.sin(4 * points[0] + 3 * points[1]) * torch.cos(3 * points[2]))


@every_run
def test_a_few_steps_on_a_smooth_function_leave_a_third_of_what_a_constant_leaves(name, make):
    field, steps = make(name), 20 if INTERPRETED in name else 40
    rates = (0.06, 0.02) if name in HASHED else (0.0, 0.01 if "siren" in name else 0.04)
    for step in range(steps):
        points, _ = batch(field, 512, seed=step)
        mu, kept = field.forward(points)
        decay = 0.1 ** (step / steps)
        field.descend(points, kept, (mu - smooth(points)) / 512, rates[0] * decay, rates[1] * decay)
    points, _ = batch(field, 2000, seed=1000)
    wanted = smooth(points)
    assert float((field(points) - wanted).square().mean().sqrt()) < 0.35 * float(wanted.std())


@pytest.mark.parametrize("name", [n for n in RUNS if n not in ("numba", "NI-NeRF's head, numba") and n not in ON_CUDA])
def test_a_batch_too_large_to_keep_has_the_same_gradient(name, make):
    kept_whole, in_pieces = make(name), make(name)
    in_pieces.at_once = 64
    points, gradient = batch(kept_whole)
    for field in (kept_whole, in_pieces):
        field.gradient(points, field.forward(points)[1], gradient)
    assert in_pieces.forward(points)[1] is None and kept_whole.forward(points)[1] is not None
    np.testing.assert_allclose(in_pieces(points), kept_whole(points), rtol=1e-5)
    for whole, pieces in zip(gradients(kept_whole), gradients(in_pieces)):
        assert relative(pieces, whole) < 1e-5


@pytest.mark.parametrize("first, second", [("numba", "torch"), ("numba", "triton, interpreted"), ("numba", "tinycudann, played")])
def test_backends_take_the_same_steps_from_the_same_seed(first, second, make):
    """And go on from each other's checkpoints: what one began, another ends."""
    ours, theirs = train(make(first), 3), train(make(second), 3)
    for key, array in copies(ours).items():
        np.testing.assert_allclose(copies(theirs)[key].reshape(array.shape), array, atol=2e-4, err_msg=key)
    theirs.restore(copies(ours))
    points, _ = batch(ours)
    np.testing.assert_allclose(theirs(points), ours(points), rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in HASHED if n not in ON_CUDA])
def test_a_head_moves_from_any_backend_to_any_other(name, make):
    trained, fresh = train(make(name), 3), make("numba" if RUNS[name][0] == HASH else "NI-NeRF's head, numba", seed=5)
    fresh.set_head(trained.head_parameters())
    np.testing.assert_array_equal(fresh.head_parameters(), trained.head_parameters())
    other = make(name, seed=6)
    other.set_head(fresh.head_parameters())
    np.testing.assert_array_equal(other.arrays()["head"], fresh.arrays()["head"])
    with pytest.raises(InputError, match="does not fit"):
        other.set_head(np.zeros(other.arrays()["head"].size + 1, np.float32))


@pytest.mark.parametrize("name", [n for n in HASHED if n not in ON_CUDA and n != "numba" and "head, numba" not in n])
def test_a_channel_that_is_masked_does_not_count_nor_learn(name, make):
    field = make(name)
    channels = RUNS[name][0].head.channels
    field.mask = np.arange(channels) < channels - 2
    before = copies(field)
    train(field, 2)
    rows = RUNS[name][0].grid.layout()
    last = slice(2 * int(rows[-1, 1]), None)
    changed = np.array(field.arrays()["table"]).reshape(-1) != before["table"].reshape(-1)
    assert not changed[last].any() or RUNS[name][0].head.layer_norm
    points, _ = batch(field)
    assert relative(field(points), exact(name, field, points)[0].detach()) < 1e-5
    assert not field.mask[-2:].any() and field.mask[:-2].all()


def test_networks_without_a_head_say_so(make):
    for call in (lambda f: f.head_parameters(), lambda f: f.set_head(np.zeros(3)), lambda f: f.mask, lambda f: f.features(batch(f)[0])):
        with pytest.raises(InputError, match="hash"):
            call(make("siren"))


@pytest.mark.parametrize("name", ["torch", "NI-NeRF's head, torch", "siren", "relu"])
def test_autocast_blurs_little_and_leaves_parameters_in_float32(name, make):
    field, blurred = train(make(name), 2), train(make(name), 2)
    blurred.precision = "bfloat16"
    points, gradient = batch(field)
    for one in (field, blurred):
        one.gradient(points, one.forward(points)[1], gradient)
    assert 0 < relative(blurred(points), field(points)) < 0.01
    for fine, coarse in zip(gradients(field), gradients(blurred)):
        assert relative(coarse, fine) < 0.1 and coarse.dtype == np.float32
    assert all(array.dtype == np.float32 for key, array in blurred.arrays().items() if key != "updates")


def test_steps_of_torch_repeat_exactly_and_hardly_depend_on_its_threads(make):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (2, 2, 1):
            torch.set_num_threads(threads)
            field = make("torch")
            points, gradient = batch(field, 20_000)
            for _ in range(2):
                field.descend(points, field.forward(points)[1], gradient, 0.01, 0.01)
            results.append(copies(field))
    finally:
        torch.set_num_threads(before)
    for key, array in results[0].items():
        np.testing.assert_array_equal(results[1][key], array, err_msg=key)
        np.testing.assert_allclose(results[2][key], array, atol=1e-5, err_msg=key)
