"""An experiment: DiCE's volume of features fitted to the projections of the scan at hand, its weights staying as they are.

    minimise over G_1    |A mu(G_1) - y|^2 / |y|^2  +  a |G_1 - G_1'|^2 / |G_1'|^2            G_1': as the network made it

mu is decoded on a coarse grid over the box, A projects it. The features then explain the measurements better; whether the volume becomes
better is not known, and what lies outside of the box is counted to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..grid import Grid
from ..operators import projector
from ..scan import Scan
from .dice import DiCE, Features
from .dice_views import Box

EDGE = 32
"""Voxels along an edge of the coarse grid."""

ANCHOR, RATE = 0.1, 0.02
"""Weight a; size of a step over the root mean square of the features."""


def refined(network: DiCE, features: Features, scan: Scan, box: Box, steps: int) -> Iterator[tuple[Features, float]]:
    """Yield the features after each step of Adam, and the relative residual before it.

    Parameters
    ----------
    network : DiCE
        In evaluation mode.
    features : Features
        Of the one scan.
    scan : Scan
    box : Box
        As the network knows it.
    steps : int
    """
    grid = Grid.centred((EDGE,) * 3, tuple(np.asarray(box.edges_mm) / EDGE), box.centre_mm)
    A = projector(scan.geometry, grid, network.device.type)
    y = A.projections(scan.projections)
    matrix = box.voxels(grid).to(network.device)
    index = torch.stack(torch.meshgrid(*(torch.arange(EDGE, device=network.device),) * 3, indexing="ij")[::-1], dim=-1)
    points = index.reshape(-1, 3).float() @ matrix[:, :3].T + matrix[:, 3]
    begun = features.volume.detach()
    volume = begun.clone().requires_grad_()
    size = float(begun.square().mean()) + 1e-12
    optimiser = torch.optim.Adam([volume], lr=RATE * size**0.5)
    unit, scale = network.configuration.top * scan.mu_water, float(y.square().sum()) or 1.0
    for _ in range(steps):
        with torch.enable_grad():
            values = network.decode(features._replace(volume=volume), points[None])[0]
            misfit = (A(values.clamp(min=0).view(A.volume_shape) * unit) - y).square().sum() / scale
            loss = misfit + ANCHOR * (volume - begun).square().mean() / size
        (volume.grad,) = torch.autograd.grad(loss, volume)
        optimiser.step()
        yield features._replace(volume=volume.detach().clone()), float(misfit.detach()) ** 0.5
