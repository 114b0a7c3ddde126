"""Comparisons: what is asked of the worker, and what comes back into the scene as tables, on Slicer's own nodes."""

import math
from pathlib import Path

import numpy as np
import pytest
from comparing_worker import new_worker
from volumes_to_compare import add_volume, body, reference_and_results

from SparseCTReconLib import formats
from SparseCTReconLib.jobs.client import JobState
from SparseCTReconLib.jobs.spec import parse_spec

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def played(logic):
    """Let comparisons be played; what the worker is to do is set on the returned script."""
    from acting_worker import Script

    script = Script()
    logic.newTransport = new_worker(script)
    return script


def column(table, name):
    found = table.GetTable().GetColumnByName(name)
    return [found.GetValue(row) for row in range(found.GetNumberOfValues())]


def test_a_comparison_ends_with_tables_of_figures(slicer, logic, played):
    reference, results = reference_and_results(slicer, 2)
    tables = logic.compare(reference, results)
    assert list(tables) == ["image", "tissues"]
    assert column(tables["image"], "Volume") == ["Result 1", "Result 2"]
    assert column(tables["image"], "PSNR (dB)") == [39.0, 38.0]
    assert column(tables["tissues"], "Tissues")[:3] == ["air", "soft tissue", "bone"]
    assert tables["image"].GetColumnUnitLabel("PSNR (dB)") == "dB"
    assert tables["image"].GetColumnDescription("PSNR (dB)") == "PSNR: over the volume"


def test_figures_within_the_field_of_view_have_columns_where_one_leaves_voxels_out(slicer):
    from SparseCTReconPanel.compare_tables import makeTables

    whole = {"psnr_db": 30.0, "rmse_hu": 20.0, "fov_psnr_db": 30.0, "fov_rmse_hu": 20.0, "fov_fraction": 1.0}
    cut = whole | {"fov_psnr_db": None, "fov_rmse_hu": 0.0, "fov_fraction": 0.4}
    for images, shown in (([whole], False), ([whole, cut, {"psnr_db": 30.0}], True)):
        results = [{"name": str(n), "image": image} for n, image in enumerate(images)]
        table = makeTables({"reference": {"name": "CT"}, "results": results, "conventions": {"fov_psnr_db": "in view"}})["image"]
        assert bool(table.GetTable().GetColumnByName("FOV PSNR (dB)")) is shown
    assert column(table, "FOV PSNR (dB)")[:2] == [30.0, math.inf] and math.isnan(column(table, "FOV part")[2])
    assert table.GetColumnDescription("FOV PSNR (dB)") == "in view"


def test_organs_come_with_the_segmenter_s_noise_floor_and_a_mark_at_the_border(slicer, logic, played, monkeypatch):
    from SparseCTReconPanel import segmenter

    monkeypatch.setattr(segmenter, "hasPackage", lambda: True)
    reference, results = reference_and_results(slicer, 1)
    table = logic.compare(reference, results, organs=True)["organs"]
    assert column(table, "Organs") == ["liver (at the border)", "spleen"]
    assert column(table, "Dice")[0] == 0.91 and column(table, "Noise floor Dice")[0] == 0.95
    assert column(table, "Dice")[1] == 0 and math.isnan(column(table, "HD95 (mm)")[1])


def test_without_totalsegmentator_organs_are_refused_in_a_sentence(slicer, logic, played):
    reference, results = reference_and_results(slicer, 1)
    with pytest.raises(ValueError, match="TotalSegmentator extension, which is not installed"):
        logic.compare(reference, results, organs=True)
    assert not played.jobs


def test_the_job_is_one_that_the_worker_takes(slicer, logic, played, monkeypatch):
    from SparseCTReconPanel import segmenter

    monkeypatch.setattr(segmenter, "hasPackage", lambda: True)
    reference, results = reference_and_results(slicer, 2)
    logic.compare(reference, results, organs=True, quality="normal", organNames="liver, spleen ,", device="cuda")
    spec = parse_spec(played.jobs[0])
    assert spec.reference_name == "CT" and [one.name for one in spec.results] == ["Result 1", "Result 2"]
    assert spec.segmenter.organs == ("liver", "spleen") and spec.segmenter.device == "gpu" and spec.segmenter.quality == "normal"


