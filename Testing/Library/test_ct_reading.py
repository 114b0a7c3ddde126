"""CTs from every format, and everything that is no CT."""

import logging
import os

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from poses import rotation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import read_ct, read_volume, write_scan, write_volume
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.scan import Scan

GRID = Grid((8, 7, 5), (0.8, 0.9, 2.5), (-33.0, 12.0, 450.0), rotation((1, 2, -1), 0.3))
HU = np.random.default_rng(0).integers(-1024, 2000, GRID.shape).astype(np.float32)


def write_slice(path, hu, position, orientation=(1, 0, 0, 0, 1, 0), **tags):
    """One CT slice in DICOM, with rescale slope 1 and intercept -1024."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    stored = np.asarray(hu + 1024).astype(np.uint16)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "Modality": "CT",
        "SeriesDescription": "Head",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "PixelSpacing": [GRID.spacing_mm[1], GRID.spacing_mm[0]],
        "SliceThickness": GRID.spacing_mm[2],
        "ImagePositionPatient": [float(f"{p:.6f}") for p in position],
        "ImageOrientationPatient": [float(f"{o:.8f}") for o in orientation],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "PixelData": stored.tobytes(),
    }
    for name, value in (values | tags).items():
        setattr(dataset, name, value)
    pydicom.dcmwrite(str(path), dataset, enforce_file_format=True)


def write_series(folder, grid=GRID, hu=HU, order=None, name="slice", shear=(0.0, 0.0, 0.0), **tags):
    """A series of slices, in files whose names say nothing of their order."""
    folder.mkdir(exist_ok=True)
    for k, number in enumerate(order or [3, 0, 4, 1, 2]):
        position = np.array(grid.origin_mm) + k * (grid.spacing_mm[2] * grid.direction[:, 2] + shear)
        orientation = grid.direction[:, :2].T.ravel()
        write_slice(folder / f"{name}{number}.dcm", hu[k], position, orientation, InstanceNumber=number, **tags)
    return folder


def refusal(path, read=read_ct):
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha", "ct.nii", "ct.nii.gz", "Ünïcode Kopf.NRRD"])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_oblique_ct_comes_back_from_every_format(tmp_path, name, compressed):
    write_volume(Volume(HU, GRID), tmp_path / name, compressed)
    volume = read_ct(tmp_path / name)
    assert volume.array.dtype == np.float32
    assert volume.unit == "HU"
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.grid.matches(GRID, tolerance_mm=1e-4)
    assert os.listdir(tmp_path) == [name]


def test_a_ct_written_by_another_tool_in_whole_numbers_is_read(tmp_path):
    image = sitk.GetImageFromArray(HU.astype(np.int16))
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"), True)
    volume = read_ct(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.grid.origin_mm == (1, 2, 3)
    assert volume.attributes == {}


def test_a_nrrd_in_ras_is_read_in_lps(tmp_path):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 8 7 5\nencoding: raw\nendian: little\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n\n"
    )
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + HU.astype("<i2").tobytes())
    volume = read_ct(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(volume.array, HU)
    np.testing.assert_allclose((volume.grid.index_to_world @ [1, 1, 1, 1])[:3], [-12, -23, 34])


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha"])
def test_the_header_says_how_a_volume_was_made(tmp_path, name):
    attributes = {"SparseCTRecon.method": "admm-tv", "SparseCTRecon.options": '{"a": [1, 2], "b": "x = y; z := 3"}'}
    write_volume(Volume(HU, GRID, attributes), tmp_path / name)
    assert read_volume(tmp_path / name).attributes == attributes | {"SparseCTRecon.unit": "HU"}
    assert sitk.ReadImage(str(tmp_path / name)).GetMetaData("SparseCTRecon.method") == "admm-tv"
    assert b"SparseCTRecon.method" in (tmp_path / name).read_bytes()


def test_several_lines_in_an_attribute_survive_in_nrrd(tmp_path):
    write_volume(Volume(HU, GRID, {"note": "one\ntwo ü"}), tmp_path / "ct.nrrd")
    assert read_volume(tmp_path / "ct.nrrd").attributes["note"] == "one\ntwo ü"


def test_an_attribute_too_long_for_metaimage_is_left_out_and_said(tmp_path, caplog):
    volume = Volume(HU, GRID, {"long": "x" * 40_000, "short": "y"})
    write_volume(volume, tmp_path / "ct.mha")
    assert "long" in caplog.text
    assert read_volume(tmp_path / "ct.mha").attributes["short"] == "y"
    write_volume(volume, tmp_path / "ct.nrrd")
    assert len(read_volume(tmp_path / "ct.nrrd").attributes["long"]) == 40_000


def test_attenuation_stays_attenuation_and_is_no_ct(tmp_path):
    write_volume(Volume(np.full(GRID.shape, 0.02), GRID, unit="1/mm"), tmp_path / "mu.nrrd")
    assert read_volume(tmp_path / "mu.nrrd").unit == "1/mm"
    assert "holds values in 1/mm" in refusal(tmp_path / "mu.nrrd")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.random.default_rng(0).uniform(0, 1, GRID.shape), "holds values from"),
        (np.random.default_rng(0).uniform(0, 900, GRID.shape), "rescale intercept"),
        (np.random.default_rng(0).normal(0, 1, GRID.shape), "holds values from"),
        (HU + 1024, "rescale intercept"),
        (np.where(HU > 1900, np.nan, HU), "not finite"),
        (np.where(HU > 1900, 1e30, HU), "no Hounsfield units"),
    ],
)
def test_values_that_cannot_be_hounsfield_units_are_refused(tmp_path, values, said):
    write_volume(Volume(values, GRID), tmp_path / "image.nrrd")
    message = refusal(tmp_path / "image.nrrd")
    assert said in message
    assert "image.nrrd" in message
    assert read_volume(tmp_path / "image.nrrd").array.shape == GRID.shape


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha", "ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.6, 0.97])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_is_refused_by_name(tmp_path, name, kept, compressed):
    write_volume(Volume(HU, GRID), tmp_path / name, compressed)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(kept * len(data))])
    assert name in refusal(tmp_path / name)


def test_what_is_no_volume_is_answered_with_what_would_be(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert "NIfTI" in refusal(tmp_path / "notes.txt")
    assert "no DICOM series" in refusal(tmp_path / "empty")
    assert "does not exist" in refusal(tmp_path / "nowhere.nrrd")


def test_a_scan_folder_is_not_taken_for_a_volume(tmp_path):
    write_scan(Scan(np.zeros((3, 4, 5)), Geometry.circular(3, detector_shape=(4, 5))), tmp_path / "scan")
    assert "reconstruct it first" in refusal(tmp_path / "scan")


@pytest.mark.parametrize("shape", [(6, 7), (2, 5, 6, 7)])
def test_an_image_of_other_dimensions_is_refused(tmp_path, shape):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, dtype=np.float32), isVector=False), str(tmp_path / "image.nrrd"))
    assert f"has {len(shape)} dimensions" in refusal(tmp_path / "image.nrrd")


def test_a_colour_volume_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), dtype=np.float32), isVector=True), str(tmp_path / "image.nrrd"))
    assert "3 values a voxel" in refusal(tmp_path / "image.nrrd")


@pytest.mark.parametrize("name", ["ct.xyz", "ct", "ct.gz"])
def test_an_unknown_ending_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(InputError, match=r"\.nrrd, \.mha, \.nii, \.nii\.gz"):
        write_volume(Volume(HU, GRID), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(Volume(HU, GRID), tmp_path / "file" / "ct.nrrd")
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_earlier_volume_whole(tmp_path, monkeypatch):
    write_volume(Volume(HU, GRID), tmp_path / "ct.nrrd")

    def fail(image, name, compressed):
        with open(name, "w") as stream:
            stream.write("half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(Volume(HU * 0, GRID), tmp_path / "ct.nrrd")
    assert os.listdir(tmp_path) == ["ct.nrrd"]
    np.testing.assert_array_equal(read_ct(tmp_path / "ct.nrrd").array, HU)


def test_missing_folders_are_made(tmp_path):
    write_volume(Volume(HU, GRID), tmp_path / "a" / "b" / "ct.nrrd")
    assert read_ct(tmp_path / "a" / "b" / "ct.nrrd").grid.matches(GRID)


def test_an_oblique_dicom_series_is_read_in_its_place_whatever_its_files_are_called(tmp_path):
    volume = read_ct(write_series(tmp_path / "series"))
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.grid.matches(GRID, tolerance_mm=1e-3)
    assert volume.attributes == {"DICOM.Modality": "CT"}


def test_slices_stored_from_head_to_foot_are_the_same_volume(tmp_path):
    upright = Grid(GRID.size, GRID.spacing_mm, GRID.origin_mm)
    volume = read_ct(write_series(tmp_path / "series", upright, order=[4, 3, 2, 1, 0]))
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.grid.matches(upright)


def test_of_several_series_the_largest_is_read_and_the_log_says_so(tmp_path, caplog):
    folder = write_series(tmp_path / "series")
    for k in range(2):
        write_slice(folder / f"scout{k}.dcm", HU[0], (0, 0, 10 * k), SeriesInstanceUID="1.2.9", SeriesDescription="Scout")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_ct(folder).array, HU)
    assert "2 DICOM series" in caplog.text
    assert "'Scout' (2 files" in caplog.text


def test_one_file_names_its_series(tmp_path):
    folder = write_series(tmp_path / "series")
    write_series(folder, hu=HU[::-1], name="other", SeriesInstanceUID="1.2.9", SeriesDescription="Bone")
    message = refusal(folder)
    assert "give one file of the series you mean" in message
    assert "'Bone' (5 files" in message
    np.testing.assert_array_equal(read_ct(folder / "other0.dcm").array, HU[::-1])
    np.testing.assert_array_equal(read_ct(folder / "slice0.dcm").array, HU)


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    upright = Grid(GRID.size, GRID.spacing_mm, GRID.origin_mm)
    folder = write_series(tmp_path / "series", upright)
    (folder / "slice4.dcm").unlink()
    assert "missing or irregular slice between 452.50 and 457.50 mm" in refusal(folder)


def test_a_slice_at_the_same_place_twice_is_refused(tmp_path):
    folder = write_series(tmp_path / "series")
    write_series(folder, name="again")
    assert "same place" in refusal(folder)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path):
    upright = Grid(GRID.size, GRID.spacing_mm, GRID.origin_mm)
    shear = np.array([0, GRID.spacing_mm[2] * np.tan(np.radians(15)), 0])
    assert "tilted by 15.0 degrees" in refusal(write_series(tmp_path / "series", upright, shear=shear))


def test_a_localiser_among_the_slices_is_refused(tmp_path):
    folder = write_series(tmp_path / "series")
    write_slice(folder / "scout.dcm", HU[0], (0, 0, 0), (0, 1, 0, 0, 0, -1))
    assert "localiser" in refusal(folder)


def test_slices_of_different_sizes_are_refused(tmp_path):
    folder = write_series(tmp_path / "series")
    orientation = GRID.direction[:, :2].T.ravel()
    write_slice(folder / "small.dcm", HU[0, :3, :3], np.add(GRID.origin_mm, 50 * GRID.direction[:, 2]), orientation)
    assert "different sizes" in refusal(folder)


def test_one_slice_is_no_volume(tmp_path):
    (tmp_path / "series").mkdir()
    write_slice(tmp_path / "series" / "slice.dcm", HU[0], (0, 0, 0))
    assert "one slice" in refusal(tmp_path / "series")


def test_a_slice_without_a_position_is_refused_by_name(tmp_path):
    folder = write_series(tmp_path / "series")
    dataset = pydicom.dcmread(folder / "slice2.dcm")
    del dataset.ImagePositionPatient
    dataset.save_as(folder / "slice2.dcm")
    assert "slice2.dcm" in refusal(folder)


def test_an_mr_series_is_refused_as_a_ct_but_read_as_a_volume(tmp_path):
    folder = write_series(tmp_path / "series", Modality="MR")
    assert "of modality MR" in refusal(folder)
    np.testing.assert_array_equal(read_volume(folder).array, HU)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_dicom_file_cut_short_is_refused_by_name_also_at_the_end_of_the_stack(tmp_path, number):
    folder = write_series(tmp_path / "series")
    data = (folder / f"slice{number}.dcm").read_bytes()
    (folder / f"slice{number}.dcm").write_bytes(data[:-60])
    assert f"slice{number}.dcm is damaged or cut short" in refusal(folder)


def test_other_dicom_objects_beside_a_series_do_not_disturb_it(tmp_path):
    folder = write_series(tmp_path / "series")
    plan = pydicom.dcmread(folder / "slice0.dcm")
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    plan.SeriesInstanceUID, plan.Modality = "1.2.7", "RTSTRUCT"
    for name in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(plan, name)
    plan.save_as(folder / "structures.dcm")
    np.testing.assert_array_equal(read_ct(folder).array, HU)


@pytest.mark.parametrize("name", ["head_vhp_female_2mm.nrrd", "knee_vhp_female_2mm.nrrd"])
def test_the_bundled_cts_are_cts(request, name):
    volume = read_ct(request.config.rootpath / "Resources" / "SampleData" / name)
    assert volume.grid.spacing_mm == (2, 2, 2)
