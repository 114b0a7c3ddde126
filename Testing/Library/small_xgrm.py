"""Tiny X-GRMs and scans for them, which tests of network and training share."""

import numpy as np
import torch
from phantoms import Phantom

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import xgrm
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.networks.posed_views import posed
from SparseCTReconLib.networks.xgrm import GAUSSIANS, Size
from SparseCTReconLib.scan import Scan

GRID = Grid.centred((7, 6, 5), (3.0, 2.5, 4.0), (1.0, -2.0, 3.0))


def size(head=GAUSSIANS, **changes):
    """Of a network that runs in milliseconds."""
    values = {
        "edge": 16,
        "patch": 4,
        "width": 16,
        "heads": 2,
        "encoder": 1,
        "fusion": 2,
        "features": 6,
        "finer": 2,
        "octaves": 1,
        "hidden": 12,
    }
    return Size(**(values | changes), head=head)


def network(head=GAUSSIANS, seed=0, **changes):
    """A network that has learnt something: all its weights are noise, so that nothing is zero by design."""
    made = xgrm.begin(size(head, **changes), seed)
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=numbers))
    return made


def scan(views=4, seed=0, **changes):
    """A scan of a phantom about LPS 0, from a half circle by default."""
    wanted = {"detector_shape": (16, 16), "pixel_mm": (3.0, 3.0), "arc_rad": np.pi, "start_rad": 0.3 * seed}
    geometry = Geometry.circular(views, 200.0, 320.0, **(wanted | changes))
    return Scan(Phantom(12.0).line_integrals(geometry), geometry)


def views_of(made, of):
    """What a network is shown of a scan, and the box that it knows."""
    box = Box.of(of.geometry)
    return posed(of, box, made.size.edge, made.size.patch), box


def raw(made, of, grid=GRID):
    """What a network decodes a scan's voxels to."""
    with torch.no_grad():
        return made(*views_of(made, of), grid)