def test_what_lies_in_the_field_of_view_of_each_result_s_scan_can_be_told(slicer, logic, played, ct, finished, tmp_path):
    def scans(*nodes):
        logic.compare(ct, nodes)
        return [one.scan for one in parse_spec(played.jobs[-1]).results]

    simulated = [finished(logic.start(ct, method=method)) for method in ("fdk", "cgls")]
    results = [run.outputNode for run in simulated]
    first, second = scans(*results)
    assert first == second and formats.read_scan(first).views == 50
    fewer = finished(logic.start(ct, method="fdk", views=20)).outputNode
    assert [scan and formats.read_scan(scan).views for scan in scans(fewer, add_volume(slicer, "From elsewhere", body()))] == [20, None]
    logic.saveScan(simulated[0].scanNode, tmp_path / "scan")
    read = finished(logic.start(scanFolder=str(tmp_path / "scan"))).outputNode
    assert scans(read) == [str(tmp_path / "scan")]
    (tmp_path / "scan").rename(tmp_path / "elsewhere")
    assert scans(read) == [None]


def test_a_result_that_was_moved_comes_with_its_scan_and_with_its_voxels_where_that_had_them(slicer, logic, played, ct, finished):
    from SparseCTReconPanel.scene import gridOf

    result = finished(logic.start(ct, method="fdk", views=20)).outputNode
    made = formats.read_scan(logic._scanOf(result)), gridOf(result)
    tipped = slicer.util.vtkMatrixFromArray(np.array([[1.0, 0, 0, 50], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(tipped)
    result.SetAndObserveTransformNodeID(transform.GetID())
    logic.compare(ct, [result])
    (asked,) = parse_spec(played.jobs[-1]).results
    assert formats.read_scan(asked.scan).views == made[0].views == 20 and asked.scanned == made[1]


def test_the_worker_gets_the_voxels_where_they_are_in_the_world(slicer, logic, played, monkeypatch):
    import comparing_worker

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 50 * np.eye(4, k=3)))
    reference, (result,) = reference_and_results(slicer, 1)
    result.SetAndObserveTransformNodeID(transform.GetID())
    read = []
    write = comparing_worker.write_comparison
    monkeypatch.setattr(
        comparing_worker,
        "write_comparison",
        lambda spec: read.extend(formats.read_volume(path) for path in (spec.reference, spec.results[0].path)) or write(spec),
    )
    logic.compare(reference, [result])
    assert np.allclose(read[0].grid.origin_mm, (-10, 20, 30)) and np.allclose(read[1].grid.origin_mm, (-60, 20, 30))
    assert np.allclose(read[1].array, body() + 10)
    assert result.GetOrigin() == reference.GetOrigin()


def test_the_same_tables_take_the_figures_of_the_next_comparison(slicer, logic, played):
    reference, results = reference_and_results(slicer, 2)
    first = logic.compare(reference, results)
    second = logic.compare(reference, results[:1])
    assert first["image"] is second["image"] and second["image"].GetNumberOfRows() == 1


def test_files_that_are_handed_over_are_called_after_their_volumes_in_letters_that_every_system_reads(slicer, logic, played):
    reference, results = reference_and_results(slicer, 2)
    results[0].SetName("naf: M\u00fcller/2 \u03bc")
    table = logic.compare(reference, results)["image"]
    assert [Path(one["path"]).name for one in played.jobs[0]["results"]] == ["naf_ M_ller_2 _.nrrd", "Result 2.nrrd"]
    assert column(table, "Volume")[0] == "naf: M\u00fcller/2 \u03bc"


def test_volumes_of_the_same_name_can_be_told_apart(slicer, logic, played):
    reference, results = reference_and_results(slicer, 2)
    for result in results:
        result.SetName("FDK")
    assert column(logic.compare(reference, results)["image"], "Volume") == ["FDK", "FDK (2)"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["FDK (2)", "FDK"], ["FDK (2)", "FDK"]),
        (["FDK (2)", "FDK", "FDK"], ["FDK (2)", "FDK", "FDK (3)"]),
        (["CT", "CT (2)"], ["CT (2)", "CT (2) (2)"]),
    ],
)
def test_each_volume_has_a_name_of_its_own_also_beside_the_reference(slicer, logic, played, names, told):
    reference, results = reference_and_results(slicer, len(names))
    for result, name in zip(results, names):
        result.SetName(name)
    assert column(logic.compare(reference, results)["image"], "Volume") == told


