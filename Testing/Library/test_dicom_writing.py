"""Volumes as DICOM series: two other readers find every value at its place, and the series says what it is."""

import builtins
import json
import logging
import os

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from poses import rotation

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import read_ct, read_volume, write_volume
from SparseCTReconLib.formats.dicom_writing import is_series, write_series
from SparseCTReconLib.grid import Grid, Volume

UPRIGHT = Grid((8, 7, 5), (0.8, 0.9, 2.5), (-33.0, 12.0, 450.0))
OBLIQUE = Grid((8, 7, 5), (0.8125, 0.9, 1 / 3), (-33.0, 12.0, 450.0), rotation((1, 2, -1), 0.3))
SAGITTAL = Grid((8, 7, 5), (0.8, 0.9, 2.5), (-33.0, 12.0, 450.0), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))
MIRRORED = Grid((8, 7, 5), (0.8, 0.9, 2.5), (-33.0, 12.0, 450.0), np.diag([1.0, 1.0, -1.0]))
HU = np.random.default_rng(0).uniform(-1024, 3000, UPRIGHT.shape).astype(np.float32)
MADE = {
    "SparseCTRecon.method": "admm-tv",
    "SparseCTRecon.method_title": "ADMM-TV",
    "SparseCTRecon.options": json.dumps({"iterations": 40, "weights": "/home/jane.doe/w.safetensors"}),
    "SparseCTRecon.geometry": "50 views, full circle",
    "DICOM.PatientName": "Doe^Jane",
}


