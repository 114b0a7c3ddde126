"""Scans from disk: by the panel, and by Slicer's own reader plugin."""

import types

import pytest
import scan_files
from acting_worker import small_scan

from SparseCTReconLib import formats

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "Kopf Ωμέγα 頭" / "a scan"
    formats.write_scan(small_scan(seed=4), place)
    return place


@pytest.fixture
def reader(host):
    import SparseCTRecon

    said = []
    messages = types.SimpleNamespace(AddMessage=lambda kind, text: said.append(text))
    return SparseCTRecon.SparseCTReconFileReader(types.SimpleNamespace(userMessages=lambda: messages, said=said))


@pytest.mark.parametrize("name", ["", "scan.json", "geometry.xml", "projections.mha"])
def test_a_scan_is_loaded_by_its_folder_or_a_file_of_it_whatever_their_names(logic, folder, name):
    from SparseCTReconPanel.scan_node import scanOf

    node = logic.loadScan(str(folder / name))
    assert node.GetName() == "a scan"
    assert scanOf(node).content_hash() == small_scan(seed=4).content_hash()


def test_a_scan_that_is_saved_is_read_again(logic, folder, tmp_path):
    node = logic.loadScan(str(folder))
    logic.saveScan(node, str(tmp_path / "saved ü"))
    assert formats.read_scan(tmp_path / "saved ü").content_hash() == small_scan(seed=4).content_hash()


def test_a_scan_without_scan_json_says_what_was_assumed(slicer, logic, folder):
    from SparseCTReconPanel.scan_node import assumedOf

    (folder / "scan.json").unlink()
    assert assumedOf(logic.loadScan(str(folder))) == "line integrals, isocentre at LPS 0: there was no scan.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "geometry.xml").write_text("<RTKThree"), "geometry.xml cannot be read"),
        (lambda folder: (folder / "projections.mha").write_bytes(b"short"), "projections.mha"),
        (lambda folder: (folder / "projections.mha").unlink(), "projections.mha is missing"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "is no scan"),
        (lambda folder: [*(path.unlink() for path in folder.iterdir()), folder.rmdir()], "does not exist"),
    ],
)
def test_a_scan_that_cannot_be_read_is_refused_in_a_sentence_and_the_scene_unharmed(slicer, logic, folder, damage, said):
    damage(folder)
    with pytest.raises(ValueError) as error:
        logic.loadScan(str(folder))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []


def test_a_format_that_needs_a_package_says_which(logic, folder, monkeypatch):
    def read(path):
        raise ModuleNotFoundError("No module named 'odd'", name="odd")

    monkeypatch.setattr(formats, "read_scan", read)
    with pytest.raises(ValueError, match="needs the Python package odd"):
        logic.loadScan(str(folder))


def test_slicer_knows_a_scan_by_the_file_that_stands_for_its_folder(reader, folder, tmp_path):
    assert reader.canLoadFileConfidence(str(folder / "scan.json")) == 0.9
    assert reader.canLoadFileConfidence(str(folder / "geometry.xml")) == 0.0, "or a dropped folder would be loaded twice"
    (folder / "scan.json").unlink()
    assert reader.canLoadFileConfidence(str(folder / "geometry.xml")) == 0.9
    (tmp_path / "scan.json").write_text('{"anything": "else"}')
    (tmp_path / "geometry.xml").write_text("<house/>")
    for name in ("scan.json", "geometry.xml", "nothing.json"):
        assert reader.canLoadFileConfidence(str(tmp_path / name)) == 0.0


def test_scans_of_other_codes_are_loaded_by_their_file(slicer, logic, reader, tmp_path):
    from SparseCTReconPanel.scan_node import assumedOf, scanOf, warningsOf

    file = scan_files.naf(tmp_path / "chest_50.pickle")
    other = scan_files.tigre_mat(tmp_path / "scan.mat")
    node = logic.loadScan(str(file))
    assert node.GetName() == "chest_50"
    assert scanOf(node).content_hash() == formats.read_scan(file).content_hash()
    assert "normalised" in assumedOf(node)
    assert warningsOf(node) == []
    (tmp_path / "note.csv").write_text("a,b\n1,2\n")
    (tmp_path / "list.pickle").write_bytes(b"\x80\x04]\x94.")
    confidences = [reader.canLoadFileConfidence(str(tmp_path / name)) for name in (file.name, other.name, "note.csv", "list.pickle")]
    assert confidences == [0.7, 0.7, 0.0, 0.0]


def test_what_looks_wrong_with_a_scan_is_kept_in_the_scene(slicer, logic, tmp_path):
    import numpy as np
    from SparseCTReconPanel.scan_node import warningsOf

    degrees = {"angles": np.arange(0.0, 350, 50), "projections": scan_files.projections()}
    node = logic.loadScan(str(scan_files.naf(tmp_path / "a.pickle", train=degrees)))
    assert "may be degrees" in warningsOf(node)[0]


def test_slicers_reader_loads_a_scan_and_says_what_is_wrong_with_another(slicer, reader, folder):
    from SparseCTReconPanel.scan_node import isScan

    assert reader.load({"fileName": str(folder / "scan.json"), "name": "Named"}) is True
    (nodeID,) = reader.parent.loadedNodes
    assert isScan(slicer.mrmlScene.GetNodeByID(nodeID))
    assert slicer.mrmlScene.GetNodeByID(nodeID).GetName() == "Named"
    (folder / "scan.json").write_text("{")
    assert reader.load({"fileName": str(folder / "scan.json")}) is False
    assert "scan.json cannot be read" in reader.parent.said[0]


def test_what_the_reader_tells_slicer_is_of_the_types_that_slicer_takes(reader):
    assert isinstance(reader.description(), str)
    assert reader.fileType() == "SparseCTReconScan"
    assert [type(one) for one in reader.extensions()] == [str]
    assert type(reader.canLoadFileConfidence("nowhere.json")) is float
