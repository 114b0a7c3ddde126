"""Scans of phantoms to learn from, the stages of a training, and trainings of a small network of DiCE."""

from dataclasses import replace

import numpy as np
from phantoms import Phantom
from small_dice import SMALL, orbit

from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks.dice import begin
from SparseCTReconLib.scan import Scan
from SparseCTReconLib.training.data import Example
from SparseCTReconLib.training.dice import DiCETraining, Settings
from SparseCTReconLib.training.dice_examples import HeldExamples, Stage

PRETRAIN, ADAPT, ADJUST = Stage("pretrain", (2, 5), 6), Stage("adapt", (3, 3), 6), Stage("adjust", (3, 3), 6)
LEARNER = replace(SMALL, plain_output=True)


def held(radius_mm=14.0, views=12):
    """A phantom with a scan of many views."""
    phantom, grid = Phantom(radius_mm), Grid.centred((10, 9, 8), (5.0,) * 3)
    scan = Scan(phantom.line_integrals(orbit(views)), orbit(views))
    return Example(scan, grid, (phantom.volume(grid) / scan.mu_water).astype(np.float16))


def training(scans, stage=PRETRAIN, steps=6, network=None, seed=0, fabric=None, **settings):
    settings = Settings(steps, **({"rate": 5e-3, "points": 50} | settings))
    return DiCETraining(HeldExamples(scans, stage, seed), network or begin(LEARNER, 1), stage, settings, seed, fabric=fabric)
