"""A cloud of Gaussians and poses that see it, for tests of what projects and fills with them."""

import numpy as np

from SparseCTReconLib.gaussians.cloud import Cloud
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid

GRID = Grid.centred((32, 28, 24), (4.0, 5.0, 6.0))


def cloud(n=40, seed=0, unit=0.02, bounds=(4.0, 20.0)) -> Cloud:
    rng = np.random.default_rng(seed)
    extent = np.array(GRID.size) * GRID.spacing_mm
    scales = rng.uniform(1.1 * bounds[0], 0.8 * bounds[1], (n, 3))
    centres = rng.uniform(0.25, 0.75, (n, 3)) * extent
    return Cloud.of(centres, rng.uniform(0.2, 1.5, n) * unit, scales, unit, bounds, rng.normal(size=(n, 4)))


def poses() -> dict[str, Geometry]:
    shape, pixel = (48, 56), (6.0, 5.0)
    tilted = Geometry.circular(6, 600.0, 900.0, shape, pixel)
    tilt = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    turned = Geometry(*(pose @ tilt.T for pose in (tilted.source, tilted.detector, tilted.u, tilted.v)), shape, pixel)
    return {
        "circle": Geometry.circular(4, 600.0, 900.0, shape, pixel),
        "half fan": Geometry.circular(4, 600.0, 900.0, shape, pixel, offset_mm=(90.0, 20.0)),
        "tilted orbit": turned,
        "upside down": Geometry(turned.source, turned.detector, turned.u, -turned.v, shape, pixel),
        "close source": Geometry.circular(4, 180.0, 300.0, shape, (8.0, 7.0)),
    }


def double(cloud: Cloud):
    return [of.detach().double().requires_grad_() for of in cloud.gaussians()]


def relative(found, wanted) -> float:
    return float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())


def quicken(monkeypatch):
    """Large programs, of which the interpreter needs fewer."""
    from SparseCTReconLib.gaussians import triton_rasteriser, triton_voxeliser

    for module, lanes, edge in ((triton_rasteriser, "PIXELS", 32), (triton_voxeliser, "VOXELS", 16)):
        for constant, value in ((lanes, 512), ("OWNED", 64), ("AT_ONCE", 32), ("TILE", edge)):
            monkeypatch.setattr(module, constant, value)
