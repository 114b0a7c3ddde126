"""Scans of Varian's and Elekta's linacs: every pixel and pose as they and itk-rtk have them, and nothing of the patient."""

import logging

import numpy as np
import pytest
import scanner_files as encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scanner_scans import AIR, ANGLES, WRITERS, attenuation, write_elekta, write_obi, write_truebeam

from SparseCTReconLib import Geometry, read_scan
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import panel_images
from SparseCTReconLib.formats import rtk as rtk_format

IMAGES = arrays.arrays(
    np.int32, st.tuples(st.integers(2, 6), st.integers(1, 4).map(lambda n: 4 * n)), elements=st.integers(-(2**31), 2**31 - 1)
)
SMALL_STEPS = arrays.arrays(np.int32, (5, 8), elements=st.integers(-200, 200)).map(
    lambda steps: 3000 + steps.cumsum(axis=1, dtype=np.int32)
)


def decoded(folder, kind, data):
    path = folder / f"image.{kind}"
    path.write_bytes(data)
    assert panel_images.kind_of(path) == kind
    return panel_images.read(path, kind)


@settings(deadline=None)
@given(image=IMAGES | SMALL_STEPS)
def test_every_pixel_of_a_compressed_image_comes_back(tmp_path_factory, image):
    folder = tmp_path_factory.getbasetemp()
    np.testing.assert_array_equal(decoded(folder, "hnd", encode.hnd(image, 1.0)).pixels, image)
    said = {"PixelWidth": 0.04, "PixelHeight": 0.05}
    np.testing.assert_array_equal(decoded(folder, "xim", encode.xim(image, said)).pixels, image)
    np.testing.assert_array_equal(decoded(folder, "xim", encode.xim(image, said, compressed=False)).pixels, image)


@settings(deadline=None)
@given(image=arrays.arrays(np.uint16, (9, 9)))
def test_every_pixel_of_a_plain_image_comes_back(tmp_path_factory, image):
    folder = tmp_path_factory.getbasetemp()
    np.testing.assert_array_equal(decoded(folder, "hnc", encode.hnc(image, 1.0)).pixels, image)
    np.testing.assert_array_equal(decoded(folder, "his", encode.his(image)).pixels, image)


def test_a_header_says_pitch_angle_offset_and_monitor(tmp_path):
    image = np.zeros((4, 8), np.int32)
    hnd = decoded(tmp_path, "hnd", encode.hnd(image, -71.5, pixel_mm=(0.3, 0.7), norm_chamber=5.0))
    assert (hnd.pixel_mm, hnd.angle_deg, hnd.monitor) == ((0.3, 0.7), -71.5, 5.0)
    said = {"KVSourceRtn": 33.0, "KVDetectorLat": -16.0, "KVDetectorLng": 0.5, "PixelWidth": 0.0388, "PixelHeight": 0.0776}
    xim = decoded(tmp_path, "xim", encode.xim(image, said))
    np.testing.assert_allclose([*xim.pixel_mm, xim.angle_deg, *xim.offset_mm], [0.776, 0.388, 33, -160, 5])


@pytest.mark.parametrize("name", WRITERS)
def test_line_integrals_are_those_that_were_measured(tmp_path, name):
    WRITERS[name](tmp_path / name)
    scan = read_scan(tmp_path / name)
    truth = attenuation(5, 40, 40)[:, 4:-4, 4:-4] if name == "elekta" else attenuation(5, 12, 32)
    np.testing.assert_allclose(scan.projections, truth, atol=2e-4)
    assert scan.provenance["intensities"]["i0"] == pytest.approx(AIR)
    assert "I0" in scan.provenance["assumed"] and "supine" in scan.provenance["assumed"]


def test_elektas_frames_are_poses_about_the_isocentre(tmp_path):
    write_elekta(tmp_path, angles=[10.0, 250.0, -90.0], centres=[(115.0, 0.0)] * 3)
    read = read_scan(tmp_path).geometry
    angles = np.radians([10, 250, 270])
    expected = Geometry.from_gantry_angles(angles, 1000, 1536, (32, 32), (10.24, 10.24), offset_mm=(-115, 0))
    for name in ("source", "detector", "u", "v"):
        np.testing.assert_allclose(getattr(read, name), getattr(expected, name), atol=1e-9, err_msg=name)
    assert read.pixel_mm == pytest.approx(expected.pixel_mm)


