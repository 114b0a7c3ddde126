"""TIGRE's geometry: its own formulas for a detector that is displaced, turned and off the axis, in every form its users save it."""

import pickle

import numpy as np
import pytest
import scan_files
from poses import rotation
from scan_files import COLUMNS, ROWS

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import read_scan

X, Y, Z = np.eye(3)


def pixel_and_source(view, row, column, angle, *, theta=0.0, psi=0.0):
    """World positions of a pixel and of the source by the steps of TIGRE's projectors, for `scan_files.tigre_attributes`.

    The corner pixel lies at y = -(nu / 2 - 1 / 2) du and z = (nv / 2 - 1 / 2) dv, further ones one pitch on along y and down z; row r of
    the array is the pixel nv - r - 1. It is turned in its place, moved to x = -(DSD - DSO), by the offsets, turned with the gantry, and
    moved by the correction of the centre.
    """
    geo = scan_files.tigre_attributes()
    (dv, du), (off_v, off_u), (yaw, pitch, roll) = geo["dDetector"], geo["offDetector"], geo["rotDetector"]
    down = ROWS - row - 1
    pixel = np.array([0, du * (-COLUMNS / 2 + 0.5 + column), dv * (ROWS / 2 - 0.5 - down)])
    pixel = rotation(Z, roll) @ rotation(Y, pitch) @ rotation(X, yaw) @ pixel
    pixel += (-(geo["DSD"] - geo["DSO"]), off_u, off_v)
    gantry = rotation(Z, angle) @ rotation(Y, theta) @ rotation(Z, psi)
    centre = geo["COR"] * np.array([-np.sin(angle), np.cos(angle), 0])
    return gantry @ pixel + centre, gantry @ [geo["DSO"], 0, 0] + centre


def check_markers(scan, **euler):
    """A point between the source and a pixel casts its shadow onto this pixel."""
    rows, columns = scan.geometry.pixel_offsets_mm()
    for view, angle in enumerate(scan_files.angles_of()):
        for row, column in ((0, 0), (2, 6), (ROWS - 1, COLUMNS - 1)):
            pixel, source = pixel_and_source(view, row, column, angle, **euler)
            _, u, v = scan.geometry.shadows([0.6 * source + 0.4 * pixel])
            np.testing.assert_allclose((v[view, 0], u[view, 0]), (rows[row], columns[column]), atol=1e-6)


def test_markers_lie_where_tigre_projects_them(tmp_path):
    scan = read_scan(scan_files.tigre_json(tmp_path))
    check_markers(scan)
    np.testing.assert_array_equal(scan.projections, scan_files.projections())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_matlab_file_is_the_same_scan(tmp_path, compressed):
    scan = read_scan(scan_files.tigre_mat(tmp_path / "scan.mat", compressed))
    check_markers(scan)
    np.testing.assert_array_equal(scan.projections, scan_files.projections())


def test_a_text_whose_letters_are_fractions_is_a_damaged_file(tmp_path):
    file = scan_files.tigre_mat(tmp_path / "scan.mat", compressed=False, mode="c")
    letter, fraction = b"\x10\0\1\0c\0\0\0", b"\x07\0\4\0" + np.float32(1.5).tobytes()
    assert file.read_bytes().count(letter) == 1
    file.write_bytes(file.read_bytes().replace(letter, fraction))
    with pytest.raises(InputError, match="damaged or cut file of MATLAB's .*letters that are no whole numbers"):
        read_scan(file)


def test_an_archive_is_the_same_scan(tmp_path):
    check_markers(read_scan(scan_files.tigre_npz(tmp_path / "scan.npz")))


@pytest.mark.parametrize("opened", ["geometry.json", "projections.npy", "angles.npy", "."])
def test_any_file_of_the_folder_opens_it(tmp_path, opened):
    scan_files.tigre_json(tmp_path)
    assert read_scan(tmp_path / opened).views == scan_files.VIEWS


def test_a_pickled_dict_of_attributes_with_three_angles_a_view(tmp_path):
    views = scan_files.VIEWS
    tilted = np.column_stack([scan_files.angles_of(), np.full(views, 0.1), np.full(views, -0.2)])
    attributes = scan_files.tigre_attributes(angles=tilted, DSD=np.full(views, 1536.0), offDetector=np.tile([4.0, -7.0], (views, 1)))
    (tmp_path / "geo.pickle").write_bytes(pickle.dumps(attributes | {"n_proj": views}))
    np.save(tmp_path / "sinogram.npy", scan_files.projections())
    check_markers(read_scan(tmp_path / "geo.pickle"), theta=0.1, psi=-0.2)


def test_what_changes_from_view_to_view_is_taken_for_its_view(tmp_path):
    offsets = np.linspace(-5, 5, scan_files.VIEWS)
    moving = read_scan(scan_files.tigre_json(tmp_path / "a", COR=offsets))
    straight = read_scan(scan_files.tigre_json(tmp_path / "b", COR=0.0))
    angles = scan_files.angles_of()
    moved = offsets[:, None] * np.stack([-np.sin(angles), np.cos(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(moving.geometry.source, straight.geometry.source + moved, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "parallel"}, "only cone beams"),
        ({"nDetector": np.array([8, 6])}, r"projections of shape \(7, 6, 8\) with nDetector \(8, 6\)"),
        ({"DSD": 900.0}, "must lie behind the isocentre"),
        ({"DSO": [1000.0, 1001.0]}, "DSO is"),
        ({"dDetector": np.array([0.8, -0.9])}, "must be positive"),
        ({"offDetector": np.array([np.nan, 0])}, "offDetector is"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_scan(scan_files.tigre_json(tmp_path, **changes))


def test_angles_that_are_too_few_or_degrees_are_said(tmp_path):
    path = scan_files.tigre_json(tmp_path)
    np.save(tmp_path / "angles.npy", np.zeros(5))
    with pytest.raises(InputError, match=r"7 views and angles of shape \(5,\)"):
        read_scan(path)
    np.save(tmp_path / "angles.npy", np.arange(0, 350, 50))
    assert "may be degrees" in read_scan(path).provenance["warnings"][0]


def test_a_volume_beside_the_projections_is_not_taken_for_them(tmp_path):
    path = scan_files.tigre_json(tmp_path)
    np.save(tmp_path / "a_volume.npy", np.zeros((20, 20, 20), np.float32))
    np.testing.assert_array_equal(read_scan(path).projections, scan_files.projections())


def test_what_is_missing_is_named(tmp_path):
    path = scan_files.tigre_json(tmp_path)
    (tmp_path / "angles.npy").unlink()
    with pytest.raises(InputError, match="holds no angles"):
        read_scan(path)


def test_a_pickled_object_of_tigres_is_refused_with_the_way_out(tmp_path):
    code = b"\x80\x02}q\x00(X\x03\x00\x00\x00DSDq\x01X\x09\x00\x00\x00nDetectorq\x02ctigre.utilities.geometry\nGeometry\n)\x81q\x03u."
    (tmp_path / "geo.pickle").write_bytes(code)
    with pytest.raises(InputError, match=r"asks for tigre\.utilities\.geometry\.Geometry"):
        read_scan(tmp_path / "geo.pickle")
