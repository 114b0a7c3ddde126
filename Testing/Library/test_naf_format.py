"""NAF's pickles: its rays, its units, and what is wrong with some."""

import numpy as np
import pytest
import scan_files
from poses import rotation

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import read_scan


def camera(angle, dso):
    """Rotation and position of NAF's camera: turned by -90 degrees about x, by 90 about z, by the angle about z; its source at
    (DSO cos, DSO sin, 0). It looks along its own third axis."""
    turned = rotation((0, 0, 1), angle) @ rotation((0, 0, 1), np.pi / 2) @ rotation((1, 0, 0), -np.pi / 2)
    return turned, dso * np.array([np.cos(angle), np.sin(angle), 0])


def seen_by_naf(points, angle, dso, dsd):
    """Where the ray through each point meets the detector: (u, v) in the unit of dsd from the foot of the source."""
    turned, source = camera(angle, dso)
    x, y, z = ((points - source) @ turned).T
    return dsd * x / z, dsd * y / z


POINTS = np.array([[10.0, -20.0, 5.0], [0, 0, 0], [-3, 40, -12]])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_markers_lie_where_nafs_rays_see_them(tmp_path, protocol):
    scan = read_scan(scan_files.naf(tmp_path / "chest_50.pickle", protocol=protocol))
    _, u, v = scan.geometry.shadows(POINTS)
    for view, angle in enumerate(scan_files.angles_of()):
        expected = seen_by_naf(POINTS, angle, 1000, 1500)
        np.testing.assert_allclose(u[view], expected[0] - 3.0, atol=1e-9)
        np.testing.assert_allclose(v[view], expected[1], atol=1e-9)
    assert scan.geometry.pixel_mm == (2.0, 1.5)
    np.testing.assert_array_equal(scan.projections, scan_files.projections()[:, ::-1])


def test_a_density_of_one_per_metre_is_the_top_of_the_scale(tmp_path):
    scan = read_scan(scan_files.naf(tmp_path / "a"))
    line_integral_through_200_mm_of_density_1 = 0.2
    mu = line_integral_through_200_mm_of_density_1 / 200
    assert 1000 * (mu / scan.mu_water - 1) == pytest.approx(1000)
    assert "normalised" in scan.provenance["assumed"]


def test_an_image_that_was_not_normalised_keeps_its_water(tmp_path):
    scan = read_scan(scan_files.naf(tmp_path / "a", normalize=False))
    assert scan.mu_water == pytest.approx(0.206 * 0.2 / 200)


def test_a_detector_that_is_counted_the_other_way_is_understood(tmp_path):
    scan = read_scan(scan_files.naf(tmp_path / "a", nDetector=[scan_files.COLUMNS, scan_files.ROWS], dDetector=[1.5, 2.0]))
    assert scan.geometry.pixel_mm == (2.0, 1.5)


def test_the_grid_of_its_volume_is_kept(tmp_path):
    grid = read_scan(scan_files.naf(tmp_path / "a", offOrigin=[1, 2, 3])).provenance["ct_grid"]
    assert (list(grid["size"]), list(grid["spacing_mm"])) == ([4, 5, 6], [1, 1, 2])
    np.testing.assert_allclose(grid["origin_mm"], [1 - 1.5, 2 - 2, 3 - 5])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "parallel"}, "'parallel': only cone beams"),
        ({"DSO": ...}, "DSO is missing"),
        ({"DSO": "far"}, "DSO is far: give 1 finite number"),
        ({"DSO": float("nan")}, "DSO is nan"),
        ({"DSO": 2000.0}, "must lie behind the isocentre"),
        ({"nDetector": [5, 8]}, r"projections of \(6, 8\) pixels \(v, u\) with a detector of \(5, 8\)"),
        ({"dDetector": [2.0]}, "dDetector is"),
        ({"train": {"angles": np.zeros(3), "projections": scan_files.projections()}}, "has 7 views and 3 angles"),
        ({"train": {"angles": np.zeros(7), "projections": np.zeros((7, 6))}}, "projections are an array of shape"),
        ({"train": {"angles": np.zeros(0), "projections": np.zeros((0, 6, 8))}}, "projections are an array of shape"),
        ({"train": [1, 2]}, "no views to learn from"),
        ({"train": {"angles": np.full(7, np.inf), "projections": scan_files.projections()}}, "angles is"),
        ({"train": {"angles": np.zeros(7), "projections": np.full((7, 6, 8), np.nan, np.float32)}}, "not finite"),
    ],
)
def test_a_scanner_that_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_scan(scan_files.naf(tmp_path / "a.pickle", **changes))


def test_angles_that_look_like_degrees_are_said(tmp_path):
    degrees = {"angles": np.arange(0.0, 350, 50), "projections": scan_files.projections()}
    scan = read_scan(scan_files.naf(tmp_path / "a", train=degrees))
    assert "may be degrees" in scan.provenance["warnings"][0]
    assert "warnings" not in read_scan(scan_files.naf(tmp_path / "b")).provenance


def test_negative_and_clipped_line_integrals_are_said(tmp_path):
    values = np.random.default_rng(0).uniform(0.1, 2, (7, 20, 30)).astype(np.float32)
    values[:, :2] = -1
    values[:, 5:7] = 9
    odd = {"angles": scan_files.angles_of(), "projections": values}
    said = " ".join(read_scan(scan_files.naf(tmp_path / "a", train=odd, nDetector=[20, 30])).provenance["warnings"])
    assert "10.0 % of the line integrals are below" in said
    assert "10.0 % of the pixels have the largest value, 9" in said