def slices(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def uids(folder, keyword):
    return {str(each.get(keyword)) for each in slices(folder)}


def refusal(volume, folder, **arguments):
    with pytest.raises(InputError) as error:
        write_series(volume, folder, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def values_at(volume, points):
    """Values of the voxels whose centres are `points` (n, 3) in LPS."""
    index = points @ volume.grid.world_to_index[:3, :3].T + volume.grid.world_to_index[:3, 3]
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    return volume.array[tuple(np.rint(index).astype(int).T[::-1])]


def read_by_gdcm(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    return Volume(sitk.GetArrayFromImage(image), grid)


@pytest.mark.parametrize("reader", [read_ct, read_by_gdcm])
@pytest.mark.parametrize("grid", [UPRIGHT, OBLIQUE, SAGITTAL, MIRRORED], ids=["upright", "oblique", "sagittal", "mirrored"])
def test_every_value_is_found_where_it_was(tmp_path, grid, reader):
    write_series(Volume(HU, grid), tmp_path / "ein Kopf ψ")
    volume = reader(tmp_path / "ein Kopf ψ")
    z, y, x = np.indices(grid.shape).reshape(3, -1)
    points = np.stack([x, y, z], 1) @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]
    assert np.abs(values_at(volume, points) - HU.ravel()).max() <= 0.5
    assert os.listdir(tmp_path) == ["ein Kopf ψ"]


def test_a_grid_comes_back_as_it_was_but_for_the_digits_of_decimal_strings(tmp_path):
    write_series(Volume(HU, OBLIQUE), tmp_path / "series")
    assert read_ct(tmp_path / "series").grid.matches(OBLIQUE, tolerance_mm=1e-5)


@pytest.mark.parametrize("name", ["series/", "series.dcm", "a/new/Series.DCM"])
def test_a_name_with_a_slash_or_dcm_at_its_end_asks_for_a_series(tmp_path, name):
    assert is_series(name)
    write_volume(Volume(HU, UPRIGHT), f"{tmp_path}/{name}")
    assert read_volume(tmp_path / name).grid.matches(UPRIGHT)


def test_it_is_a_derived_ct_for_research_that_says_how_it_was_made(tmp_path):
    write_series(Volume(HU, UPRIGHT, MADE), tmp_path / "series")
    for each in slices(tmp_path / "series"):
        assert each.SOPClassUID == pydicom.uid.CTImageStorage and each.Modality == "CT"
        assert list(each.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert each.SeriesDescription == "ADMM-TV (SparseCTRecon, research use only)"
        assert "RESEARCH USE ONLY" in each.ImageComments and "iterations=40" in each.DerivationDescription
        assert "50 views" in each.DerivationDescription and each.BurnedInAnnotation == "NO"
    assert [each.InstanceNumber for each in slices(tmp_path / "series")] == [1, 2, 3, 4, 5]


def test_without_a_source_nobody_is_named(tmp_path):
    write_series(Volume(HU, UPRIGHT, MADE), tmp_path / "series")
    for path in (tmp_path / "series").iterdir():
        data = path.read_bytes()
        assert b"Doe" not in data and b"doe" not in data
    first = slices(tmp_path / "series")[0]
    assert first.PatientName == "Anonymous" and first.PatientBirthDate == "" and first.PatientIdentityRemoved == "YES"


def test_uids_are_the_series_own_and_each_slices_own(tmp_path):
    for name in ("a", "b"):
        write_series(Volume(HU, UPRIGHT), tmp_path / name)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len(uids(tmp_path / "a", keyword)) == 1
        assert uids(tmp_path / "a", keyword).isdisjoint(uids(tmp_path / "b", keyword))
    both = uids(tmp_path / "a", "SOPInstanceUID") | uids(tmp_path / "b", "SOPInstanceUID")
    assert len(both) == 10 and all(pydicom.uid.UID(uid).is_valid for uid in both)


@pytest.fixture
def source(tmp_path):
    """A series of a patient, as a hospital in Munich may have written it."""
    write_series(Volume(HU, UPRIGHT), tmp_path / "source")
    said = {
        "PatientName": "Müller^Jörg",
        "PatientID": "4711",
        "PatientBirthDate": "19700101",
        "StudyDate": "20200202",
        "PatientPosition": "HFS",
    }
    for path in (tmp_path / "source").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        for keyword, value in (said | {"AccessionNumber": "A1", "SeriesNumber": 3}).items():
            setattr(dataset, keyword, value)
        for keyword in ("StudyID", "PatientIdentityRemoved", "DeidentificationMethod"):
            delattr(dataset, keyword)
        dataset.save_as(path)
    return tmp_path / "source"


@pytest.mark.parametrize("file", ["", "slice-0002.dcm"])
def test_like_a_source_it_joins_patient_study_and_frame_as_a_new_series(tmp_path, source, file):
    write_series(Volume(HU, OBLIQUE), tmp_path / "series", like=source / file)
    first, theirs = slices(tmp_path / "series")[0], slices(source)[0]
    assert str(first.PatientName) == "Müller^Jörg" and first.PatientID == "4711" and first.AccessionNumber == "A1"
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "PatientBirthDate", "PatientPosition"):
        assert first[keyword].value == theirs[keyword].value
    assert first.SeriesInstanceUID != theirs.SeriesInstanceUID and first.SeriesNumber != theirs.SeriesNumber
    assert uids(tmp_path / "series", "SOPInstanceUID").isdisjoint(uids(source, "SOPInstanceUID"))
    assert "PatientIdentityRemoved" not in first


def test_like_an_anonymised_source_it_stays_anonymised(tmp_path, source):
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", ["names taken out", "dates moved"]
        dataset.save_as(path)
    write_series(Volume(HU, OBLIQUE), tmp_path / "series", like=source)
    first = slices(tmp_path / "series")[0]
    assert first.PatientIdentityRemoved == "YES" and list(first.DeidentificationMethod) == ["names taken out", "dates moved"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_source_with_a_date_that_is_none_does_not_keep_a_series_from_its_study(tmp_path, source):
    dataset = pydicom.dcmread(source / "slice-0001.dcm")
    dataset.add(pydicom.DataElement("StudyDate", "DA", "2020.02.0x", validation_mode=0))
    dataset.save_as(source / "slice-0001.dcm")
    write_series(Volume(HU, OBLIQUE), tmp_path / "series", like=source)
    assert uids(tmp_path / "series", "StudyInstanceUID") == uids(source, "StudyInstanceUID")


def test_a_description_of_the_users_takes_the_place_of_the_methods(tmp_path):
    write_series(Volume(HU, UPRIGHT, MADE), tmp_path / "series", description="Knie links \\ " + 80 * "x")
    said = slices(tmp_path / "series")[0].SeriesDescription
    assert said.startswith("Knie links / xxx") and len(said) == 64


def test_what_16_bits_cannot_hold_is_clipped_and_said(tmp_path, caplog):
    hu = HU.copy()
    hu[0, 0, :3] = 1e5, -1e5, 32767.4
    with caplog.at_level(logging.WARNING):
        write_series(Volume(hu, UPRIGHT), tmp_path / "series")
    assert "2 voxels outside -32768 to 32767 HU are clipped" in caplog.text
    np.testing.assert_array_equal(read_ct(tmp_path / "series").array[0, 0, :3], [32767, -32768, 32767])


def test_what_fits_is_written_without_a_word(tmp_path, caplog):
    write_series(Volume(HU, UPRIGHT), tmp_path / "series")
    assert caplog.text == ""


def test_values_that_dicom_cannot_hold_are_refused(tmp_path):
    assert "1/mm" in refusal(Volume(HU, UPRIGHT, unit="1/mm"), tmp_path / "series")
    assert "not finite" in refusal(Volume(np.where(HU > 2000, np.nan, HU), UPRIGHT), tmp_path / "series")
    assert os.listdir(tmp_path) == []


def test_a_folder_with_something_in_it_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "notes.txt").write_text("hello")
    assert "is not empty" in refusal(Volume(HU, UPRIGHT), tmp_path / "series")
    assert os.listdir(tmp_path / "series") == ["notes.txt"] and os.listdir(tmp_path) == ["series"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "series").mkdir()
    write_series(Volume(HU, UPRIGHT), tmp_path / "series")
    assert len(os.listdir(tmp_path / "series")) == 5 and os.listdir(tmp_path) == ["series"]


@pytest.mark.parametrize("place", ["file", "file/series"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    message = refusal(Volume(HU, UPRIGHT), tmp_path / place)
    assert "is a file" in message or "cannot be written" in message
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_no_half_series(tmp_path, monkeypatch):
    written = []

    def fill(path, dataset, **how):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(b"half")

    monkeypatch.setattr(pydicom, "dcmwrite", fill)
    assert "No space left on device" in refusal(Volume(HU, UPRIGHT), tmp_path / "series")
    assert os.listdir(tmp_path) == []


def test_a_source_that_is_no_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for like in ("notes.txt", "empty"):
        assert "cannot be read as DICOM" in refusal(Volume(HU, UPRIGHT), tmp_path / "series", like=tmp_path / like)
    assert "does not exist" in refusal(Volume(HU, UPRIGHT), tmp_path / "series", like=tmp_path / "nowhere")


def test_a_source_without_a_study_is_refused(tmp_path, source):
    dataset = pydicom.dcmread(source / "slice-0001.dcm")
    del dataset.StudyInstanceUID
    dataset.save_as(source / "slice-0001.dcm")
    assert "StudyInstanceUID" in refusal(Volume(HU, UPRIGHT), tmp_path / "series", like=source)


def test_without_pydicom_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install pydicom" in refusal(Volume(HU, UPRIGHT), tmp_path / "series")


def test_an_old_pydicom_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom, "__version__", "2.4.4")
    assert "needs pydicom 3" in refusal(Volume(HU, UPRIGHT), tmp_path / "series")
    assert os.listdir(tmp_path) == []
