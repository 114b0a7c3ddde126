"""Scan folders: what is written comes back, other tools' folders are read, and what is wrong is said in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from poses import random_geometry

from SparseCTReconLib import formats
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import metaimage, read_scan, rtk, scan_folder, write_scan
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.scan import Scan

ROOT = Path(__file__).resolve().parents[2]
ISOCENTRE = (12.5, -80.0, 1043.25)


def make_scan(views=4, **changes):
    geometry = random_geometry(2, views=views, isocentre_mm=ISOCENTRE)
    projections = np.random.default_rng(1).normal(1, 0.5, (views, *geometry.detector_shape)).astype(np.float32)
    return Scan(projections, geometry, **{"photons": 1e5, "mu_water": 0.021, "provenance": {"seed": 3, "ct": "Kopf ü"}} | changes)


@pytest.fixture
def folder(tmp_path):
    """A good scan folder, for a test to damage."""
    write_scan(make_scan(), tmp_path / "scan")
    return tmp_path / "scan"


def say(folder, **changes):
    """Change scan.json; None takes a key out."""
    path = folder / "scan.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def write_stack(path, stack, spacing=(0.7, 1.5), origin=None, direction=None):
    image = sitk.GetImageFromArray(stack)
    size = np.array(image.GetSize()[:2])
    origin = -(size - 1) / 2 * spacing if origin is None else origin
    image.SetSpacing((*spacing, 1))
    image.SetOrigin((*origin, 0))
    if direction is not None:
        image.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    sitk.WriteImage(image, str(path))


def refusal(path):
    with pytest.raises(InputError) as error:
        read_scan(path)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_scan_comes_back_as_it_was_written(folder):
    scan, again = make_scan(), read_scan(folder)
    np.testing.assert_array_equal(again.projections, scan.projections)
    assert (again.photons, again.mu_water, again.provenance) == (scan.photons, scan.mu_water, scan.provenance)
    assert again.geometry.isocentre_mm == ISOCENTRE
    assert again.geometry.pixel_mm == scan.geometry.pixel_mm
    assert again.geometry.detector_shape == scan.geometry.detector_shape
    assert again.content_hash() == scan.content_hash()


def test_every_preset_keeps_its_hash_on_disk(tmp_path):
    for seed, name in enumerate(("linac", "linac-half-fan", "c-arm")):
        geometry = Geometry.preset(name, 61, detector_shape=(2, 3), start_rad=seed)
        scan = Scan(np.zeros((61, 2, 3)), geometry)
        write_scan(scan, tmp_path / name)
        assert read_scan(tmp_path / name).content_hash() == scan.content_hash()


def test_one_view_is_a_scan(tmp_path):
    write_scan(make_scan(views=1), tmp_path / "scan")
    assert read_scan(tmp_path / "scan").views == 1


def test_a_file_of_the_folder_stands_for_the_folder(folder):
    assert read_scan(folder / "scan.json").content_hash() == read_scan(folder).content_hash()
    assert read_scan(folder / "geometry.xml").content_hash() == read_scan(str(folder)).content_hash()


def test_a_folder_without_scan_json_holds_line_integrals_about_the_origin(folder):
    (folder / "scan.json").unlink()
    scan = read_scan(folder)
    assert scan.geometry.isocentre_mm == (0, 0, 0)
    assert (scan.photons, scan.mu_water) == (None, 0.02)
    assert scan.provenance == {"assumed": "line integrals, isocentre at LPS 0: there was no scan.json"}
    np.testing.assert_allclose(scan.geometry.source, make_scan().geometry.source - ISOCENTRE, atol=1e-8)
    np.testing.assert_array_equal(scan.projections, make_scan().projections)


def test_simpleitk_and_numpy_alone_read_the_same_stack(folder):
    path = folder / "projections.mha"
    image = sitk.ReadImage(str(path))
    stack, spacing, origin = metaimage.read_plain(path)
    np.testing.assert_array_equal(stack, sitk.GetArrayFromImage(image))
    assert (tuple(spacing), tuple(origin)) == (image.GetSpacing(), image.GetOrigin())
    sitk.WriteImage(image, str(path))
    again, spacing, origin = metaimage.read_plain(path)
    np.testing.assert_array_equal(again, stack)
    np.testing.assert_allclose((*spacing, *origin), (*image.GetSpacing(), *image.GetOrigin()), rtol=1e-12)


@pytest.mark.parametrize("change", ["compressed", "turned", "cut short", "two values a pixel"])
def test_a_stack_that_is_not_plain_is_left_to_simpleitk(folder, change):
    path = folder / "projections.mha"
    image = sitk.ReadImage(str(path))
    if change == "turned":
        image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    if change == "two values a pixel":
        image = sitk.Compose(image, image)
    sitk.WriteImage(image, str(path), change == "compressed")
    if change == "cut short":
        path.write_bytes(path.read_bytes()[:-1])
    assert metaimage.read_plain(path) is None


def test_a_scan_folder_is_written_and_read_by_numpy_alone(tmp_path):
    write_scan(make_scan(), tmp_path / "scan")
    program = (
        "import sys, SparseCTReconLib as s\n"
        f"s.write_scan(s.read_scan({str(tmp_path / 'scan')!r}), {str(tmp_path / 'again')!r})\n"
        "print(sorted({'SimpleITK', 'pydantic', 'torch', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert read_scan(tmp_path / "again").content_hash() == make_scan().content_hash()


@pytest.mark.parametrize("name", ["with a space", "Größe Ωμέγα 頭"])
def test_a_scan_folder_may_have_any_name(tmp_path, name):
    write_scan(make_scan(), tmp_path / name)
    assert read_scan(tmp_path / name / "geometry.xml").content_hash() == make_scan().content_hash()


def test_a_stack_in_nrrd_is_found(folder):
    sitk.WriteImage(sitk.ReadImage(str(folder / "projections.mha")), str(folder / "projections.nrrd"))
    (folder / "projections.mha").unlink()
    say(folder, projections=None)
    np.testing.assert_array_equal(read_scan(folder).projections, make_scan().projections)


def test_two_stacks_are_refused_unless_one_is_named(folder):
    sitk.WriteImage(sitk.ReadImage(str(folder / "projections.mha")) * 2, str(folder / "projections.nrrd"))
    say(folder, projections="projections.nrrd")
    np.testing.assert_array_equal(read_scan(folder).projections, 2 * make_scan().projections)
    say(folder, projections=None)
    assert "keep one" in refusal(folder)


def test_an_origin_off_centre_displaces_the_detector(folder):
    stack = make_scan().projections
    centred = -(np.array([30, 20]) - 1) / 2 * (0.7, 1.5)
    write_stack(folder / "projections.mha", stack, origin=centred + (40, -7))
    geometry, before = read_scan(folder).geometry, make_scan().geometry
    np.testing.assert_allclose(geometry.detector, before.detector + 40 * before.u - 7 * before.v, atol=1e-8)
    np.testing.assert_allclose(geometry.source, before.source, atol=1e-8)


def test_a_stack_with_turned_pixels_keeps_its_pixels_in_place(folder):
    centred = -(np.array([30, 20]) - 1) / 2 * (0.7, 1.5)
    write_stack(folder / "projections.mha", make_scan().projections, origin=centred * (-1, 1), direction=np.diag([-1, 1, 1]))
    geometry, before = read_scan(folder).geometry, make_scan().geometry
    np.testing.assert_allclose(geometry.u, -before.u, atol=1e-12)
    np.testing.assert_allclose(geometry.detector, before.detector, atol=1e-8)


def test_intensities_become_line_integrals(folder):
    counts = np.random.default_rng(0).integers(1, 60000, (4, 20, 30)).astype(np.uint16)
    write_stack(folder / "projections.mha", counts)
    say(folder, values="intensities", i0=65535)
    np.testing.assert_allclose(read_scan(folder).projections, -np.log(counts / 65535), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": "intensities"}, 'need "i0"'),
        ({"values": "counts"}, "values is 'counts'"),
        ({"i0": -1}, "i0 is -1"),
        ({"photons": 0}, "photons is 0"),
        ({"mu_water_per_mm": -0.02}, "mu_water_per_mm is -0.02"),
        ({"length_unit": "m"}, "length_unit is 'm'"),
        ({"isocentre_mm": [1, 2]}, "isocentre_mm"),
        ({"isocenter_mm": [1, 2, 3]}, "did you mean 'isocentre_mm'"),
        ({"version": 9}, "install a newer"),
        ({"format": None}, "'format' is missing"),
        ({"projections": "other.mha"}, "other.mha is missing"),
        ({"geometry": "other.xml"}, "other.xml is missing"),
    ],
)
def test_a_scan_json_that_cannot_be_right_is_refused(folder, changes, said):
    say(folder, **changes)
    assert said in refusal(folder)


@pytest.mark.parametrize("text", ["", '{"format": "Sparse', "[1, 2]", "\xff\xfe"])
def test_a_damaged_scan_json_is_refused_by_name(folder, text):
    (folder / "scan.json").write_bytes(text.encode("latin-1"))
    assert "scan.json" in refusal(folder)


@pytest.mark.parametrize("name", ["geometry.xml", "projections.mha"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_file_cut_short_is_refused_by_name(folder, name, kept):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(kept * len(data))])
    assert name in refusal(folder)


@pytest.mark.parametrize("name", ["geometry.xml", "projections.mha"])
def test_a_missing_file_is_refused_by_name(folder, name):
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder)


def test_a_stack_with_another_number_of_views_than_the_geometry_is_refused(folder):
    write_stack(folder / "projections.mha", make_scan().projections[:3])
    message = refusal(folder)
    assert "projections.mha has 3 views" in message
    assert "geometry.xml has 4" in message


@pytest.mark.parametrize(
    ("value", "values", "said"),
    [
        (np.nan, "line integrals", "view 2 has values that are not finite"),
        (np.inf, "line integrals", "view 2 has values that are not finite"),
        (np.nan, "intensities", "intensity nan at view 2, row 5, column 6"),
        (-3.0, "intensities", "intensity -3.0 at view 2, row 5, column 6"),
        (np.inf, "intensities", "intensity inf at view 2"),
    ],
)
def test_a_pixel_that_cannot_be_measured_is_named(folder, value, values, said):
    stack = make_scan().projections.clip(0.1)
    stack[2, 5, 6] = value
    write_stack(folder / "projections.mha", stack)
    say(folder, values=values, i0=10)
    message = refusal(folder)
    assert said in message
    assert "projections.mha" in message


def test_detector_counts_are_not_taken_for_line_integrals(folder):
    write_stack(folder / "projections.mha", np.full((4, 20, 30), 30000, dtype=np.uint16))
    assert '"i0" in scan.json' in refusal(folder)


def test_a_colour_stack_and_an_oblique_one_are_refused(folder):
    direction = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    write_stack(folder / "projections.mha", make_scan().projections, direction=direction)
    assert "identity direction" in refusal(folder)
    image = sitk.GetImageFromArray(np.zeros((4, 20, 30, 3), dtype=np.float32), isVector=True)
    sitk.WriteImage(image, str(folder / "projections.mha"))
    assert "one value a pixel" in refusal(folder)


def test_a_detector_before_the_isocentre_is_refused_with_the_file_and_the_view(folder):
    parameters = rtk.from_geometry(make_scan().geometry)
    sdd = parameters.sdd_mm.copy()
    sdd[1] = 0.5 * parameters.sid_mm[1]
    rtk.write_xml(rtk.RTKGeometry(**vars(parameters) | {"sdd_mm": sdd}), folder / "geometry.xml")
    message = refusal(folder)
    assert "geometry.xml: view 1: source-to-detector distance" in message
    assert "SDD > SID" in message


def test_what_is_no_scan_is_answered_with_what_would_be(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "geometry.xml and projections.mha" in refusal(tmp_path / "notes.txt")
    assert "geometry.xml and projections.mha" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_a_new_format_is_known_by_one_line(tmp_path, monkeypatch):
    toy = ModuleType("SparseCTReconLib.formats.toy")
    toy.recognises = lambda path: path.suffix == ".toy"
    toy.read = lambda path: make_scan(provenance={"read": path.name})
    monkeypatch.setitem(sys.modules, toy.__name__, toy)
    monkeypatch.setitem(formats.SCAN_FORMATS, "a toy scan (.toy)", "toy")
    (tmp_path / "a.toy").write_text("")
    (tmp_path / "a.txt").write_text("")
    assert read_scan(tmp_path / "a.toy").provenance == {"read": "a.toy"}
    assert "; a toy scan (.toy)" in refusal(tmp_path / "a.txt")


def test_an_earlier_scan_is_replaced_and_what_lies_beside_it_stays(folder):
    (folder / "volume.nrrd").write_text("mine")
    later = make_scan(views=7)
    write_scan(later, folder)
    assert read_scan(folder).content_hash() == later.content_hash()
    assert (folder / "volume.nrrd").read_text() == "mine"
    assert os.listdir(folder.parent) == ["scan"]


def test_a_new_scan_goes_into_an_empty_folder_and_makes_missing_ones(tmp_path):
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b"):
        write_scan(make_scan(), target)
        assert read_scan(target).views == 4


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(InputError, match="holds other files"):
        write_scan(make_scan(), tmp_path / "photos")
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"]


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "scan"):
        with pytest.raises(InputError, match=r"is a file|cannot be written"):
            write_scan(make_scan(), target)
    assert os.listdir(tmp_path) == ["file"]


def test_a_scan_that_fails_half_way_leaves_the_earlier_one_whole(folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rtk, "write_xml", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_scan(make_scan(views=7), folder)
    monkeypatch.undo()
    assert read_scan(folder).content_hash() == make_scan().content_hash()
    assert os.listdir(folder.parent) == ["scan"]


def test_an_earlier_scan_comes_back_where_the_last_rename_fails(folder, monkeypatch):
    rename = os.replace

    def refuse(source, target):
        if target == folder and ".writing-" in str(source):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(scan_folder.os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        write_scan(make_scan(views=7), folder)
    monkeypatch.undo()
    assert read_scan(folder).content_hash() == make_scan().content_hash()
    assert os.listdir(folder.parent) == ["scan"]


def test_numpy_values_are_written_as_numbers(tmp_path):
    scan = make_scan(provenance={"size": np.arange(3), "step": np.float32(0.5)}, photons=np.float32(5e4), mu_water=np.float32(0.25))
    write_scan(scan, tmp_path / "scan")
    again = read_scan(tmp_path / "scan")
    assert (again.provenance, again.photons, again.mu_water) == ({"size": [0, 1, 2], "step": 0.5}, 5e4, 0.25)


def test_a_folder_that_is_a_link_stays_one(folder):
    link = folder.with_name("link")
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    write_scan(make_scan(views=7), link)
    assert link.is_symlink()
    assert read_scan(folder).views == 7
