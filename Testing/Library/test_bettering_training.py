"""Training of networks that better a first volume: what they are shown, what is lowered, that they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_dice import SMALL, orbit
from small_xgrm import network as small_xgrm

from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import xgrm
from SparseCTReconLib.networks.dice import begin, reconstruct
from SparseCTReconLib.networks.xgrm_result import Reconstruction
from SparseCTReconLib.scan import Scan
from SparseCTReconLib.training.dice import DiCETraining, Settings
from SparseCTReconLib.training.dice_examples import HybridExample, Stage
from SparseCTReconLib.training.xgrm import Losses, XGRMTraining
from SparseCTReconLib.training.xgrm import Settings as XGRMSettings

GRID = Grid.centred((16, 16, 16), (3.5,) * 3)
FEW = 4


def held(radius_mm):
    """A phantom, and a first volume of it that is too faint and too large."""
    geometry = orbit(6)
    truth, first = (Phantom(radius).volume(GRID) / 0.02 for radius in (radius_mm, radius_mm + 2))
    return HybridExample(
        Scan(Phantom(radius_mm).line_integrals(geometry), geometry),
        GRID,
        truth.astype(np.float16),
        (0.9 * first).astype(np.float16),
        few=FEW,
    )


@pytest.fixture(scope="module")
def examples():
    return [held(radius) for radius in (12.0, 16.0)]


class Turns:
    def __init__(self, of):
        self.of = of

    def __getitem__(self, index):
        return self.of[index % len(self.of)]


def dice_training(examples, steps=30):
    network = begin(replace(SMALL, plain_output=True, around=2), 1)
    return DiCETraining(Turns(examples), network, Stage("adapt", (FEW, FEW), 6), Settings(steps, 3e-3, points=2000, falling=True))


def xgrm_training(examples, steps=30, **changes):
    settings = XGRMSettings(steps, 3e-3, batch=2, box=12, **changes)
    shown = [replace(each, scan=each.scan.subset(np.arange(FEW))) for each in examples]
    return XGRMTraining(Turns(shown), small_xgrm(around=2), settings)


def test_dice_is_shown_the_views_of_the_first_volume_alone(examples):
    seen, *_ = dice_training(examples).batch(examples, np.random.default_rng(0))
    assert [len(look.images) for look in seen] == [FEW, FEW]


def test_dice_lowers_the_share_of_the_first_volumes_error_and_learns(examples):
    made = dice_training(examples)
    found = list(made.losses())
    assert found[0]["left"] == pytest.approx(found[0]["left without views"], rel=0.15)
    assert found[-1]["left"] < 0.75 * found[0]["left"] and found[-1]["left without views"] < 0.85 * found[0]["left without views"]
    network, example = made.averaged(), examples[0]
    first, truth = (part.astype(np.float32) for part in (example.first, example.truth))
    volume = reconstruct(network, example.scan.subset(np.arange(FEW)), GRID, first=first * 0.02) / 0.02
    assert np.square(volume - truth).mean() < 0.9 * np.square(first - truth).mean()


def test_losses_as_shares_of_anothers():
    found = Losses(*torch.tensor([4.0, 6.0, 1.0])).shares(Losses(*torch.tensor([16.0, 3.0, 2.0])))
    assert [float(loss) for loss in found] == pytest.approx([0.5, 2.0, 0.5], rel=1e-3)
    assert max(Losses(*torch.zeros(3)).shares(Losses(*torch.zeros(3)))) == 0


def test_x_grm_begins_as_its_first_volume_and_learns(examples):
    made = xgrm_training(examples, xrays=0)
    losses = [step["squares"] for step in made.losses()]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    for parameter in made.network.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_x_grms_volume_is_the_first_one_bettered(examples):
    example, network = examples[0], small_xgrm(around=2)
    with torch.no_grad():
        for part in (network.last, network.first.network.last):
            part.weight.zero_()
            part.bias.zero_()
    first = example.first.astype(np.float32) * 0.02
    volume = Reconstruction(network, example.scan.subset(np.arange(FEW)), GRID, first).volume()
    np.testing.assert_allclose(volume, np.maximum(first, 0.001 * 0.02), atol=1e-5)


def test_xrays_count_in_shares_too(examples):
    made = xgrm_training(examples, steps=1)
    made.network.load_state_dict(xgrm.begin(made.network.size).state_dict())
    found = made.step()
    assert 0.3 < found["photometric"] < 30 and 0.1 < found["structure"] < 30
