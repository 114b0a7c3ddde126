"""Networks keep their tensors on the device that they are on, in use and in training: seen on a played one, without a GPU."""

import contextlib
from dataclasses import replace

import numpy as np
import played_device
import pytest
import small_dice
import small_xgrm
import torch
from small_dice import SMALL

from SparseCTReconLib.gaussians import backends
from SparseCTReconLib.networks import dice, scan_range, xgrm
from SparseCTReconLib.networks.xgrm_result import Reconstruction
from SparseCTReconLib.training.dice import DiCETraining, Settings
from SparseCTReconLib.training.dice_examples import HybridExample, Stage

ELSEWHERE = played_device.DEVICE
GRID, SCAN = small_xgrm.GRID, small_xgrm.scan()
FIRST = np.full(GRID.shape, 0.02, np.float32)


def moved(module, device="cpu", **how):
    """As Module.to, which knows no tensors of another class."""
    if str(device) == ELSEWHERE:
        for part in module.modules():
            for held in (part._parameters, part._buffers):
                held.update(
                    {name: _sent(tensor) for name, tensor in held.items() if tensor is not None and str(tensor.device) != ELSEWHERE}
                )
    return module


def _sent(tensor):
    there = tensor.detach().to(ELSEWHERE)
    return torch.nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else there


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """The device knows nothing of mixed precision."""
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    monkeypatch.setattr(torch, "autocast", lambda *what, **how: contextlib.nullcontext())
    monkeypatch.setattr(backends, "_known", lambda device, backend: "torch")
    monkeypatch.setitem(dice.POINTS_AT_ONCE, ELSEWHERE, 64)
    monkeypatch.setitem(xgrm.HELD, ELSEWHERE, 1 << 14)


def as_on_the_cpu(made, use):
    """What a network gives there, which is nearly what it gives here."""
    here = use(made)
    with played_device.played():
        there = use(made.to(ELSEWHERE))
    assert isinstance(there, np.ndarray) and np.ptp(here) > 0
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4 * np.abs(here).max())


def learnt(around):
    """A DiCE that betters a first volume by what the views show."""
    made = dice.begin(replace(SMALL, plain_output=True, around=around))
    with torch.no_grad():
        made.points.layers[-1].weight.fill_(0.1)
    return made


@pytest.mark.parametrize("around", [0, 3])
def test_dice_makes_the_same_volume(around):
    made = small_dice.network(replace(SMALL, plain_output=True)) if not around else learnt(around)
    as_on_the_cpu(made, lambda network: dice.reconstruct(network, SCAN, GRID, first=FIRST if around else None))
    as_on_the_cpu(small_dice.network(), lambda network: scan_range.features(network, SCAN))


@pytest.mark.parametrize("around", [0, 3])
def test_xgrm_makes_the_same_volume_and_x_rays(around):
    made = small_xgrm.network(around=around)
    as_on_the_cpu(made, lambda network: Reconstruction(network, SCAN, GRID, FIRST if around else None).volume())
    made = small_xgrm.network(around=around)
    as_on_the_cpu(made, lambda network: Reconstruction(network, SCAN, GRID, FIRST if around else None).xrays(SCAN.geometry))


@pytest.mark.parametrize("stage, around", [("pretrain", 0), ("adjust", 0), ("adapt", 3)])
def test_dice_learns_the_same(stage, around):
    truths = [np.random.default_rng(seed).random(GRID.shape).astype(np.float16) for seed in range(4)]
    examples = [HybridExample(small_xgrm.scan(6), GRID, truth, truth[::-1].copy() if around else None, few=3) for truth in truths]
    settings, found = Settings(2, 1e-3, 2, 20), []
    for device in ("cpu", ELSEWHERE):
        with played_device.played() if device == ELSEWHERE else contextlib.nullcontext():
            begun = dice.begin(replace(SMALL, plain_output=True, around=around))
            training = DiCETraining(examples, begun, Stage(stage, (2, 4), 6), settings, device=device)
            found.append(list(training.losses()))
            assert str(training.averaged().device) == device
    for here, there in zip(*found):
        assert there == pytest.approx(here, rel=1e-3, abs=1e-5)
