"""Folders, weights and configurations with which the command line trains tiny networks of DeepSparse and X-GRM in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from phantoms import Phantom
from small_dice import SMALL
from small_dice import network as dice_network
from small_xgrm import network as xgrm_network

from SparseCTReconLib import write_volume
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.networks import dice_weights, xgrm_weights

EXAMPLES = sorted((Path(__file__).parents[2] / "Resources" / "Training").glob("*.toml"))

TINY = """
seed = 3
[data]
voxels = 16
spacing_mm = 10
cache = "{folder}/cache"
[card]
anatomies = ["limb"]
credit = "balls"
licence = "CC0"
[scans]
voxels = [8]
of = 8
{views}
[output]
checkpoint_s = 0
"""
FEW = "few = [3, 4]\ndense = 6\n"
DICE = TINY + "[stage]\n" + FEW + "[training]\nsteps = 4\npoints = 60\n"
FINETUNE = TINY + "[views]\n" + FEW + "[adapt]\nsteps = 3\npoints = 60\n[adjust]\nsteps = 2\npoints = 60\n"
XGRM = TINY + "[training]\nsteps = 4\nbox = 8\nxrays = 1\n"
CONFIGS = {"dice": DICE, "finetune": FINETUNE, "xgrm": XGRM}


def folder_of_cts(place, radii=(75.0, 60.0)):
    """Balls of soft tissue and bone, with files beside them that are no CTs."""
    place.mkdir()
    grid = Grid.centred((20, 20, 20), (8.0,) * 3)
    for number, radius in enumerate(radii):
        write_volume(Volume((50_000 * Phantom(radius).volume(grid) - 1000).astype(np.float32), grid), place / f"ball_{number}.nrrd")
    (place / "notes.txt").write_text("not a CT")
    (place / "broken.nrrd").write_bytes(b"NRRD0004\nnonsense")
    write_volume(Volume(np.full((9, 9, 9), -1000.0, np.float32), Grid.centred((9, 9, 9), (5.0,) * 3)), place / "air.nii.gz")
    return place


def configuration(name, folder, extra=""):
    """A tiny training's configuration and the weights that it begins with, written to a folder."""
    start, config = folder / f"{name}-start.safetensors", folder / f"{name}.toml"
    if name == "xgrm":
        xgrm_weights.save(xgrm_network(), start, {})
    else:
        dice_weights.save(dice_network(replace(SMALL, plain_output=True)), start, {})
    text = CONFIGS[name].format(folder=folder.as_posix(), views="views = [3, 4]" if name == "xgrm" else "")
    config.write_text(text + extra, encoding="utf-8")
    return config, start
