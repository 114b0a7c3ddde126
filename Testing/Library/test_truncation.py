"""Rows that end within the object: how far it goes on, what the rows go on with, and FDK's values within what they see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import Phantom

from SparseCTReconLib.classical.fdk import fdk, fdk_weights
from SparseCTReconLib.classical.truncation import extrapolated_rows, fdk_of, is_truncated, reach_mm
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.scan import Scan

MU = 0.02
CYLINDER = Phantom(100.0, ((MU, (0, 0, 0), (0.6, 0.6, 50.0), 0.0),))
"""Water, 60 mm in radius, far longer than anything sees."""

MACHINE = {"sid_mm": 1000.0, "sdd_mm": 1500.0, "pixel_mm": (6.0, 1.5)}


def orbit(columns, views=60, **changes):
    return Geometry.circular(views, detector_shape=(5, columns), **(MACHINE | changes))


def scan_of(geometry, phantom=CYLINDER, photons=None):
    p = phantom.line_integrals(geometry)
    if photons:
        p = -np.log(np.random.default_rng(0).poisson(photons * np.exp(-p)) / photons)
    return Scan(p, geometry, photons, MU)


@pytest.mark.parametrize("columns", [60, 90])
def test_a_cylinder_of_water_is_known_to_end_where_it_does(columns):
    end = 1500 * np.tan(np.arcsin(60 / 1000)) - columns / 2 * 1.5
    noiseless, noisy = (scan_of(orbit(columns), photons=photons) for photons in (None, 2e4))
    np.testing.assert_allclose(reach_mm(noiseless.projections, noiseless.geometry, MU), end, atol=5)
    found = reach_mm(noisy.projections, noisy.geometry, MU)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), end, atol=5)
    assert np.abs(found - end).max() < 40


def test_the_rows_go_on_as_a_wider_detector_would_have_measured_them():
    scan, wide = scan_of(orbit(70)), scan_of(orbit(150))
    rows, geometry, added = extrapolated_rows(torch.from_numpy(scan.projections), scan.geometry, MU)
    assert geometry.detector_shape == (5, 70 + 2 * added) and rows.shape == (60, 5, 70 + 2 * added)
    assert torch.equal(rows[..., added:-added], torch.from_numpy(scan.projections))
    expected = wide.projections[..., 40 - added : 110 + added]
    assert np.linalg.norm(rows.numpy() - expected) < 0.03 * np.linalg.norm(expected)
    np.testing.assert_allclose(geometry.pixel_offsets_mm()[1][added:-added], scan.geometry.pixel_offsets_mm()[1])


def test_rows_that_end_in_air_stay_as_they_are():
    scan = scan_of(orbit(150), photons=1e4)
    rows, geometry, added = extrapolated_rows(torch.from_numpy(scan.projections), scan.geometry, MU)
    assert added == 0 and geometry is scan.geometry and torch.equal(rows, torch.from_numpy(scan.projections))
    assert reach_mm(scan.projections, scan.geometry, MU).max() == 0


def test_a_scan_is_truncated_where_its_rows_clearly_end_within_the_object():
    assert is_truncated(scan_of(orbit(60))) and is_truncated(scan_of(orbit(90), photons=1e4))
    assert not is_truncated(scan_of(orbit(119))), "by a pixel or two"
    assert not is_truncated(scan_of(orbit(150), photons=1e4))
    assert not is_truncated(scan_of(orbit(90, offset_mm=(30.0, 0.0)))), "opposite views see beyond the short side"


def test_air_alone_has_no_object_that_could_go_on():
    geometry = orbit(40)
    air = np.random.default_rng(0).normal(0, 1e-3, (60, 5, 40)).astype(np.float32)
    assert reach_mm(np.zeros_like(air), geometry, MU).max() == 0
    assert reach_mm(air, geometry, MU).max() < 5


def test_rows_are_never_more_than_trebled():
    geometry = orbit(8)
    rows, _, added = extrapolated_rows(torch.from_numpy(scan_of(geometry).projections), geometry, MU)
    assert added == 8 and rows.shape[-1] == 24


@pytest.mark.parametrize("offset", [30.0, -30.0])
def test_a_displaced_detector_goes_on_at_its_long_side_alone(offset):
    geometry = orbit(90, offset_mm=(offset, 0.0))
    rows = torch.from_numpy(scan_of(geometry).projections)
    assert extrapolated_rows(rows, geometry, MU)[2] == 0, "the long side ends in air, opposite views see beyond the short one"
    cut = orbit(60, offset_mm=(offset, 0.0))
    rows, _, added = extrapolated_rows(torch.from_numpy(scan_of(cut).projections), cut, MU)
    assert 0 < added < 30
    mu = fdk_of(scan_of(cut), Grid.centred((24, 24, 1), (3.0,) * 3)).numpy()
    np.testing.assert_allclose(mu.mean(), MU, rtol=0.03)


ORBITS = {"full circle": {}, "short scan": {"arc_rad": np.radians(200)}}


@pytest.mark.parametrize("name", ORBITS)
def test_fdk_has_the_value_of_water_within_what_a_narrow_detector_sees(name):
    geometry = orbit(70, views=180, **ORBITS[name])
    grid = Grid.centred((31, 31, 1), (2.0, 2.0, 2.0))
    y, x = np.indices((31, 31)) - 15
    seen = np.hypot(x, y) * 2 < 30
    scan = scan_of(geometry)
    mu = fdk_of(scan, grid).numpy()[0]
    plain = fdk(torch.from_numpy(scan.projections), geometry, grid).numpy()[0]
    error, without = (np.abs(volume[seen] / MU - 1).max() for volume in (mu, plain))
    assert error < 0.05 and without > 0.3


def test_columns_that_were_not_measured_count_as_the_outermost_measured_one():
    geometry = orbit(20, arc_rad=np.radians(200))
    wide = replace(geometry, detector_shape=(5, 26))
    u = geometry.detector_shape[1]
    measured, weights = fdk_weights(geometry), fdk_weights(wide, extrapolated=3)
    np.testing.assert_allclose(weights[..., 3:-3], measured, atol=1e-6)
    ratio = (weights[..., :3] / weights[..., 3:4]).numpy()
    assert u == 20 and np.nanmax(np.abs(ratio[np.isfinite(ratio)] - 1)) < 1e-3
