"""DiCEs that run in milliseconds, and what they are shown."""

from dataclasses import replace

import numpy as np
import torch

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.networks.dice import begin
from SparseCTReconLib.networks.dice_configuration import Configuration
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.scan import Scan

SMALL = Configuration((2, 3, 4), cells=5, codes=6, decoder=4, points=(5, 3))
RELEASE = replace(SMALL, release=True, denoising=True)


def orbit(views=5, detector_shape=(12, 16), **changes):
    """Half a circle about a field of view of about 50 mm."""
    arguments = {"sid_mm": 200.0, "sdd_mm": 300.0, "pixel_mm": (5.0, 5.0), "arc_rad": np.pi} | changes
    return Geometry.circular(views, detector_shape=detector_shape, **arguments)


def random_scan(geometry=None, seed=0):
    """Noise as line integrals, smooth enough to tell one place from another."""
    geometry = geometry or orbit()
    return Scan(np.random.default_rng(seed).random((geometry.views, *geometry.detector_shape)), geometry)


def network(configuration=SMALL, seed=0):
    """A network that has seen a batch, so that its statistics and codes are not those of the start."""
    made, scan = begin(configuration, seed).train(), random_scan(seed=seed + 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.from_numpy(np.random.default_rng(parameter.numel()).random(parameter.shape)))
        made([made.looks(scan, Box.of(scan.geometry))] * 2, torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(seed)))
    return made.eval()
