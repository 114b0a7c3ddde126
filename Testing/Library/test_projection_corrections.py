"""What is corrected of line integrals: beam hardening, rings, truncation, weights of redundant rays, the detector's offset."""

from dataclasses import replace

import numpy as np
import pytest
from degraded_scans import WIDE, clean, error, scan_of
from phantoms import Phantom

from SparseCTReconLib import InputError, default_grid, reconstruct
from SparseCTReconLib.corrections.chain import HISTORY, correct, parse
from SparseCTReconLib.corrections.redundancy import is_weighed
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.scan import Scan

TRUTH = -np.log(clean())
SPECTRUM = ((30, 0.0376, 0.10), (45, 0.0250, 0.25), (60, 0.0206, 0.30), (80, 0.0184, 0.20), (110, 0.0164, 0.15))
"""keV, attenuation of water in 1/mm (NIST's tables, rounded), share of the detected beam."""
MU_WATER = 0.0206


def polychromatic(thickness_mm):
    """Line integrals of so much water as a beam of many energies shows them."""
    return -np.log(sum(share * np.exp(-mu * thickness_mm) for _, mu, share in SPECTRUM))


def water(radii=(1.0, 0.8, 0.9), radius_mm=80.0, geometry=WIDE):
    """A scan of an ellipsoid of water by a beam of many energies, and the line integrals that it should have."""
    body = Phantom(radius_mm, ((1.0, (0.0, 0.0, 0.0), radii, 0.0),))
    thickness = body.line_integrals(geometry).astype(float)
    return Scan(polychromatic(thickness), geometry, mu_water=MU_WATER), MU_WATER * thickness


FINE = Geometry.preset("linac", 24, detector_shape=(32, 96), pixel_mm=(6.0, 4.2))


def test_beam_hardening_is_measured_on_water_and_corrected_in_another_body_of_water():
    phantom, truth = water(geometry=FINE)
    out = correct(phantom, parse({"beam-hardening": "measured"}))
    assert error(out.projections, truth) < error(phantom.projections, truth) / 5
    coefficients = out.provenance[HISTORY][0]["coefficients"]
    other, truth = water((0.5, 0.9, 0.6), 90.0)
    corrected = correct(other, parse({"beam-hardening.coefficients": ",".join(map(str, coefficients))}))
    assert error(corrected.projections, truth) < error(other.projections, truth) / 4


@pytest.mark.parametrize("length", [0.05, 20.0])
def test_beam_hardening_is_measured_whatever_the_scan_takes_water_for(length):
    thickness = Phantom(80.0, ((1.0, (0.0, 0.0, 0.0), (1.0, 0.8, 0.9), 0.0),)).line_integrals(FINE).astype(float)
    scan = Scan(length * polychromatic(thickness), FINE, mu_water=length * MU_WATER)
    out = correct(scan, parse({"beam-hardening": "measured"}))
    assert error(out.projections, length * MU_WATER * thickness) < error(scan.projections, length * MU_WATER * thickness) / 5


def test_beam_hardening_is_not_measured_on_what_is_no_water():
    with pytest.raises(InputError, match="not homogeneous"):
        correct(scan_of(clean()), parse({"beam-hardening": "measured"}))
    with pytest.raises(InputError, match="no body|too few rays"):
        correct(scan_of(np.ones_like(clean())), parse({"beam-hardening": "measured"}))


def test_beam_hardening_needs_coefficients_that_can_be():
    scan = scan_of(clean())
    for values, said in (
        ({"mode": "on"}, "without coefficients"),
        ({"coefficients": (0.0, 1.0)}, "must be positive"),
        ({"coefficients": (1.0, float("nan"))}, "all finite"),
    ):
        with pytest.raises(InputError, match=said):
            correct(scan, parse({"beam-hardening": values}))


def with_stripes(rng, noise=0.0):
    """Line integrals of a head and a detector one in eight of whose pixels has a gain that is wrong by some per cent."""
    wrong = np.where(rng.uniform(size=WIDE.detector_shape) < 1 / 8, rng.normal(0, 0.05, WIDE.detector_shape), 0)
    return scan_of(clean() * np.exp(-wrong - noise * rng.normal(size=TRUTH.shape))), wrong


