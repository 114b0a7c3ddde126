"""FDK: what is in the object comes out with its value, on full and short scans, displaced detectors and irregular views."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import Phantom

from SparseCTReconLib.classical import fdk as module
from SparseCTReconLib.classical.fdk import fdk
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid

MU = 0.02
CYLINDER = Phantom(60.0, ((MU, (0.1, -0.05, 0.0), (0.6, 0.6, 50.0), 0.0),))
"""A long cylinder of radius 36 mm, off the axis."""

GRID = Grid.centred((48, 48, 5), (2.0, 2.0, 4.0))
DETECTOR = {"sid_mm": 400.0, "sdd_mm": 600.0, "detector_shape": (9, 90), "pixel_mm": (6.0, 2.2)}
SHORT = np.radians(200)


def orbit(views=150, **changes):
    return Geometry.circular(views, **(DETECTOR | changes))


def reconstruct(geometry, phantom=CYLINDER, grid=GRID, window="hann"):
    return fdk(torch.from_numpy(phantom.line_integrals(geometry)), geometry, grid, window).numpy()


def irregular_orbit():
    """A full circle in steps of 1.6 to 3.2 degrees, in no order."""
    rng = np.random.default_rng(0)
    angles = np.cumsum(rng.uniform(1, 2, 150))
    angles = rng.permutation(angles / angles[-1] * 2 * np.pi)
    return Geometry.from_gantry_angles(angles, 400.0, 600.0, DETECTOR["detector_shape"], DETECTOR["pixel_mm"])


HALF_FAN = {"detector_shape": (9, 60), "offset_mm": (42.0, 0.0)}
ORBITS = {
    "full circle": orbit(),
    "full circle, other begin": orbit(start_rad=2.0),
    "short scan": orbit(arc_rad=SHORT),
    "short scan, other begin": orbit(arc_rad=SHORT, start_rad=4.0),
    "long short scan": orbit(arc_rad=np.radians(280)),
    "half-fan": orbit(240, **HALF_FAN),
    "half-fan, other side": orbit(240, detector_shape=(9, 60), offset_mm=(-42.0, 0.0)),
    "irregular": irregular_orbit(),
    "slightly displaced": orbit(offset_mm=(1.0, 3.0)),
}


def inside(grid, fraction=0.8):
    """Voxels well within the cylinder, and voxels well outside of it, [z, y, x]."""
    axes = CYLINDER.ellipsoids[0][2]
    well, wide = (
        Phantom(60.0, ((1, (0.1, -0.05, 0.0), np.multiply(axes, f), 0.0),)).volume(grid, finer=1) > 0 for f in (fraction, 2 - fraction)
    )
    return well, ~wide


@pytest.mark.parametrize("name", ORBITS)
@pytest.mark.parametrize("window", ["hann", "ram-lak"])
def test_a_cylinder_has_its_attenuation(name, window):
    volume = reconstruct(ORBITS[name], window=window)
    well, outside = inside(GRID)
    assert volume[well].mean() == pytest.approx(MU, rel=0.005)
    assert volume[well].std() < 0.04 * MU
    assert abs(volume[outside].mean()) < 0.01 * MU


def test_the_order_of_the_views_does_not_matter():
    geometry = ORBITS["short scan"]
    order = np.random.default_rng(1).permutation(geometry.views)
    np.testing.assert_allclose(reconstruct(geometry[order]), reconstruct(geometry), atol=1e-5 * MU)


@pytest.mark.parametrize("name", ["full circle", "short scan", "half-fan"])
@pytest.mark.parametrize("axes", ["u", "v", "uv"])
def test_the_direction_in_which_pixels_are_numbered_does_not_matter(name, axes):
    geometry = ORBITS[name]
    mirrored = replace(geometry, **{axis: -getattr(geometry, axis) for axis in axes})
    np.testing.assert_allclose(reconstruct(mirrored), reconstruct(geometry), atol=1e-4 * MU)


def test_the_place_of_the_isocentre_does_not_matter():
    shift = np.array([100.0, -50.0, 700.0])
    geometry = ORBITS["short scan"]
    moved = replace(geometry, source=geometry.source + shift, detector=geometry.detector + shift, isocentre_mm=tuple(shift))
    grid = replace(GRID, origin_mm=tuple(GRID.origin_mm + shift))
    stack = torch.from_numpy(CYLINDER.line_integrals(geometry))
    np.testing.assert_allclose(fdk(stack, moved, grid).numpy(), fdk(stack, geometry, GRID).numpy(), atol=1e-4 * MU)


def test_it_is_linear_and_leaves_the_projections_alone():
    geometry = ORBITS["half-fan"]
    a, b = torch.rand(2, geometry.views, *geometry.detector_shape)
    before = a.clone()
    together, apart = fdk(2 * a - b, geometry, GRID), 2 * fdk(a, geometry, GRID) - fdk(b, geometry, GRID)
    assert torch.equal(a, before)
    assert float((together - apart).abs().max()) < 1e-5 * float(together.abs().max())


def test_sharper_windows_give_more_noise():
    geometry = ORBITS["full circle"]
    noise = torch.randn(geometry.views, *geometry.detector_shape, generator=torch.Generator().manual_seed(0))
    spread = [float(fdk(noise, geometry, GRID, window).std()) for window in ("hann", "cosine", "ram-lak")]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("degrees", [200, 215, 270, 350])
def test_a_ray_that_a_short_scan_measures_twice_counts_once(degrees):
    arc = np.radians(degrees)
    widest = (arc - np.pi) / 2
    fan = np.linspace(-min(widest, 0.4), min(widest, 0.4), 41)
    along = np.linspace(0, arc, 400)
    beta, gamma = np.meshgrid(along, fan, indexing="ij")

    def weights(beta, gamma):
        return module.parker_weights(beta.ravel(), arc, gamma.reshape(-1, 1)).reshape(beta.shape)

    total = weights(beta, gamma)
    for again in (beta + np.pi - 2 * gamma, beta - np.pi - 2 * gamma):
        measured = (again >= 0) & (again <= arc)
        total = total + np.where(measured, weights(again, -gamma), 0)
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_the_ray_that_is_measured_again_is_the_same_line():
    beta, gamma = 0.3, 0.12
    geometry = Geometry.from_gantry_angles(np.array([beta, beta + np.pi - 2 * gamma]), 400.0, 600.0, (1, 1), (1.0, 1.0))
    hit = geometry.detector + 600.0 * np.tan([[gamma], [-gamma]]) * geometry.u
    points = np.concatenate([geometry.source, hit])[:, :2]
    assert np.linalg.matrix_rank(points - points[0], tol=1e-6) == 1


@pytest.mark.parametrize("side", [1, -1])
def test_a_ray_that_a_displaced_detector_measures_twice_counts_twice_as_the_others(side):
    fan = side * np.linspace(-0.05, 0.3, 36)[None, ::side]
    weights = module.displaced_detector_weights(fan)[0]
    fan = fan[0]
    twice = np.abs(fan) <= 0.05 + 1e-12
    np.testing.assert_allclose(weights[twice] + weights[twice][::-1], 2, atol=1e-9)
    np.testing.assert_allclose(weights[~twice], 2)
    assert weights[twice].min() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name, length", [("full circle", 2 * np.pi), ("irregular", 2 * np.pi), ("short scan", SHORT)])
def test_the_views_share_the_whole_orbit(name, length):
    weights = module.angular_weights(ORBITS[name])
    assert weights.sum() == pytest.approx(length) and weights.min() > 0


def test_a_detector_that_ends_at_the_axis_has_finite_weights():
    assert np.isfinite(module.displaced_detector_weights(np.array([[0.0, 0.1, 0.2], [-0.2, -0.1, 0.0]]))).all()


def test_one_view_and_views_that_coincide_are_no_trouble():
    for geometry in (orbit(1), orbit(4)[[0, 0, 1, 2, 3]], orbit(2, arc_rad=0.5)):
        assert np.isfinite(reconstruct(geometry)).all()


RTK_ORBITS = {
    "full circle": ({}, 1e-5),
    "half-fan": ({"offset_mm": (30.0, 0.0)}, 1e-4),
    "short scan": ({"arc_rad": np.radians(205)}, 1e-5),
}
"""Orbits, and how far RTK's volume may be away."""


@pytest.mark.rtk
@pytest.mark.parametrize("name", RTK_ORBITS)
def test_the_volume_is_that_of_rtk(rtk, name):
    from in_rtk import fdk_by_rtk

    changes, tolerance = RTK_ORBITS[name]
    geometry = Geometry.circular(50, 1000.0, 1500.0, (64, 64), (3.6, 3.6), **changes)
    phantom, grid = Phantom(50.0), Grid.centred((40,) * 3, (2.8,) * 3)
    stack = phantom.line_integrals(geometry)
    ours = fdk(torch.from_numpy(stack), geometry, grid, "ram-lak").numpy()
    theirs = fdk_by_rtk(stack, grid, geometry, hann=False)
    assert np.linalg.norm(ours - theirs) < tolerance * np.linalg.norm(theirs)
    truth = phantom.volume(grid)
    assert np.linalg.norm(ours - truth) < (1 + tolerance) * np.linalg.norm(theirs - truth)
    assert np.linalg.norm(ours - truth) < 0.2 * np.linalg.norm(truth)
