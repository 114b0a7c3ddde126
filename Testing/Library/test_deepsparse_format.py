"""DeepSparse's data sets: where its networks look a point up, its 8 bits, and folders in which something is missing."""

import numpy as np
import pytest
import scan_files

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import read_scan

EDGES_MM = np.array([40.0, 40.0, 40.0])


def looked_up(points_mm, angle, dso, dsd):
    """Where DIF-Gaussian's and DeepSparse's Geometry.project puts points of a volume, in mm on the detector: down and along a row.

    It takes points from 0 to 1 along the edges, turns z round, turns the rest by the angle backwards, and divides by the depth.
    """
    x, y, z = (points_mm / EDGES_MM + 0.5).T - 0.5
    x, y, z = np.array([x, y, -z]) * EDGES_MM[:, None]
    cos, sin = np.cos(-angle), np.sin(-angle)
    x, y = cos * x - sin * y, sin * x + cos * y
    return dsd * z / (dso - x), dsd * y / (dso - x)


POINTS = np.array([[10.0, -15.0, 5.0], [0, 0, 0], [-3, 18, -12]])


def test_markers_lie_where_its_networks_look_them_up(tmp_path):
    scan = read_scan(scan_files.deepsparse(tmp_path))
    _, u, v = scan.geometry.shadows(POINTS)
    for view, angle in enumerate(scan_files.angles_of()):
        down, along = looked_up(POINTS, angle, 800, 1200)
        np.testing.assert_allclose(v[view], down, atol=1e-9)
        np.testing.assert_allclose(u[view], along, atol=1e-9)
    assert scan.geometry.pixel_mm == (2.4, 2.0)


def test_line_integrals_come_back_to_8_bits(tmp_path):
    scan = read_scan(scan_files.deepsparse(tmp_path))
    expected = scan_files.projections()
    assert 0 < np.abs(scan.projections - expected).max() < 1.01 * expected.max() / 255


@pytest.mark.parametrize("high", [1000, 1024, 3000])
def test_the_value_range_gives_hounsfield_units(tmp_path, high):
    scan = read_scan(scan_files.deepsparse(tmp_path, high=high))
    water = 1000 / (high + 1000)  # of the normalised values
    assert scan.mu_water == pytest.approx(water * 0.2 / 200)


def test_a_detector_before_the_axis_is_moved_behind_it_along_the_rays(tmp_path):
    scan = read_scan(scan_files.deepsparse(tmp_path, dsd=600))
    assert (scan.geometry.sdd_mm > scan.geometry.sid_mm).all()
    _, u, v = scan.geometry.shadows(POINTS)
    (dv, du), larger = scan.geometry.pixel_mm, scan.geometry.sdd_mm[0] / 600
    for view, angle in enumerate(scan_files.angles_of()):
        down, along = looked_up(POINTS, angle, 800, 600)
        np.testing.assert_allclose(v[view] / dv, down / 2.4, atol=1e-9)
        np.testing.assert_allclose(u[view] / du, along / 2.0, atol=1e-9)
    assert larger > 1
    assert "moved behind it along the rays" in scan.provenance["warnings"][0]


def test_a_data_sets_folder_with_one_patient_stands_for_it(tmp_path):
    file = scan_files.deepsparse(tmp_path)
    for path in (tmp_path, tmp_path / "meta_info.json"):
        assert read_scan(path).content_hash() == read_scan(file).content_hash()
    scan_files.deepsparse(tmp_path, name="P9")
    with pytest.raises(InputError, match=r"lists 2 patients, 1 of which|lists 2 patients, 2 of which"):
        (tmp_path / "meta_info.json").write_text((tmp_path / "meta_info.json").read_text().replace('"train": ["P9"]', '"train": ["P1"]'))
        read_scan(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"projs_max": None}, "projs_max is missing"),
        ({"projs_max": "much"}, "projs_max is much"),
        ({"angles": np.zeros(3)}, "7 views and 3 angles"),
        ({"projs": np.zeros((7, 5, 5), np.uint8)}, r"projections of \(5, 5\) pixels"),
        ({"projs": [1, 2]}, "projections are a list"),
    ],
)
def test_a_patient_that_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_scan(scan_files.deepsparse(tmp_path, **changes))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("DSO: 800", "DSO: near", r"config\.yaml: DSO is near"),
        ("  DSD: 1200\n", "", r"config\.yaml: DSD is missing"),
        ("[-1000, 1000]", "[2000, 1000]", "value_range 2000 to 1000"),
        ("dataset:", "dataset: &a\n  again: *a", "alias"),
        ("filter: null", "filter: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("DSD: 1200", "DSD: [1200", "cannot be read as YAML"),
        ("mode: cone", "mode: parallel", "only cone beams"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path, old, new, said):
    file = scan_files.deepsparse(tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    assert old in text
    (tmp_path / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said):
        read_scan(file)


def test_without_its_configuration_a_patient_is_refused(tmp_path):
    file = scan_files.deepsparse(tmp_path)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"needs the data set's config\.yaml"):
        read_scan(file)
