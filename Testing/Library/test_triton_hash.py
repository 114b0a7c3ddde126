"""Triton's kernels: on its interpreter against the readable reference, and compiled for GPUs that are not here."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"

from SparseCTReconLib.fields import backends, reference, torch_adam, torch_hash
from SparseCTReconLib.fields.adam import Adam
from SparseCTReconLib.fields.hash_grid import HashGrid

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ENCODINGS = {
    "dense": HashGrid(3, 3, 17, 20),
    "hashed": HashGrid(3, 8, 40, 8),
    "first dense, then hashed": HashGrid(4, 4, 60, 10),
    "a box that is no cube": HashGrid(3, 5, 23, 20, (1.0, 0.37, 0.71)),
    "a thin slice, hashed": HashGrid(3, 8, 60, 8, (0.22, 1.0, 0.02)),
}


@pytest.fixture
def triton_hash():
    if reason := backends.triton_fails(DEVICE):
        pytest.skip(reason)
    from SparseCTReconLib.fields import triton_hash

    return triton_hash


def points_in(box, count=400):
    """Points in the box, on its faces and corners and beside it."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.2, 1.2, (3, count))
    faces = rng.integers(0, 4, (3, count))
    points = np.where(faces == 0, 0, np.where(faces == 1, 1, points))
    return torch.from_numpy((points * np.array(box)[:, None]).astype(np.float32))


def relative(a, b):
    return float((a.cpu() - b).norm() / b.norm())


def check(encode, grid, device="cpu"):
    points = points_in(grid.box)
    table = torch.from_numpy(grid.initial_table(np.random.default_rng(1)))
    weights = torch.randn(grid.channels, points.shape[1], generator=torch.Generator().manual_seed(2))
    weights[:, ::5] = 0
    exact = table.double().requires_grad_()
    expected = reference.encode(points.double(), exact, grid)
    (expected * weights).sum().backward()
    ours = table.to(device).requires_grad_()
    features = encode(points.to(device), ours, grid)
    (features * weights.to(device)).sum().backward()
    assert relative(features.detach(), expected.detach()) < 1e-5
    assert relative(ours.grad, exact.grad) < 1e-4


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_encoding_and_its_gradient_are_those_of_the_readable_reference(name, pairs, triton_hash, monkeypatch):
    """With one atomic for each feature, and with one for both."""
    if pairs and DEVICE == "cuda" and not triton_hash._pairs(torch.device("cuda", 0)):
        pytest.skip("this GPU adds no pairs")
    monkeypatch.setattr(triton_hash, "_pairs", lambda device: pairs)
    check(triton_hash.encode, ENCODINGS[name], DEVICE)


@pytest.mark.parametrize("name", ENCODINGS)
def test_torch_s_encoding_without_triton_is_the_same(name):
    check(torch_hash.encode, ENCODINGS[name], DEVICE)


@pytest.mark.parametrize("count", [0, 1, 255, 257])
def test_any_number_of_points_is_encoded(count, triton_hash):
    grid = ENCODINGS["dense"]
    table = torch.from_numpy(grid.initial_table(np.random.default_rng(1))).to(DEVICE).requires_grad_()
    points = points_in(grid.box, 300)[:, :count].to(DEVICE)
    features = triton_hash.encode(points, table, grid)
    features.sum().backward()
    assert features.shape == (grid.channels, count)
    assert torch.allclose(features, torch_hash.encode(points, table, grid), atol=1e-6)
    assert bool(table.grad.any()) == (count > 0)


def test_no_gradient_is_worked_out_where_none_is_wanted(triton_hash):
    grid = ENCODINGS["dense"]
    table = torch.from_numpy(grid.initial_table(np.random.default_rng(1))).to(DEVICE)
    assert not triton_hash.encode(points_in(grid.box).to(DEVICE), table, grid).requires_grad


@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_adam_s_steps_are_those_of_the_compiled_optimiser(kernel, request):
    update = torch_adam.update if kernel == "torch" else request.getfixturevalue("triton_hash").update
    rng = np.random.default_rng(3)
    start = rng.standard_normal(1500).astype(np.float32)
    compiled, ours = Adam(start.copy()), torch_adam.TorchAdam(torch.from_numpy(start.copy()).to(DEVICE), update)
    for rate in (0.05, 0.05, 0.02):
        gradient = rng.standard_normal(1500).astype(np.float32)
        gradient[rng.random(1500) < 0.4] = 0
        given = torch.from_numpy(gradient.copy()).to(DEVICE)
        compiled.step(gradient, rate)
        ours.step(given, rate)
        assert not given.any()
    for mine, theirs in ((ours.parameters, compiled.parameters), (ours.first, compiled.first), (ours.second, compiled.second)):
        np.testing.assert_allclose(mine.cpu(), theirs, atol=2e-6)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from SparseCTReconLib.fields import triton_hash as T

capability = int(sys.argv[1])
floats, numbers = "*fp32", {"count": "i32", "edge_x": "fp32", "edge_y": "fp32", "edge_z": "fp32", "BLOCK": "constexpr"}
arguments = {"points": floats, "layout": "*i32", "scales": floats}
kernels = [
    (T._encode, arguments | {"table": floats, "out": floats}, {}),
    (T._encode_backward, arguments | {"gradient": floats, "table_gradient": floats}, {"PAIRS": capability >= 90}),
]
for kernel, pointers, constants in kernels:
    types = pointers | numbers | dict.fromkeys(constants, "constexpr")
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names) if name in pointers}
    source = ASTSource(kernel, {name: types[name] for name in kernel.arg_names}, constants | {"BLOCK": T.POINTS}, aligned)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": T.WARPS})
    print(compiled.metadata.shared, compiled.asm["ptx"].replace("\\n", " ; "))
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability, atomic", [(80, "atom.global.gpu.relaxed.add.f32"), (90, "atom.global.gpu.relaxed.add.v2.f32")])
def test_kernels_compile_for_gpus_that_are_not_here_as_their_documentation_says(capability, atomic, tmp_path):
    """A vertex's two features are one load, on Hopper one atomic, and threads exchange nothing."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, str(capability)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    forward, backward = result.stdout.splitlines()
    assert forward.startswith("0 ") and backward.startswith("0 ")
    assert forward.count("ld.global.v2.b32") == 8
    assert backward.count(atomic) == backward.count("atom.") == (8 if capability >= 90 else 16)
