"""A field and a cloud of Gaussians that learn in a second, for tests of what they learn from."""

import numpy as np
import torch
from phantoms import Phantom
from small_scanners import circular, cubic

from SparseCTReconLib.fields.field import AttenuationField
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.ray_training import Measurements, RayTraining
from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.gaussians.optimiser import CloudOptimiser
from SparseCTReconLib.gaussians.rasteriser import Rasteriser
from SparseCTReconLib.gaussians.training import CloudTraining, Measured, Rates
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector

MU_WATER = 0.02
GRID = Grid.centred((16, 15, 14), (2.0,) * 3)
RATES = Rates(0.1, 5e-2, 5e-2, 1e-2)


def small_ball(grid):
    """A phantom well inside the grid, and its line integrals in 8 views."""
    phantom, geometry = Phantom(7.0), circular(views=8)
    return phantom, projector(geometry, grid), phantom.line_integrals(geometry).astype(np.float32)


def field_training(loss, base=None, tv_weight=0.0, seed=0):
    """A field on `cubic()` that learns from a small ball's rays."""
    grid = cubic()
    _, A, projections = small_ball(grid)
    encoding = HashGrid(4, 4, 16, 14)
    output = "squareplus" if base is None else "linear"
    field = AttenuationField(encoding, Head(8, 16, output=output), MU_WATER, np.random.default_rng(seed))
    weights = torch.rand(projections.shape, generator=torch.Generator().manual_seed(2)) * 0.5 + 0.5
    return RayTraining(field, A, Measurements(projections, weights, MU_WATER, None, tv_weight, base), loss, rays=100, spacing=1.0)


def cloud(n=20, density=MU_WATER, scale=3.0):
    """Gaussians in the middle of `GRID`."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(8, 20, (n, 3))
    return Cloud.of(centres, np.full(n, density), np.full((n, 3), scale), MU_WATER, (0.1, 16.0))


def cloud_training(of: Cloud, loss="squares", tv_weight=0.0, projections=None):
    """Gaussians on `GRID` that learn from the rays of others."""
    geometry = circular(views=6)
    if projections is None:
        projections = Rasteriser(geometry, GRID)(*cloud(30, 0.7 * MU_WATER, 2.5).gaussians(), range(6))
    return CloudTraining(CloudOptimiser(of), geometry, GRID, Measured(projections, None, tv_weight), loss)
