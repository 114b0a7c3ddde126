"""A run between the scene and a worker: previews, the result in its place, and the scene as it was when a run does not end well."""

import numpy as np
import pytest

from SparseCTReconLib.grid import Grid
from SparseCTReconLib.jobs.client import JobState
from SparseCTReconLib.jobs.spec import parse_spec

vtk = pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


def matrix_of(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def world_of_brightest(node, voxels):
    """RAS centroid of the voxels above half the maximum."""
    k, j, i = (index.mean() for index in np.nonzero(voxels > 0.5 * voxels.max()))
    return (matrix_of(node) @ [i, j, k, 1])[:3]


def snapshot(slicer):
    """What is in the scene: nodes, the subject hierarchy, and what the slice views show."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    nodes = sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode"))
    names = [hierarchy.GetItemName(items.GetId(n)) for n in range(items.GetNumberOfIds())]
    layers = [node.GetBackgroundVolumeID() for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]
    return nodes, names, layers


def test_a_run_ends_with_a_volume_in_the_place_of_the_ct(slicer, ct, logic, actor, finished):
    run = finished(logic.start(ct, method="cgls"))
    assert run.state is JobState.DONE, run.error
    assert np.abs(matrix_of(run.outputNode) - matrix_of(ct)).max() < 1e-9
    assert slicer.util.arrayFromVolume(run.outputNode).shape == slicer.util.arrayFromVolume(ct).shape
    assert run.outputNode.GetName() == "Oblique CT cgls"


def test_the_jobs_of_a_run_are_jobs_that_the_worker_takes(ct, logic, actor, finished):
    finished(logic.start(ct, views=30, arc=200.0, photons=0.0, seed=7, voxelSize=4.0, budget=9.0, device="cpu"))
    simulate, reconstruct = (parse_spec(job) for job in actor.jobs)
    assert (simulate.views, simulate.arc_deg, simulate.photons, simulate.seed) == (30, 200.0, None, 7)
    assert (reconstruct.budget_s, reconstruct.device) == (9.0, "cpu")
    assert Grid.from_dict(reconstruct.grid).spacing_mm == (4.0, 4.0, 4.0)


def test_a_preset_of_the_method_is_an_option_of_the_job(ct, logic, actor, finished):
    finished(logic.start(ct, method="naf", methodPreset="paper"))
    finished(logic.start(ct, method="naf"))
    first, second = (parse_spec(job) for job in actor.jobs if job["task"] == "reconstruct")
    assert first.options == {"preset": "paper"} and second.options == {}


def test_coarser_voxels_fill_the_same_box(slicer, ct):
    from SparseCTReconPanel.request import coarserGrid
    from SparseCTReconPanel.scene import gridOf

    fine, coarse = Grid.from_dict(gridOf(ct)), Grid.from_dict(coarserGrid(gridOf(ct), 5.0))
    assert np.allclose(fine.centre_mm, coarse.centre_mm, atol=1e-9)
    assert (coarse.extent_mm >= fine.extent_mm - 1e-9).all()
    assert (coarse.extent_mm < fine.extent_mm + 5.0).all()


def test_previews_sharpen_one_and_the_same_node_and_leave_the_window_to_the_user(slicer, ct, logic, actor, until, finished):
    actor.previews = 5
    run = logic.start(ct)
    until(lambda: run.previews >= 1)
    node = run.outputNode
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (900, 123)
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() == node.GetID()
    node.GetDisplayNode().SetWindowLevel(333, 44)
    finished(run)
    assert run.outputNode is node
    assert run.previews == 5
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (333, 44)
    assert slicer.util.arrayFromVolume(node).mean() == pytest.approx(100)


def test_the_result_says_how_it_was_made_and_is_filed_under_the_inputs_study(slicer, ct, logic, actor, finished):
    run = finished(logic.start(ct, method="cgls"))
    node = run.outputNode
    assert node.GetAttribute("SparseCTRecon.method") == "cgls"
    assert node.GetAttribute("SparseCTRecon.options") == '{"a": "\u00b5"}'
    assert node.GetAttribute("SparseCTRecon.unprefixed") == "1"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    assert hierarchy.GetItemName(parent) == "Study"


def test_the_result_moves_with_the_transform_of_the_input(slicer, ct, logic, actor, finished):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    assert finished(logic.start(ct)).outputNode.GetTransformNodeID() == transform.GetID()


def test_previews_lie_where_the_result_will(slicer, ct, logic, actor, until):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    actor.ending = "waits"
    run = logic.start(ct)
    until(lambda: run.previews == 1)
    assert run.outputNode.GetTransformNodeID() == transform.GetID()


def test_a_result_without_a_ct_keeps_neither_the_transform_nor_the_ct_of_what_the_volume_held_before(
    slicer, ct, logic, actor, finished, tmp_path
):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    output = finished(logic.start(ct)).outputNode
    assert output.GetNodeReference("SparseCTRecon.ct") is ct
    finished(logic.start(outputVolume=output, scanFolder=str(tmp_path)))
    assert output.GetTransformNodeID() is None and output.GetNodeReference("SparseCTRecon.ct") is None


def test_snapshots_become_a_sequence_that_a_browser_steps_through(slicer, ct, logic, actor, finished):
    finished(logic.start(ct, keepSnapshots=True))
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    assert sequence.GetIndexName() == "iteration"
    assert [sequence.GetNthIndexValue(n) for n in range(sequence.GetNumberOfDataNodes())] == ["1", "2", "3"]
    means = [slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).mean() for n in range(3)]
    assert means == pytest.approx([25, 50, 75])
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    assert browser.IsSynchronizedSequenceNode(sequence, True)


def test_the_volume_that_shows_a_snapshot_is_not_offered_for_comparison(slicer, ct, logic, actor, finished):
    from SparseCTReconPanel.candidates import candidates
    from SparseCTReconPanel.snapshots import browserOf, showSnapshot

    run = finished(logic.start(ct, keepSnapshots=True))
    showSnapshot(browserOf(run.outputNode), 1)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 4, "the CT, its scan, the result and the snapshot"
    assert candidates() == [run.outputNode, ct]


def test_a_scene_with_the_result_survives_an_mrb_file(slicer, ct, logic, actor, finished, tmp_path):
    node = finished(logic.start(ct, keepSnapshots=True)).outputNode
    name, matrix, voxels = node.GetName(), matrix_of(node), slicer.util.arrayFromVolume(node).copy()
    attributes = {key: node.GetAttribute(key) for key in node.GetAttributeNames() if key.startswith("SparseCTRecon.")}
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    back = slicer.util.getNode(name)
    assert np.abs(matrix_of(back) - matrix).max() < 1e-6
    assert {key: back.GetAttribute(key) for key in attributes} == attributes
    assert np.array_equal(slicer.util.arrayFromVolume(back), voxels)
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    assert sequence.GetNumberOfDataNodes() == 3
    assert np.abs(matrix_of(sequence.GetNthDataNode(1)) - matrix).max() < 1e-6


def test_a_marker_stays_where_it_was_from_node_to_library_and_back(slicer, ct, logic, actor, finished, tmp_path):
    from SparseCTReconPanel.scene import exportVolume

    from SparseCTReconLib import formats

    there = world_of_brightest(ct, slicer.util.arrayFromVolume(ct))
    exportVolume(ct, tmp_path / "ct.nrrd")
    volume = formats.read_ct(tmp_path / "ct.nrrd")
    k, j, i = (index.mean() for index in np.nonzero(volume.array > 750))
    in_library = (volume.grid.index_to_world @ [i, j, k, 1])[:3] * [-1, -1, 1]
    actor.voxels = lambda shape, done: volume.array
    result = finished(logic.start(ct)).outputNode
    back = world_of_brightest(result, slicer.util.arrayFromVolume(result))
    assert np.abs(in_library - there).max() < 1e-3
    assert np.abs(back - there).max() < 1e-3


@pytest.mark.parametrize("ending", ["error", "dies"])
def test_a_run_that_fails_leaves_the_scene_as_it_was(slicer, ct, logic, actor, finished, ending):
    actor.ending = ending
    slicer.util.setSliceViewerLayers(background=ct)
    before = snapshot(slicer)
    run = finished(logic.start(ct, keepSnapshots=True))
    assert run.state is JobState.FAILED
    assert run.previews == 3
    assert snapshot(slicer) == before
    assert run.error["message"]
    assert run.folder.is_dir()
    assert any(str(run.folder) in line for line in run.takeLog())


def test_a_cancelled_run_leaves_the_scene_as_it_was_and_no_files(slicer, ct, logic, actor, until, finished):
    actor.ending = "waits"
    slicer.util.setSliceViewerLayers(background=ct)
    before = snapshot(slicer)
    run = logic.start(ct)
    until(lambda: run.previews == 3)
    run.cancel()
    assert run.state is JobState.CANCELLING
    finished(run)
    assert run.state is JobState.CANCELLED
    assert snapshot(slicer) == before
    assert not run.folder.exists()


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_a_preview_that_is_being_handed_over_is_let_go_of_when_the_run_is_to_end(ct, logic, actor, until, finished, monkeypatch, end):
    from SparseCTReconPanel import previews, scene

    monkeypatch.setattr(previews, "HAND_OVER_S", -1)
    monkeypatch.setattr(scene, "SLAB_BYTES", 1)
    actor.ending = "waits"
    run = logic.start(ct)
    until(lambda: run._previews.pending)
    assert run._timer.interval == 0
    run.cancel() if end == "cancel" else run.stop("Enough.")
    assert not run._previews.pending and run._timer.interval > 0
    assert finished(run).state is JobState.CANCELLED


def test_a_cancelled_run_gives_an_existing_output_its_old_content_back(slicer, ct, logic, actor, until, finished):
    actor.ending = "waits"
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Earlier result")
    slicer.util.updateVolumeFromArray(output, np.full((3, 4, 5), 7, np.float32))
    output.SetOrigin(1, 2, 3)
    output.SetAttribute("SparseCTRecon.method", "earlier")
    before, matrix = snapshot(slicer), matrix_of(output)
    run = logic.start(ct, output)
    until(lambda: run.previews == 3)
    assert slicer.util.arrayFromVolume(output).shape == (18, 20, 22)
    run.cancel()
    finished(run)
    assert np.array_equal(slicer.util.arrayFromVolume(output), np.full((3, 4, 5), 7))
    assert np.array_equal(matrix_of(output), matrix)
    assert output.GetAttribute("SparseCTRecon.method") == "earlier"
    assert snapshot(slicer) == before


def test_a_run_that_fails_once_its_result_was_there_gives_an_existing_output_back(slicer, ct, logic, actor, finished, monkeypatch):
    from SparseCTReconPanel.record import Record

    def fail(self, node):
        raise OSError("no room for the curves")

    monkeypatch.setattr(Record, "finish", fail)
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Earlier result")
    slicer.util.updateVolumeFromArray(output, np.full((3, 4, 5), 7, np.float32))
    before = snapshot(slicer)
    run = finished(logic.start(ct, output))
    assert run.state is JobState.FAILED
    assert snapshot(slicer) == before
    assert np.array_equal(slicer.util.arrayFromVolume(output), np.full((3, 4, 5), 7))
    assert output.GetNodeReference("SparseCTRecon.ct") is None and output.GetAttribute("SparseCTRecon.method") is None


def test_a_listener_that_fails_at_the_end_does_not_undo_the_result(slicer, ct, logic, actor, finished):
    def listen(run):
        if run.state is JobState.DONE:
            raise RuntimeError("a listener's own fault")

    run = finished(logic.start(ct, onChanged=listen))
    assert run.state is JobState.DONE
    assert slicer.util.arrayFromVolume(run.outputNode).mean() == pytest.approx(100)


def test_a_run_writes_into_the_output_that_it_was_given(slicer, ct, logic, actor, finished):
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    run = finished(logic.start(ct, output))
    assert run.outputNode is output
    assert output.GetName() == "Mine"


def test_a_ct_is_not_overwritten_by_its_reconstruction(ct, logic, actor):
    scan = logic.simulate(ct, views=6)
    for inputs in ({"inputVolume": ct}, {"scanVolume": scan}):
        with pytest.raises(ValueError, match="Oblique CT is the CT itself: choose another volume"):
            logic.start(outputVolume=ct, **inputs)


def test_deleting_the_output_stops_the_run_and_says_so(slicer, ct, logic, actor, until, finished):
    actor.ending = "waits"
    run = logic.start(ct)
    until(lambda: run.previews == 3)
    slicer.mrmlScene.RemoveNode(run.outputNode)
    finished(run)
    assert run.state is JobState.CANCELLED
    assert "deleted" in run.message
    assert actor.killed


def test_deleting_the_input_does_not_stop_the_run(slicer, ct, logic, actor, until, finished):
    run = logic.start(ct)
    until(lambda: run.previews >= 1)
    slicer.mrmlScene.RemoveNode(ct)
    assert finished(run).state is JobState.DONE


def test_closing_the_scene_stops_the_run_and_says_so(slicer, ct, logic, actor, until):
    actor.ending = "waits"
    run = logic.start(ct)
    until(lambda: run.previews == 3)
    slicer.mrmlScene.Clear(False)
    assert run.state is JobState.CANCELLED
    assert "scene was closed" in run.message
    assert actor.killed
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_a_preview_that_cannot_be_read_is_logged_and_the_run_goes_on(ct, logic, actor, finished, monkeypatch):
    from acting_worker import ActingWorker

    say = ActingWorker.poll

    def poll(self):
        said = say(self)
        if b'"preview"' in said.stdout and b'"step": 2' in said.stdout:
            path = next(self._file.parent.glob("previews/step-2.nrrd"))
            path.write_bytes(path.read_bytes()[:-100])
        return said

    monkeypatch.setattr(ActingWorker, "poll", poll)
    run = finished(logic.start(ct))
    assert run.state is JobState.DONE
    assert run.previews == 2
    assert any("step-2.nrrd is cut short" in line for line in run.takeLog())


def test_process_waits_and_returns_the_volume_node(slicer, ct, logic, actor):
    node = logic.process(ct, method="cgls")
    assert slicer.util.arrayFromVolume(node).mean() == pytest.approx(100)


def test_process_raises_the_workers_sentence(ct, logic, actor):
    actor.ending = "error"
    with pytest.raises(RuntimeError, match="does not fit into memory. Take larger voxels"):
        logic.process(ct)


def test_a_run_without_pythonslicer_fails_with_a_sentence(ct, logic, finished, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    run = finished(logic.start(ct))
    assert run.state is JobState.FAILED
    assert "PythonSlicer" in run.error["message"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, "Select a CT volume"), ({"scanFolder": ""}, "Choose the folder"), ({"scanFolder": "/no/such/scan"}, "There is no /no/such/scan")],
)
def test_a_request_that_lacks_something_says_what(logic, changes, reason):
    with pytest.raises(ValueError, match=reason):
        logic.start(**changes)


def test_missing_packages_are_named(ct, logic, monkeypatch):
    from SparseCTReconPanel import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["numba>=0.60"])
    with pytest.raises(ValueError, match="numba>=0.60.*setupPythonRequirements"):
        logic.start(ct)
