"""A series written here, against the rules of DICOM: the tables of PS3.3 for a CT image by hand, dciodvfy and dicom-validator where they
are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from poses import rotation

from SparseCTReconLib.formats.dicom_writing import write_series
from SparseCTReconLib.grid import Grid, Volume

NEEDED = {
    "SOP Common (C.12-1)": "SOPClassUID SOPInstanceUID SpecificCharacterSet",
    "General Study (C.7-3)": "StudyInstanceUID",
    "General Series (C.7-5a)": "Modality SeriesInstanceUID",
    "Frame of Reference (C.7-6)": "FrameOfReferenceUID",
    "Image Plane (C.7-10)": "PixelSpacing ImageOrientationPatient ImagePositionPatient",
    "Image Pixel (C.7-11a)": "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "PixelData",
    "CT Image (C.8-3)": "ImageType RescaleIntercept RescaleSlope RescaleType",
}
"""Attributes of type 1 (and 1C whose condition holds here) of a CT image by module: they must have a value."""

THERE = {
    "Patient (C.7-1)": "PatientName PatientID PatientBirthDate PatientSex",
    "General Study (C.7-3)": "StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber",
    "General Series (C.7-5a)": "SeriesNumber PatientPosition",
    "Frame of Reference (C.7-6)": "PositionReferenceIndicator",
    "General Equipment (C.7-8)": "Manufacturer",
    "General Image (C.7-9)": "InstanceNumber",
    "Image Plane (C.7-10)": "SliceThickness",
    "CT Image (C.8-3)": "KVP AcquisitionNumber",
}
"""Attributes of type 2: they must be there and may be empty."""

DOCUMENTS = Path.home() / "dicom-validator"
"""Where dicom-validator keeps what it has fetched of the standard."""


@pytest.fixture
def series(tmp_path):
    hu = np.random.default_rng(1).uniform(-1000, 2000, (3, 4, 5)).astype(np.float32)
    made = {
        "SparseCTRecon.method": "fdk",
        "SparseCTRecon.method_title": "FDK",
        "SparseCTRecon.options": json.dumps({"window": "hann"}),
        "SparseCTRecon.warnings": "angles may be in radians",
    }
    write_series(Volume(hu, Grid((5, 4, 3), (0.8, 0.9, 2.5), (-10.5, 20, 30)), made), tmp_path / "series")
    return tmp_path / "series"


@pytest.mark.parametrize("module", NEEDED)
def test_what_a_ct_image_must_say_is_said(series, module):
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        assert [name for name in NEEDED[module].split() if name not in dataset or dataset[name].is_empty] == []


@pytest.mark.parametrize("module", THERE)
def test_what_a_ct_image_must_mention_is_mentioned(series, module):
    dataset = pydicom.dcmread(next(series.iterdir()))
    assert [name for name in THERE[module].split() if name not in dataset] == []


def test_terms_are_the_standards_and_the_image_is_a_derived_one(series):
    dataset = pydicom.dcmread(next(series.iterdir()))
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"] and dataset.DerivationDescription
    assert (dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.RescaleType) == (1, "MONOCHROME2", "HU")
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (16, 16, 15, 1)
    assert dataset.PatientIdentityRemoved == "YES" and dataset.DeidentificationMethod
    assert len(dataset.PixelData) == 2 * dataset.Rows * dataset.Columns
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_every_value_is_of_its_kind(series):
    with pydicom.config.strict_reading():
        for path in series.iterdir():  # each value is converted when it is looked at, and refused where it is not of its kind
            for element in pydicom.dcmread(path).iterall():
                if element.VR == "DS" and not element.is_empty:
                    values = element.value if element.VM > 1 else [element.value]
                    assert all(re.fullmatch(r"[-+0-9.eE]{1,16}", str(value)) for value in values), element.name


def errors_by_dciodvfy(path):
    """What David Clunie's checker takes for an error."""
    found = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
    lines = (found.stdout + found.stderr).splitlines()
    assert "CTImage" in lines
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed: apt install dicom3tools")
def test_dciodvfy_finds_no_error_in_a_series_and_finds_what_is_missing_in_a_broken_one(series, tmp_path):
    oblique = Grid((5, 4, 3), (0.8, 0.9, 1 / 3), (-10.5, 20, 30), rotation((1, 2, -1), 0.3))
    write_series(Volume(np.zeros(oblique.shape, np.float32), oblique), tmp_path / "derived", like=series)
    for path in [*(tmp_path / "derived").iterdir(), *series.iterdir()]:
        assert errors_by_dciodvfy(path) == []
    dataset = pydicom.dcmread(path)
    del dataset.ImageType, dataset.PixelSpacing
    dataset.save_as(tmp_path / "broken.dcm")
    said = "\n".join(errors_by_dciodvfy(tmp_path / "broken.dcm"))
    assert "ImageType" in said and "PixelSpacing" in said


def test_dicom_validator_finds_no_fault(series):
    pytest.importorskip("dicom_validator", reason="dicom-validator is not installed: pip install dicom-validator")
    from dicom_validator.spec_reader.edition_reader import EditionReader
    from dicom_validator.validator.dicom_file_validator import DicomFileValidator

    editions = sorted(each.name for each in DOCUMENTS.glob("20*") if (each / "json").is_dir())
    if not editions:
        pytest.skip(f"{DOCUMENTS} holds no edition of the standard: fetch one with `validate_iods --edition current FILE`")
    validator = DicomFileValidator(EditionReader(DOCUMENTS).load_dicom_info(editions[-1]))
    found = validator.validate(str(series))
    assert found and {path: result.errors for path, result in found.items() if result.errors} == {}