@pytest.mark.parametrize("mode", ["on", "measured"])
def test_rings_lose_most_of_their_stripes(mode):
    scan, wrong = with_stripes(np.random.default_rng(0), noise=0.005)
    out = correct(scan, parse({"rings": mode}))
    outside = (TRUTH < 0.01).all(axis=0)  # where there is nothing of the object that could be taken for a stripe
    before, after = (np.median(each.projections - TRUTH, axis=0) for each in (scan, out))
    assert error(after[outside], 0) < error(before[outside], 0) / 3
    assert error(after, 0) < error(before, 0) / (1.2 if mode == "on" else 1.4)  # detail that stays where it is costs some


def test_measured_rings_leave_a_good_detector_alone():
    scan = scan_of(clean() * np.exp(0.01 * np.random.default_rng(0).normal(size=TRUTH.shape)))
    assert error(correct(scan, parse({"rings": "measured"})).projections, scan.projections) < 0.01


def test_rings_are_not_told_from_the_object_with_few_views():
    with pytest.raises(InputError, match="it takes 12 or more"):
        correct(scan_of(clean()).subset(slice(0, 8)), parse({"rings": "on"}))


NARROW = replace(WIDE, detector_shape=(24, 26))


@pytest.mark.parametrize("mode", ["on", "measured"])
def test_a_truncated_row_goes_on_smoothly_to_nothing(mode):
    cut = scan_of(clean()[:, :, 19:45], NARROW)
    out = correct(cut, parse({"truncation": mode}))
    (_, nu), added = out.geometry.detector_shape, out.provenance[HISTORY][0]["found"]["columns_added_on_each_side"]
    assert nu == 26 + 2 * added and added >= 6
    np.testing.assert_array_equal(out.projections[:, :, added:-added], cut.projections)
    np.testing.assert_allclose(out.geometry.detector, cut.geometry.detector)
    steps = np.abs(np.diff(out.projections, axis=-1))
    assert (
        steps[:, :, [added - 1, -added]].max() < 1.0 < cut.projections[:, :, [0, -1]].max() and out.projections[:, :, [0, -1]].max() < 0.5
    )


def test_rows_that_end_in_air_are_not_widened_when_it_is_measured():
    out = correct(scan_of(clean()), parse({"truncation": "measured"}))
    assert out.geometry.detector_shape == WIDE.detector_shape


HALF_FAN = Geometry.preset("linac-half-fan", 30, detector_shape=(8, 64), pixel_mm=(24.0, 6.208))
SHORT = Geometry.preset("c-arm", 30, detector_shape=(8, 64), pixel_mm=(16.0, 6.2))


@pytest.mark.parametrize("name, geometry", [("displaced-detector", HALF_FAN), ("parker", SHORT)])
def test_weights_of_redundant_rays_are_for_the_geometry_that_has_them(name, geometry):
    scan = scan_of(clean(geometry), geometry)
    out = correct(scan, parse({name: "on"}))
    share = out.projections / np.where(scan.projections > 0.1, scan.projections, np.nan)
    assert np.nanmin(share) < 0.2 and np.nanmax(share) == pytest.approx(2, abs=0.01)
    other = "parker" if name == "displaced-detector" else "displaced-detector"
    with pytest.raises(InputError, match="leave it off"):
        correct(scan, parse({other: "on"}))
    left = correct(scan, parse({other: "measured"}))
    np.testing.assert_array_equal(left.projections, scan.projections)
    assert not is_weighed(left)


def test_weighed_rows_are_not_reconstructed():
    weighed = correct(scan_of(clean(SHORT), SHORT), parse({"parker": "measured"}))
    with pytest.raises(InputError, match="rows are weighed"):
        reconstruct(weighed, method="fdk", grid=default_grid(SHORT, 8))


def test_a_known_offset_moves_the_detector_and_nothing_else():
    scan = scan_of(clean())
    out = correct(scan, parse({"detector-offset": {"u_mm": 3.0, "v_mm": -2.0, "tilt_deg": 1.0}}))
    np.testing.assert_array_equal(out.projections, scan.projections)
    np.testing.assert_allclose(out.geometry.detector - scan.geometry.detector, 3 * scan.geometry.u - 2 * scan.geometry.v, atol=1e-9)
    np.testing.assert_allclose((out.geometry.u * scan.geometry.v).sum(axis=1), np.sin(np.radians(1.0)))
    again = correct(out, parse({"detector-offset": {"u_mm": -3.0}}))
    assert len(again.provenance[HISTORY]) == 2