def test_tables_are_saved_with_the_scene(slicer, logic, played, tmp_path):
    reference, results = reference_and_results(slicer, 1)
    name = logic.compare(reference, results)["image"].GetName()
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    table = slicer.util.getNode(name)
    assert table.GetAttribute("SparseCTRecon.comparison") == "image"
    assert float(column(table, "PSNR (dB)")[0]) == 39.0


@pytest.mark.parametrize(
    "case, sentence",
    [
        ("no reference", "Select the reference"),
        ("no results", "Check the volumes"),
        ("seven", "Up to 6 volumes are compared at once; 7 are checked"),
        ("itself", "CT is the reference"),
        ("empty", "empty has no voxels"),
        ("slice", "slice is a single slice"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(slicer, logic, played, case, sentence):
    reference, results = reference_and_results(slicer, 7 if case == "seven" else 1)
    if case == "empty":
        results = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")]
    elif case == "slice":
        results = [add_volume(slicer, "slice", body()[:1])]
    elif case == "no results":
        results = []
    elif case == "itself":
        results = [*results, reference]
    with pytest.raises(ValueError, match=sentence):
        logic.compare(None if case == "no reference" else reference, results)


def test_an_error_of_the_worker_is_one_sentence_with_what_to_do(slicer, logic, played):
    played.ending = "error"
    reference, results = reference_and_results(slicer, 1)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RuntimeError, match="weights are missing. Connect to a network once."):
        logic.compare(reference, results)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_warning_of_the_worker_is_told(slicer, logic, played, finished):
    played.warning = "12.0 % of the grid lie outside the reference"
    reference, results = reference_and_results(slicer, 1)
    run = finished(logic.startComparison(reference, results))
    assert run.message == "Compared.\nWarning: 12.0 % of the grid lie outside the reference."


def test_a_warning_that_results_share_is_told_once(slicer, logic, played, finished, monkeypatch):
    monkeypatch.setattr(played, "warning", ["Result 1: no organ", "Result 2: no organ", "Result 2: something else"])
    reference, results = reference_and_results(slicer, 2)
    run = finished(logic.startComparison(reference, results))
    assert run.message.splitlines() == ["Compared.", "Warning: Result 1, Result 2: no organ.", "Warning: Result 2: something else."]


def test_a_cancelled_comparison_leaves_the_scene_and_the_disk_as_they_were(slicer, logic, played, until, finished):
    played.ending = "waits"
    reference, results = reference_and_results(slicer, 1)
    before = slicer.mrmlScene.GetNumberOfNodes()
    run = logic.startComparison(reference, results)
    until(lambda: run.progress[0])
    run.cancel()
    finished(run)
    assert run.state is JobState.CANCELLED and slicer.mrmlScene.GetNumberOfNodes() == before and not run.folder.exists()


def test_a_comparison_cancelled_before_its_worker_has_started_ends_at_once(slicer, logic, played):
    reference, results = reference_and_results(slicer, 1)
    run = logic.startComparison(reference, results)
    run.cancel()
    assert run.state is JobState.CANCELLED and not played.jobs and not run.folder.exists()


def test_a_closed_scene_ends_a_comparison_and_says_so(slicer, logic, played, until):
    played.ending = "waits"
    reference, results = reference_and_results(slicer, 1)
    run = logic.startComparison(reference, results)
    until(lambda: run.progress[0])
    slicer.mrmlScene.Clear(True)
    assert run.state is JobState.CANCELLED and run.message == "The scene was closed: the comparison was stopped."
    assert played.killed


def test_a_volume_deleted_before_it_was_handed_over_ends_the_comparison(slicer, logic, played, finished):
    reference, results = reference_and_results(slicer, 2)
    run = logic.startComparison(reference, results)
    slicer.mrmlScene.RemoveNode(results[1])
    finished(run)
    assert run.state is JobState.FAILED and run.message == "Result 2 was deleted: the comparison was stopped."


def test_volumes_deleted_while_they_are_compared_do_no_harm(slicer, logic, played, until, finished):
    played.ending = "waits"
    reference, results = reference_and_results(slicer, 2)
    run = logic.startComparison(reference, results)
    until(lambda: run.progress[0])
    for node in (reference, results[0]):
        slicer.mrmlScene.RemoveNode(node)
    played.ending = "done"
    finished(run)
    assert run.state is JobState.DONE and column(run.tableNodes["image"], "Volume") == ["Result 1", "Result 2"]


def test_one_comparison_at_a_time(slicer, logic, played):
    played.ending = "waits"
    reference, results = reference_and_results(slicer, 1)
    logic.startComparison(reference, results)
    with pytest.raises(ValueError, match="A comparison is running"):
        logic.startComparison(reference, results)


def test_a_logic_that_goes_stops_its_comparison(slicer, logic, played, until):
    played.ending = "waits"
    reference, results = reference_and_results(slicer, 1)
    run = logic.startComparison(reference, results)
    until(lambda: run.progress[0])
    logic.stopAll("Slicer was closed.")
    assert run.state is JobState.CANCELLED and run.message == "Slicer was closed." and not run.folder.exists()


def test_labels_become_segments_with_names(slicer, logic, tmp_path):
    import SimpleITK
    from SparseCTReconPanel import segmenter

    labels = np.zeros((12, 14, 16), np.uint8)
    labels[3:8, 3:8, 3:8], labels[9:11, 9:11, 9:11] = 5, 1
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), str(tmp_path / "labels.nii.gz"))
    reference, _results = reference_and_results(slicer, 0)
    node = segmenter.importLabels(tmp_path / "labels.nii.gz", "total", {5: "liver", 1: "spleen"}, "CT", reference)
    segments = node.GetSegmentation()
    assert {segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())} == {"liver", "spleen"}
    assert not node.GetDisplayNode().GetVisibility()
    again = segmenter.importLabels(tmp_path / "labels.nii.gz", "total", {5: "liver", 1: "spleen"}, "CT", reference)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [again]


