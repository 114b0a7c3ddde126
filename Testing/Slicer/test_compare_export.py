"""What a comparison leaves on disk: the report, the figures, and volumes as NRRD or as DICOM series derived from their CT."""

import numpy as np
import pytest
from comparing_worker import new_worker
from volumes_to_compare import add_volume, body, reference_and_results

from SparseCTReconLib import formats

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def played(logic):
    """Let comparisons be played."""
    from acting_worker import Script

    script = Script()
    logic.newTransport = new_worker(script)
    return script


def headers(folder):
    pydicom = pytest.importorskip("pydicom")
    return [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(folder.iterdir())]


def test_the_report_and_the_figures_are_written_where_they_are_wanted(slicer, logic, played, tmp_path):
    reference, results = reference_and_results(slicer, 1)
    with pytest.raises(ValueError, match="no comparison to write"):
        logic.exportReport(tmp_path / "a.html")
    logic.compare(reference, results)
    assert logic.exportReport(tmp_path / "M\u00fcller report.html").read_text(encoding="utf-8") == "<html>played</html>"
    assert logic.exportReport(tmp_path / "a.csv").read_text(encoding="utf-8").startswith("result,kind")
    with pytest.raises(ValueError, match="neither a report"):
        logic.exportReport(tmp_path / "a.pdf")
    with pytest.raises(ValueError, match="could not be written"):
        logic.exportReport(tmp_path / "missing" / "a.html")


def test_volumes_are_written_as_nrrd_under_names_that_are_free(slicer, logic, tmp_path):
    reference, (result,) = reference_and_results(slicer, 1)
    result.SetName("naf: 50/360 \u00b5")
    paths = logic.exportVolumes([result], tmp_path) + logic.exportVolumes([result], tmp_path)
    assert [path.name for path in paths] == ["naf_ 50_360 \u00b5.nrrd", "naf_ 50_360 \u00b5 2.nrrd"]
    volume = formats.read_volume(paths[1])
    assert np.allclose(volume.array, body() + 10) and np.allclose(volume.grid.origin_mm, (-10, 20, 30))
    assert volume.attributes["SparseCTRecon.method"] == "fdk"


def test_a_dicom_series_is_derived_says_its_method_and_lies_where_the_volume_lay(slicer, logic, tmp_path):
    _reference, (result,) = reference_and_results(slicer, 1)
    first, second = (logic.exportVolumes([result], tmp_path, "DICOM")[0] for _ in range(2))
    assert [first.name, second.name] == ["Result 1", "Result 1 2"]
    series = headers(first)
    assert len(series) == body().shape[0] and series[0].ImageType[0] == "DERIVED" and "fdk" in series[0].SeriesDescription
    assert series[0].SeriesInstanceUID != headers(second)[0].SeriesInstanceUID
    volume = formats.read_volume(first)
    assert np.allclose(volume.array, body() + 10) and np.allclose(volume.grid.origin_mm, (-10, 20, 30))


@pytest.fixture
def from_dicom(slicer, logic, tmp_path, monkeypatch):
    """Write a volume as a DICOM series and let the node be loaded from it; return the header of its first slice."""
    files = {}

    class Database:
        def fileForInstance(self, uid):
            return str(files[uid])

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)

    def load(node):
        source = logic.exportVolumes([node], tmp_path, "DICOM")[0]
        found = {header.SOPInstanceUID: file for header, file in zip(headers(source), sorted(source.iterdir()))}
        files.update(found)
        node.SetAttribute("DICOM.instanceUIDs", " ".join(found))
        return headers(source)[0]

    return load


def test_a_dicom_series_joins_the_study_of_the_ct_that_was_loaded_from_dicom(slicer, logic, tmp_path, from_dicom):
    reference, (result,) = reference_and_results(slicer, 1)
    original = from_dicom(reference)
    result.SetNodeReferenceID("SparseCTRecon.ct", reference.GetID())
    derived = headers(logic.exportVolumes([result], tmp_path, "DICOM")[0])[0]
    assert derived.StudyInstanceUID == original.StudyInstanceUID and derived.PatientID == original.PatientID
    assert derived.SeriesInstanceUID != original.SeriesInstanceUID
    assert derived.SOPInstanceUID not in reference.GetAttribute("DICOM.instanceUIDs")


def test_each_dicom_series_is_of_the_patient_of_its_own_ct(slicer, logic, tmp_path, from_dicom):
    reference, results = reference_and_results(slicer, 3)
    another = add_volume(slicer, "Another CT", body())
    patients = [from_dicom(node).PatientID for node in (reference, another)]
    for result, ct in zip(results, (reference, another)):
        result.SetNodeReferenceID("SparseCTRecon.ct", ct.GetID())
    written = [headers(path)[0].PatientID for path in logic.exportVolumes([another, *results], tmp_path, "DICOM")]
    assert written[:3] == [patients[1], *patients] and written[3] not in patients


def test_a_dicom_series_lies_in_the_frame_of_its_ct_wherever_a_transform_has_moved_both(slicer, logic, tmp_path, from_dicom):
    reference, (result,) = reference_and_results(slicer, 1)
    original = from_dicom(reference)
    result.SetNodeReferenceID("SparseCTRecon.ct", reference.GetID())
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 50 * np.eye(4, k=3)))
    reference.SetAndObserveTransformNodeID(transform.GetID())
    for parent, moved in ((transform.GetID(), 0), (None, 50)):
        result.SetAndObserveTransformNodeID(parent)
        derived = headers(logic.exportVolumes([result], tmp_path, "DICOM")[0])[0]
        assert derived.FrameOfReferenceUID == original.FrameOfReferenceUID
        assert np.allclose(np.subtract(derived.ImagePositionPatient, original.ImagePositionPatient), (moved, 0, 0))


def test_a_dicom_series_of_a_volume_from_elsewhere_lies_where_the_volume_is_in_the_world(slicer, logic, tmp_path):
    _reference, (result,) = reference_and_results(slicer, 1)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 50 * np.eye(4, k=3)))
    result.SetAndObserveTransformNodeID(transform.GetID())
    (written,) = logic.exportVolumes([result], tmp_path, "DICOM")
    assert np.allclose(formats.read_volume(written).grid.origin_mm, (-60, 20, 30))


def test_a_volume_without_voxels_is_not_written(slicer, logic, tmp_path):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(ValueError, match="empty has no voxels"):
        logic.exportVolumes([empty], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["NRRD", "DICOM"])
def test_a_folder_that_cannot_be_written_to_is_a_sentence(slicer, logic, tmp_path, kind):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match="file"):
        logic.exportVolumes(reference_and_results(slicer, 1)[1], tmp_path / "file", kind)
