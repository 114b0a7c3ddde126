"""Who the patient is stays in the files that were given: no log, no name of a file, no job's folder and no result says it."""

import logging
import os
import time

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xray_runs
from played_worker import PlayedTransport
from scanner_scans import WRITERS, counts

from SparseCTReconLib import Grid, Volume, read_volume, write_scan, write_volume
from SparseCTReconLib.formats import read_scan
from SparseCTReconLib.formats.dicom_writing import write_series
from SparseCTReconLib.jobs.client import Job
from SparseCTReconLib.jobs.spec import ReconstructJob, write_spec
from SparseCTReconLib.simulate import simulate

SECRETS = ("Doe", "Jane", "4711")
GRID = Grid.centred((12, 12, 6), (20, 20, 30), (0, 0, 0))
HU = np.random.default_rng(2).uniform(-1000, 1500, GRID.shape).astype(np.float32)


def said_in(folder):
    """Everything that a folder's files and their names say."""
    return "".join(
        f"{path.relative_to(folder)} {path.read_bytes().decode('latin-1') if path.is_file() else ''}" for path in folder.rglob("*")
    )


def named(text):
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def ct(tmp_path):
    """A CT of a patient, in DICOM and as an NRRD file that repeats its header."""
    folder = tmp_path / "given"
    write_series(Volume(HU, GRID), folder / "dicom")
    for path in (folder / "dicom").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.SeriesDescription = "Doe^Jane", "4711-secret", "Head"
        dataset.save_as(path)
    image = sitk.GetImageFromArray(HU)
    image.SetSpacing((20, 20, 30))
    for key, value in (("PatientName", "Doe^Jane"), ("DICOM.PatientID", "4711-secret"), ("DICOM.Modality", "CT")):
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(folder / "ct.nrrd"))
    return folder


@pytest.mark.parametrize("source", ["dicom", "ct.nrrd"])
def test_a_simulated_scan_does_not_say_whose_ct_it_was_made_of(tmp_path, ct, source, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        scan = simulate(read_volume(ct / source), 4, detector_shape=(6, 8), pixel_mm=(60, 60))
        write_scan(scan, tmp_path / "made" / "scan")
    assert named(said_in(tmp_path / "made") + caplog.text + "".join(capfd.readouterr())) == []


def test_a_volume_read_from_dicom_is_written_without_the_patient(tmp_path, ct, caplog):
    with caplog.at_level(logging.DEBUG):
        for name in ("a.nrrd", "b.mha", "c.nii.gz", "d/"):
            write_volume(read_volume(ct / "dicom"), f"{tmp_path}/made/{name}")
    assert named(said_in(tmp_path / "made") + caplog.text) == []


@pytest.mark.parametrize("name", ["dicom", *WRITERS])
def test_a_scan_from_a_scanner_is_kept_without_the_patient(tmp_path, name, caplog):
    given = tmp_path / "Doe^Jane"
    if name == "dicom":
        given.mkdir()
        (given / "run.dcm").write_bytes(xray_runs.run(counts(6, 10, 32), [40]))
    else:
        WRITERS[name](given)
    write_scan(read_scan(given), tmp_path / "made" / "scan")
    assert named(said_in(tmp_path / "made")) == []


@pytest.mark.skipif(os.name == "nt", reason="looks at processes as POSIX shows them")
@pytest.mark.usefixtures("quick_workers")
def test_a_job_on_a_patients_run_says_nothing_of_the_patient(tmp_path):
    (tmp_path / "run.dcm").write_bytes(xray_runs.run(counts(6, 10, 32), [40], t00200011=("IS", "Doe^Jane")))
    place = tmp_path / "place"
    place.mkdir()
    spec = {"scan": str(tmp_path / "run.dcm"), "output": str(place / "volume.nrrd"), "method": "played", "options": {"steps": 2}}
    spec |= {"grid": GRID.to_dict(), "summary": str(place / "summary.json"), "previews": str(place / "previews")}
    told = []
    job = Job(PlayedTransport(), on_event=told.append)
    job.start(write_spec(ReconstructJob(**spec), place / "job"))
    end = time.monotonic() + 60
    while job.active and time.monotonic() < end:
        job.poll()
        time.sleep(0.02)
    assert (place / "volume.nrrd").exists(), told
    assert named(said_in(place) + repr(told)) == []


def test_a_damaged_series_is_refused_without_the_patient(tmp_path, ct, caplog, capfd):
    file = sorted((ct / "dicom").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-50])
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError) as error:
        read_volume(ct / "dicom")
    assert named(str(error.value) + caplog.text + "".join(capfd.readouterr())) == []