def test_the_panel_is_displaced_by_calibration_and_on_a_half_fan_by_its_position(tmp_path):
    for fan, lateral in (("HalfFan", -148.0), ("FullFan", 0.0)):
        write_obi(tmp_path / fan, xml=encode.projection_info_xml(fan=fan))
        expected = Geometry.from_gantry_angles(np.radians(ANGLES), 1000, 1500, (12, 32), (0.4, 0.5), offset_mm=(1.5 + lateral, -2.5))
        np.testing.assert_allclose(read_scan(tmp_path / fan).geometry.detector, expected.detector, atol=1e-9)


def test_truebeams_angles_run_the_other_way_and_offsets_are_centimetres(tmp_path):
    write_truebeam(tmp_path)
    expected = Geometry.from_gantry_angles(np.radians(180 - ANGLES), 1000, 1540, (12, 32), (0.4, 0.5), offset_mm=(-160, 2.5))
    read = read_scan(tmp_path).geometry
    np.testing.assert_allclose(read.source, expected.source, atol=1e-9)
    np.testing.assert_allclose(read.detector, expected.detector, atol=1e-9)


def test_views_are_divided_by_what_the_beams_monitor_read(tmp_path):
    write_truebeam(tmp_path, monitors=[1000, 800, 1200, 1000, 900])
    scan = read_scan(tmp_path)
    np.testing.assert_allclose(scan.projections, attenuation(5, 12, 32), atol=3e-4)
    assert scan.provenance["intensities"]["dose_monitor"] == "views divided by its readings"


def test_a_monitor_that_cannot_be_right_is_not_used_and_said(tmp_path, caplog):
    write_truebeam(tmp_path, monitors=[1000, 1000, 1000, 100, 1000])
    read_scan(tmp_path)
    assert "monitor varies" in caplog.text


@pytest.mark.parametrize("name", WRITERS)
def test_the_folder_its_xml_or_one_projection_stands_for_the_scan(tmp_path, name):
    WRITERS[name](tmp_path)
    xml = next(tmp_path.glob("*.xml"))
    projection = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix in (".his", ".hnd", ".hnc", ".xim"))
    whole = read_scan(tmp_path).content_hash()
    assert read_scan(xml).content_hash() == read_scan(projection).content_hash() == read_scan(projection.parent).content_hash() == whole


def test_endings_do_not_matter_and_ten_comes_behind_nine(tmp_path):
    write_obi(tmp_path, angles=np.arange(11) * 10.0)
    for path in (tmp_path / "Scan0").iterdir():
        path.rename(path.with_suffix(".dat"))
    np.testing.assert_allclose(np.degrees(read_scan(tmp_path).geometry.gantry_angles_rad), np.arange(11) * 10, atol=1e-9)


def test_frames_without_initials_are_read(tmp_path):
    write_elekta(tmp_path)
    before = read_scan(tmp_path).geometry
    text = (tmp_path / "_Frames.xml").read_text()
    (tmp_path / "_Frames.xml").write_text(text.replace("GantryAngle", "antryAngle").replace("VCentre", "Ventre"))
    np.testing.assert_array_equal(read_scan(tmp_path).geometry.detector, before.detector)


def test_frames_of_missing_projections_are_left_aside(tmp_path, caplog):
    write_elekta(tmp_path)
    (tmp_path / "00002.1.3.46.423632.his").unlink()
    scan = read_scan(tmp_path)
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), np.delete(ANGLES, 1), atol=1e-9)
    assert "1 projections are missing" in caplog.text


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_of_the_patient_is_kept_or_said(tmp_path, name, caplog):
    folder = tmp_path / "Doe^Jane"
    WRITERS[name](folder)
    for path in sorted(folder.rglob("*"))[:-1]:
        if path.suffix in (".his", ".hnd", ".hnc", ".xim"):
            path.rename(path.with_name(path.name.replace("3", "9")))  # a gap, which is said
    with caplog.at_level(logging.DEBUG):
        scan = read_scan(folder)
    kept = repr(scan.provenance)
    for secret in (*encode.PATIENT, "Jane Doe", "Doe^Jane"):
        assert secret not in kept
    for secret in (*encode.PATIENT[2:], "Jane Doe"):
        assert secret not in caplog.text