def test_segments_are_saved_with_the_scene_though_the_file_of_labels_is_gone(slicer, logic, tmp_path):
    import SimpleITK
    from SparseCTReconPanel import segmenter

    labels = tmp_path / "labels.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray((body() > 0).astype(np.uint8)), str(labels))
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorageNode")
    node = segmenter.importLabels(labels, "total", {1: "liver"}, "CT")
    labels.unlink()
    assert node.GetStorageNode() is None and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorageNode") == before
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "liver"


def test_labels_that_cannot_be_read_leave_nothing_in_the_scene(slicer, logic, tmp_path):
    from SparseCTReconPanel import segmenter

    (tmp_path / "labels.nii.gz").write_bytes(b"no labels")
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RuntimeError, match="The organs of CT could not be read"):
        segmenter.importLabels(tmp_path / "labels.nii.gz", "total", {}, "CT")
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_reference_is_the_ct_that_the_scan_was_simulated_from(slicer, logic, actor, finished, ct):
    from SparseCTReconPanel.candidates import candidates, defaultReference

    add_volume(slicer, "Another CT", body())
    run = finished(logic.start(ct, method="fdk"))
    assert candidates()[0] is run.outputNode
    assert defaultReference(candidates()) is ct


def test_scans_labels_and_differences_are_not_offered(slicer, logic):
    from SparseCTReconPanel.candidates import candidates
    from SparseCTReconPanel.differences import difference

    reference, (result,) = reference_and_results(slicer, 1)
    difference(reference, result)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert candidates() == [result, reference]
