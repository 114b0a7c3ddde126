"""r2-gaussian ends alike whatever runs its Gaussians, goes on with another backend, and keeps its tensors on the device."""

import logging
import os
import sys
from itertools import islice

import numpy as np
import played_device
import pytest
import torch
from gaussian_cases import quicken

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"

from SparseCTReconLib import methods
from SparseCTReconLib.fields.attraction import Attraction
from SparseCTReconLib.gaussians import backends, tile_lists
from SparseCTReconLib.methods.r2_gaussian import Run

SHORT = {"gaussians": 60, "fit_steps": 10, "iterations": 10, "views_per_step": 1}
PAPER = {"gaussians": 60, "preset": "paper", "iterations": 1000, "most": 0}
CLONING = {**SHORT, "loss": "l1-ssim", "most": 70}
"""Where Gaussians come and go, rounding soon decides which: runs are alike to the bit, or not at all."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def run(tiny, monkeypatch):
    """Makes a run on the tiny scan, with a backend or the device's own."""

    def begin(options, backend=None, device="cpu"):
        if backend == "triton" and device != "cuda":
            if reason := backends.triton_fails("cpu"):
                pytest.skip(reason)
            quicken(monkeypatch)
        if backend:
            monkeypatch.setattr(backends, "choose", lambda device="cpu": backend)
        return Run(*tiny, methods.parse_options(methods.get("r2-gaussian"), options), device)

    return begin


def last(run, resume=None, states=None):
    """The last state, or the last of the first few."""
    *_, state = islice(run.states(resume), states)
    return state


def unlike(one, other):
    return np.linalg.norm(one.volume() - other.volume()) / np.linalg.norm(other.volume())


@pytest.mark.parametrize("options, states", [(SHORT, None), (PAPER, 3)], ids=["squares", "paper"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_run_ends_alike_whatever_runs_it(backend, options, states, run):
    ours, numba = (last(run(options, one), states=states) for one in (backend, "numba"))
    assert ours.facts == {"gaussian_backend": backend} and numba.facts == {"gaussian_backend": "numba"}
    assert ours.metrics["loss"] == pytest.approx(numba.metrics["loss"], rel=1e-3) and unlike(ours, numba) < 5e-3


def test_what_numba_began_triton_goes_on_with(run):
    begun, through = (last(run(PAPER, "numba"), states=states) for states in (2, 3))
    ended = last(run(PAPER, "triton"), begun.checkpoint(), 1)
    assert unlike(ended, through) < 5e-3 and ended.step == through.step
    assert ended.checkpoint().keys() == through.checkpoint().keys()


@pytest.fixture
def device(monkeypatch):
    """A played device with Triton's kernels."""
    from SparseCTReconLib.gaussians import triton_rasteriser, triton_voxeliser

    for module, names in (
        (triton_rasteriser, ("_see", "_project", "_project_back")),
        (triton_voxeliser, ("_bound", "_fill", "_fill_back")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, played_device.Launches(getattr(module, name)))
    monkeypatch.setattr(backends, "_known", lambda device, backend: "triton")
    monkeypatch.setattr(backends, "_list_maker", lambda device: tile_lists.by_torch)
    return played_device.DEVICE


def test_everything_stays_on_the_device_but_what_is_handed_out(run, device, tiny):
    with played_device.played():
        elsewhere, again = (run(CLONING, "triton", device) for _ in range(2))
        for one in (elsewhere, again):
            one.attraction = Attraction(torch.zeros(tiny[1].shape), tiny[0].mu_water, 0.0, 2)
        for state in elsewhere.states():
            if state.step == state.steps - 1:
                kept = {name: np.array(array) for name, array in state.checkpoint().items()}
        assert state.metrics["gaussians"] == 70 and np.isfinite(state.volume()).all()
        assert all(type(array) is np.ndarray for array in state.checkpoint().values())
        assert np.array_equal(last(again, kept).volume(), state.volume())


def test_the_played_device_notices_a_tensor_that_was_left_behind():
    with played_device.played():
        there = torch.ones(3, device=played_device.DEVICE)
        assert (there + 1).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("start, said", [("admm-tv", "ADMM-TV runs on the cpu"), ("fdk", "FDK runs on the cpu")])
def test_the_log_says_what_runs_where(start, said, run, caplog):
    with caplog.at_level(logging.INFO):
        run({**SHORT, "start": start}, device="cuda")
        last(run(SHORT, "torch"))
    assert f"{said}, the Gaussians on cuda" in caplog.text and "Gaussians run on cpu by torch" in caplog.text


@pytest.mark.gpu
@needs_gpu
def test_a_run_on_a_gpu_ends_as_one_on_the_cpu(run):
    assert unlike(last(run(SHORT, device="cuda")), last(run(SHORT))) < 5e-3


@pytest.mark.gpu
@needs_gpu
def test_a_run_on_a_gpu_is_twice_the_same(run):
    one, two = (last(run(CLONING, device="cuda")) for _ in range(2))
    assert np.array_equal(one.volume(), two.volume())
