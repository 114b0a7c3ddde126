"""Where the detector is, found from noisy scans themselves; what else looks wrong is said."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import Phantom

from SparseCTReconLib import Geometry, InputError, Scan
from SparseCTReconLib.corrections.calibration import calibrate
from SparseCTReconLib.corrections.chain import HISTORY, correct, parse
from SparseCTReconLib.corrections.consistency import moved
from SparseCTReconLib.corrections.suspicions import suspicions, turned
from SparseCTReconLib.units import MU_WATER

SMALL = {"detector_shape": (12, 128)}
ORBITS = {
    "full": Geometry.preset("linac", 36, pixel_mm=(3.2, 3.2), **SMALL),
    "short": Geometry.preset("c-arm", 36, pixel_mm=(3.0, 3.0), **SMALL),
    "half-fan": Geometry.preset("linac-half-fan", 36, pixel_mm=(3.104, 3.104), **SMALL),
}
COARSE = Geometry.preset("linac", 24, detector_shape=(6, 64), pixel_mm=(6.4, 6.4))
"""For what does not ask how precisely an offset is found, in a third of the time."""
BODY = Phantom(95.0)


def measured(geometry, u_px=0.0, tilt_rad=0.0, photons=1e4, phantom=BODY, seed=0):
    """A noisy scan whose detector lies elsewhere than its geometry says."""
    truth = moved(geometry, u_px * geometry.pixel_mm[1], tilt_rad=tilt_rad)
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-phantom.line_integrals(truth, finer=2)))
    return Scan(-np.log(np.maximum(counts, 0.5) / photons), geometry, photons=photons)


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("u_px", [2.7, -4.4])
def test_an_offset_is_found_to_half_a_pixel_from_ten_thousand_photons(orbit, u_px):
    geometry = ORBITS[orbit]
    found = calibrate(measured(geometry, u_px))
    assert abs(found.u_mm / geometry.pixel_mm[1] - u_px) < 0.5
    assert found.axis_mm == pytest.approx(found.u_mm * (geometry.sid_mm / geometry.sdd_mm).mean())
    assert found.unexplained < found.unexplained_before


def test_the_geometry_that_is_right_stays_as_it_is():
    assert abs(calibrate(measured(ORBITS["full"])).u_mm) < 0.1 * 3.2


def beads(seed=0):
    """A body of water with beads here and there."""
    places = np.random.default_rng(seed).uniform(-0.55, 0.55, (24, 3))
    return Phantom(95.0, ((0.02, (0, 0, 0), (0.9, 0.8, 0.95), 0.0), *((0.04, tuple(place), (0.08,) * 3, 0.0) for place in places)))


def test_a_turned_detector_is_found_too():
    geometry = Geometry.preset("linac", 24, detector_shape=(64, 64), pixel_mm=(6.4, 6.4))
    found = calibrate(measured(geometry, 1.5, tilt_rad=np.radians(1.2), photons=1e5, phantom=beads()), tilt_too=True)
    assert found.tilt_rad is not None and np.degrees(found.tilt_rad) == pytest.approx(1.2, abs=0.3)
    assert found.u_mm == pytest.approx(1.5 * 6.4, abs=3.2)


def test_a_chain_measures_the_offset_and_says_what_it_found():
    scan = measured(ORBITS["full"], 2.0)
    out = correct(scan, parse({"detector-offset": "measured"}))
    assert out.provenance[HISTORY][0]["u_mm"] == pytest.approx(6.4, abs=0.5)
    np.testing.assert_allclose(out.geometry.detector - scan.geometry.detector, 6.4 * scan.geometry.u, atol=0.5)


def of_air(geometry):
    return Scan(np.random.default_rng(0).normal(0, 0.001, (geometry.views, *geometry.detector_shape)), geometry)


def test_what_shows_no_offset_is_refused():
    geometry = ORBITS["full"]
    spiral = replace(geometry, source=geometry.source + np.linspace(-80, 80, 36)[:, None] * [0, 0, 1])
    for scan, said in (
        (of_air(geometry), "nothing but air"),
        (measured(geometry).subset(slice(0, 5)), "it takes 8 or more"),
        (replace(measured(geometry), geometry=spiral), "no circle"),
        (Scan(np.tile([0.0, 1.0], (36, 4, 4)), replace(geometry, detector_shape=(4, 8))), "16 or more"),
        (replace(measured(geometry), geometry=moved(geometry, v_mm=300.0)), "does not reach the plane"),
    ):
        with pytest.raises(InputError, match=said):
            calibrate(scan)


@pytest.fixture(scope="module")
def right():
    return measured(COARSE)


def doubts(scan):
    try:
        found = calibrate(scan)
    except InputError:
        found = None
    return suspicions(scan, found)


def test_a_scan_that_is_right_is_not_suspected(right):
    assert doubts(right) == []


def test_a_mirrored_detector_is_suspected_and_so_is_the_other_direction_of_the_angles(right):
    (sentence,) = doubts(replace(right, projections=right.projections[..., ::-1]))
    assert "mirrored" in sentence and "count the other way" in sentence  # of a body about the axis, the one looks like the other


def test_the_unit_of_the_angles_is_suspected(right):
    geometry, angles = right.geometry, np.unwrap(right.geometry.gantry_angles_rad)
    (sentence,) = doubts(replace(right, geometry=turned(geometry, np.radians(angles))))
    assert "radians that were read as degrees" in sentence
    (sentence,) = doubts(replace(right, geometry=turned(geometry, np.degrees(angles))))
    assert "degrees that were read as radians" in sentence


def test_turning_a_view_keeps_its_distances():
    geometry = ORBITS["half-fan"]
    by = turned(geometry, geometry.gantry_angles_rad + 0.3)
    np.testing.assert_allclose(by.gantry_angles_rad, np.mod(geometry.gantry_angles_rad + 0.3, 2 * np.pi))
    np.testing.assert_allclose((by.sid_mm, by.sdd_mm), (geometry.sid_mm, geometry.sdd_mm))
    np.testing.assert_allclose(by.principal_point_mm, geometry.principal_point_mm, atol=1e-9)


def test_the_attenuation_of_water_does_not_matter(right):
    other = replace(right, projections=right.projections * 0.8, mu_water=MU_WATER * 0.8)
    assert calibrate(other).u_mm == pytest.approx(calibrate(right).u_mm, abs=0.05)
