"""R2-Gaussian's folders: poses, scales, and lists that do not fit their files."""

import json

import numpy as np
import pytest
import scan_files
from test_naf_format import POINTS, seen_by_naf

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import read_scan


def test_markers_lie_where_its_cameras_see_them_at_100_mm_a_unit(tmp_path):
    scan = read_scan(scan_files.r2_gaussian(tmp_path / "0_chest"))
    _, u, v = scan.geometry.shadows(POINTS)
    for view, angle in enumerate(scan_files.angles_of()):
        expected = seen_by_naf(POINTS / 100, angle, 5.0, 7.0)  # in the scene's own units
        np.testing.assert_allclose((u[view] / 100, v[view] / 100), expected, atol=1e-12)
    assert scan.geometry.pixel_mm == pytest.approx((100 * 4 / scan_files.ROWS, 100 * 3 / scan_files.COLUMNS))
    np.testing.assert_array_equal(scan.projections, scan_files.projections())


def test_a_density_of_one_per_unit_is_the_top_of_the_scale(tmp_path):
    scan = read_scan(scan_files.r2_gaussian(tmp_path / "a"))
    assert 1000 * ((2.0 / 200) / scan.mu_water - 1) == pytest.approx(1000)  # through the whole cube, 2 units or 200 mm
    assert scan.provenance["ct_grid"]["spacing_mm"][0] == pytest.approx(50)


def test_a_scanner_in_millimetres_keeps_its_line_integrals(tmp_path):
    scan = read_scan(scan_files.r2_gaussian(tmp_path / "a", DSD=1500, DSO=1000, sDetector=[400, 300], sVoxel=[200, 200, 200]))
    assert scan.geometry.sid_mm[0] == pytest.approx(1000)
    assert scan.mu_water == 0.02
    assert "ct_grid" not in scan.provenance


def test_the_folder_may_be_named_by_its_list(tmp_path):
    folder = scan_files.r2_gaussian(tmp_path / "a")
    assert read_scan(folder / "meta_data.json").views == read_scan(folder).views == scan_files.VIEWS


def test_a_displaced_detector_moves_along_its_rows(tmp_path):
    straight, moved = (read_scan(scan_files.r2_gaussian(tmp_path / str(x), offDetector=[x, 0])) for x in (0, 0.5))
    np.testing.assert_allclose(moved.geometry.detector, straight.geometry.detector + 50 * straight.geometry.u)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (lambda listed: [], "names no scanner or no views"),
        (lambda listed: [{**each, "file_path": "../../etc/hosts"} for each in listed], "lies outside the folder"),
        (lambda listed: [{**each, "file_path": "/etc/hosts"} for each in listed], "lies outside the folder"),
        (lambda listed: [{**each, "file_path": 5} for each in listed], "a file's name is '5'"),
        (lambda listed: [listed[0], listed[0]], r"names proj_train_0000\.npy for more than one view"),
        (lambda listed: [listed[0], {**listed[1], "file_path": "proj_train/none.npy"}], r"none\.npy is missing"),
        (lambda listed: [{"file_path": each["file_path"]} for each in listed], "angles is"),
        (lambda listed: [3], "names no scanner or no views"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path, frames, said):
    with pytest.raises(InputError, match=said):
        read_scan(scan_files.r2_gaussian(tmp_path / "a", frames=frames))


def test_a_view_of_another_size_or_cut_short_is_named(tmp_path):
    folder = scan_files.r2_gaussian(tmp_path / "a")
    view = folder / "proj_train" / "proj_train_0003.npy"
    whole = view.read_bytes()
    np.save(view, np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"proj_train_0003\.npy has \(2, 3\) pixels"):
        read_scan(folder)
    view.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"proj_train_0003\.npy is cut short"):
        read_scan(folder)


def test_views_that_hold_objects_are_not_unpickled(tmp_path):
    folder = scan_files.r2_gaussian(tmp_path / "a")
    np.save(folder / "proj_train" / "proj_train_0000.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not numbers"):
        read_scan(folder)


def test_a_damaged_list_is_refused(tmp_path):
    folder = scan_files.r2_gaussian(tmp_path / "a")
    text = (folder / "meta_data.json").read_text()
    (folder / "meta_data.json").write_text(text[:-30])
    with pytest.raises(InputError, match="damaged or cut short"):
        read_scan(folder)
    (folder / "meta_data.json").write_text(json.dumps({"scanner": {"DSD": 1}}))
    with pytest.raises(InputError, match="names no scanner or no views"):
        read_scan(folder)