def matrices_of(theirs, views):
    from itk import array_from_matrix

    return np.array([array_from_matrix(theirs.GetMatrix(view)) for view in range(views)])


def same_poses_as(scan, theirs):
    ours = rtk_format.from_geometry(scan.geometry).matrices()
    np.testing.assert_allclose(ours, matrices_of(theirs, scan.views), rtol=1e-9, atol=1e-4)


@pytest.mark.rtk
@pytest.mark.parametrize("kind", ["hnd", "hnc"])
def test_rtk_has_the_same_poses_and_pixels_of_obi(rtk, tmp_path, kind):
    images = write_obi(tmp_path, kind)
    files = [str(path) for path in sorted((tmp_path / "Scan0").iterdir())]
    reader = rtk.VarianObiGeometryReader.New(XMLFileName=str(tmp_path / "ProjectionInfo.xml"), ProjectionsFileNames=files)
    reader.UpdateOutputData()
    same_poses_as(read_scan(tmp_path), reader.GetGeometry())
    np.testing.assert_array_equal(pixels_by_rtk(rtk, files[0], {"hnd": "Hnd", "hnc": "Hnc"}[kind]), images[0])


@pytest.mark.rtk
def test_rtk_has_the_same_poses_and_pixels_of_truebeam(rtk, tmp_path):
    images = write_truebeam(tmp_path)
    files = [str(path) for path in sorted((tmp_path / "Acquisitions" / "733061622").iterdir())[:-1]]
    reader = rtk.VarianProBeamGeometryReader.New(XMLFileName=str(tmp_path / "Scan.xml"), ProjectionsFileNames=files)
    reader.UpdateOutputData()
    same_poses_as(read_scan(tmp_path), reader.GetGeometry())
    np.testing.assert_array_equal(pixels_by_rtk(rtk, files[0], "Xim"), images[0])


@pytest.mark.rtk
def test_rtk_has_the_same_poses_pixels_and_line_integrals_of_elekta(rtk, tmp_path):
    import itk

    images = write_elekta(tmp_path)
    reader = rtk.ElektaXVI5GeometryXMLFileReader.New(Filename=str(tmp_path / "_Frames.xml"))
    reader.GenerateOutputInformation()
    scan = read_scan(tmp_path)
    same_poses_as(scan, reader.GetGeometry())
    files = [str(path) for path in sorted(tmp_path.glob("*.his"))]
    np.testing.assert_array_equal(pixels_by_rtk(rtk, files[0], "His"), 65536 - images[0])
    projections = rtk.ProjectionsReader[itk.Image[itk.F, 3]].New(FileNames=files)
    projections.Update()
    theirs = itk.array_from_image(projections.GetOutput()) - np.log(65536 / AIR)  # their I0 is the largest number, ours the air's
    np.testing.assert_allclose(scan.projections, theirs, atol=1e-5)
    first = projections.GetOutput().TransformIndexToPhysicalPoint(projections.GetOutput().GetLargestPossibleRegion().GetIndex())
    np.testing.assert_allclose(list(first)[:2], [-31 / 2 * 10.24] * 2)


def pixels_by_rtk(rtk, file, name):
    import itk

    image = itk.Image[itk.US if name in ("Hnc", "His") else itk.UI, 2]
    reader = itk.ImageFileReader[image].New(FileName=file)
    reader.SetImageIO(getattr(rtk, f"{name}ImageIO").New())
    reader.Update()
    return itk.array_from_image(reader.GetOutput())


def test_what_is_no_scan_of_a_linac_is_left_to_others(tmp_path):
    (tmp_path / "Scan.xml").write_text("<Scan>no imager</Scan>")
    (tmp_path / "_Frames.xml").write_text("<ProjectionSet/>")
    (tmp_path / "a.his").write_bytes(b"history")
    with pytest.raises(InputError, match="is no scan"):
        read_scan(tmp_path)
