"""A scan itself: what cannot be one is refused, subsets and hashes, and line integrals from intensities."""

import numpy as np
import pytest
from poses import random_geometry

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import read_scan, write_scan
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.scan import Scan, line_integrals


def make_scan():
    geometry = random_geometry(2, views=4, isocentre_mm=(12.5, -80.0, 1043.25))
    return Scan(np.random.default_rng(1).normal(1, 0.5, (4, *geometry.detector_shape)).astype(np.float32), geometry, 1e5, 0.021)


@pytest.mark.parametrize(
    ("projections", "changes", "said"),
    [
        (np.zeros((5, 20, 30)), {}, "has 5 views, the geometry 4"),
        (np.zeros((4, 30, 20)), {}, r"\(30, 20\) pixels \(v, u\) with a geometry of \(20, 30\)"),
        (np.zeros((20, 30)), {}, r"give an array \(views, v, u\)"),
        (np.full((4, 20, 30), np.nan), {}, "view 0 has values that are not finite"),
        (np.zeros((4, 20, 30)), {"mu_water": 0.0}, "attenuation of water 0.0"),
        (np.zeros((4, 20, 30)), {"mu_water": float("nan")}, "attenuation of water nan"),
        (np.zeros((4, 20, 30)), {"photons": -5.0}, "-5.0 photons"),
    ],
)
def test_a_scan_that_cannot_be_is_refused(projections, changes, said):
    with pytest.raises(InputError, match=said):
        Scan(projections, make_scan().geometry, **changes)


@pytest.mark.parametrize("pick", [2, slice(1, 3), [3, 0], np.array([True, False, True, False])])
def test_a_subset_has_the_images_of_its_views(pick):
    scan = make_scan()
    views = np.atleast_1d(np.arange(4)[pick])
    np.testing.assert_array_equal(scan.subset(pick).projections, scan.projections[views])
    np.testing.assert_array_equal(scan.subset(pick).geometry.source, scan.geometry.source[views])


def test_other_data_or_poses_have_another_hash():
    scan = make_scan()
    moved = Scan(scan.projections, random_geometry(3, views=4, isocentre_mm=scan.geometry.isocentre_mm), scan.photons, scan.mu_water)
    brighter = Scan(scan.projections + 1, scan.geometry, scan.photons, scan.mu_water)
    assert len({scan.content_hash(), moved.content_hash(), brighter.content_hash()}) == 3


def test_line_integrals_are_the_logarithm_of_the_attenuation():
    expected = np.array([0.0, 0.5, 3.0])
    for photons in (1.0, 1e5):
        integrals = line_integrals(photons * np.exp(-expected).reshape(1, 1, 3), photons)
        assert integrals.dtype == np.float32
        np.testing.assert_allclose(integrals.ravel(), expected, atol=1e-6)


def test_a_pixel_without_a_photon_has_a_finite_line_integral():
    assert 8 < line_integrals(np.zeros((1, 1, 1)), 1e5).item() < 20
    assert 8 < line_integrals(np.zeros((1, 1, 1)), 1.0).item() < 20


@pytest.mark.parametrize("photons", [0, -1.0, float("nan"), float("inf")])
def test_an_impossible_i0_is_refused(photons):
    with pytest.raises(InputError, match="I0 is"):
        line_integrals(np.ones((1, 1, 1)), photons)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_an_impossible_intensity_is_named_with_its_pixel(value):
    intensities = np.ones((3, 4, 5))
    intensities[1, 2, 3] = value
    with pytest.raises(InputError, match=rf"intensity {value} at view 1, row 2, column 3 \(1 such pixels\)"):
        line_integrals(intensities, 10.0)


def test_counts_as_numbers_with_a_point_are_said_to_be_no_line_integrals(tmp_path):
    scan = Scan(np.full((3, 4, 5), 40_000, np.float32), Geometry.circular(3, detector_shape=(4, 5)))
    write_scan(scan, tmp_path / "scan")
    assert "they may be intensities" in read_scan(tmp_path / "scan").provenance["warnings"][0]
