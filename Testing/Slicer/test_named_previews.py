"""What a method shows beside its volume, such as a pseudo-reference: a node of its own, which stays and does not push to the front."""

import pytest

from SparseCTReconLib.jobs.client import JobState
from SparseCTReconLib.jobs.looks import NAMED

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")

NAME = "pseudo-reference"


def companions(slicer):
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node.GetAttribute(NAMED)]


def value(slicer, node):
    voxels = slicer.util.arrayFromVolume(node)
    assert (voxels == voxels.flat[0]).all()
    return voxels.flat[0]


@pytest.fixture
def showing(actor):
    actor.beside = (NAME,)
    return actor


def test_the_last_one_stays_as_a_node_beside_the_result_that_says_what_it_is(slicer, ct, logic, showing, finished):
    run = finished(logic.start(ct, method="cgls"))
    assert run.state is JobState.DONE, run.error
    (node,) = companions(slicer)
    assert node.GetName() == "Oblique CT cgls pseudo-reference"
    assert value(slicer, node) == -4, "the one that the worker has shown together with the result"
    assert value(slicer, run.outputNode) == 100 and run.previews == 3
    assert node.GetAttribute(NAMED) == NAME and "not the reconstruction" in node.GetAttribute("SparseCTRecon.note")
    assert node.GetAttribute("SparseCTRecon.method") is None
    assert node.GetNodeReference("SparseCTRecon.result") is run.outputNode
    assert any("Oblique CT cgls pseudo-reference lies beside the result" in line for line in run.takeLog())


def test_it_lies_where_the_result_lies_and_is_filed_and_windowed_like_it(slicer, ct, logic, showing, finished):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    result = finished(logic.start(ct)).outputNode
    (node,) = companions(slicer)
    matrices = [slicer.util.arrayFromVTKMatrix(ijk_to_ras(one)) for one in (node, result)]
    assert (matrices[0] == matrices[1]).all()
    assert node.GetTransformNodeID() == transform.GetID()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)) for one in (node, result)]
    assert parents[0] == parents[1] and hierarchy.GetItemName(parents[0]) == "Study"
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (900, 123)


def ijk_to_ras(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_the_views_keep_showing_the_result_or_what_the_user_has_chosen(slicer, ct, logic, showing, until, finished):
    run = logic.start(ct)
    until(lambda: companions(slicer))
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert composite.GetBackgroundVolumeID() == run.outputNode.GetID() and not composite.GetForegroundVolumeID()
    (node,) = companions(slicer)
    composite.SetForegroundVolumeID(node.GetID())
    finished(run)
    assert companions(slicer) == [node] and composite.GetForegroundVolumeID() == node.GetID()
    assert composite.GetBackgroundVolumeID() == run.outputNode.GetID()


def test_each_name_has_one_node_in_a_run_and_each_run_has_its_own(slicer, ct, logic, showing, finished):
    showing.beside = (NAME, "repaired slices")
    first = finished(logic.start(ct, method="cgls")).outputNode
    assert sorted(node.GetAttribute(NAMED) for node in companions(slicer)) == [NAME, "repaired slices"]
    second = finished(logic.start(ct, method="cgls")).outputNode
    results = [node.GetNodeReferenceID("SparseCTRecon.result") for node in companions(slicer) if node.GetAttribute(NAMED) == NAME]
    assert sorted(results) == sorted([first.GetID(), second.GetID()])


def test_a_run_into_an_earlier_result_renews_what_lies_beside_it(slicer, ct, logic, showing, finished):
    result = finished(logic.start(ct)).outputNode
    showing.previews = 5
    finished(logic.start(ct, result))
    (node,) = companions(slicer)
    assert value(slicer, node) == -6


def test_a_cancelled_run_takes_it_away_with_its_output(slicer, ct, logic, showing, until, finished):
    showing.ending = "waits"
    run = logic.start(ct)
    until(lambda: run.previews == 3 and companions(slicer))
    run.cancel()
    assert finished(run).state is JobState.CANCELLED
    assert not companions(slicer)


def test_a_cancelled_run_into_an_earlier_result_leaves_what_lies_beside_that_as_it_was(slicer, ct, logic, showing, until, finished):
    result = finished(logic.start(ct)).outputNode
    (node,) = companions(slicer)
    note = node.GetAttribute("SparseCTRecon.note")
    showing.ending = "waits"
    run = logic.start(ct, result)
    until(lambda: value(slicer, node) == -3)
    run.cancel()
    finished(run)
    assert companions(slicer) == [node] and value(slicer, node) == -4
    assert node.GetAttribute("SparseCTRecon.note") == note


def test_one_that_the_user_deletes_does_not_come_back(slicer, ct, logic, showing, until, finished):
    showing.previews = 6
    run = logic.start(ct)
    until(lambda: companions(slicer))
    slicer.mrmlScene.RemoveNode(companions(slicer)[0])
    assert finished(run).state is JobState.DONE
    assert not companions(slicer)


@pytest.mark.parametrize("end", ["stop", "close the scene"])
def test_closing_while_the_last_one_is_handed_over_leaves_nothing(slicer, ct, logic, showing, until, monkeypatch, end):
    from SparseCTReconPanel import previews, scene

    run = logic.start(ct)
    until(lambda: run.previews == 3)
    monkeypatch.setattr(previews, "HAND_OVER_S", -1)
    monkeypatch.setattr(scene, "SLAB_BYTES", 1)
    until(lambda: run.state is JobState.IMPORTING and run._previews.pending)
    run.stop("Enough.") if end == "stop" else slicer.mrmlScene.Clear(False)
    assert run.state is JobState.CANCELLED and not companions(slicer)


def test_it_is_handed_over_in_steps_and_other_events_come_between(slicer, ct, logic, showing, finished, monkeypatch):
    from SparseCTReconPanel import previews, scene

    monkeypatch.setattr(previews, "HAND_OVER_S", -1)
    monkeypatch.setattr(scene, "SLAB_BYTES", 1)
    planes = []
    hand_over = previews.Previews.handOver
    monkeypatch.setattr(previews.Previews, "handOver", lambda self: planes.append(0) or hand_over(self))
    assert finished(logic.start(ct)).state is JobState.DONE
    (node,) = companions(slicer)
    assert len(planes) > slicer.util.arrayFromVolume(node).shape[0], "a poll for each plane"
    assert value(slicer, node) == -4


@pytest.mark.parametrize("ending", ["error", "dies"])
def test_a_run_that_fails_while_some_are_on_their_way_ends_and_leaves_none(slicer, ct, logic, showing, finished, monkeypatch, ending):
    from SparseCTReconPanel import previews, scene

    monkeypatch.setattr(previews, "HAND_OVER_S", -1)
    monkeypatch.setattr(scene, "SLAB_BYTES", 1)
    showing.ending = ending
    assert finished(logic.start(ct)).state is JobState.FAILED
    assert not companions(slicer)


def test_one_that_cannot_be_read_is_logged_and_the_result_is_there(slicer, ct, logic, showing, finished, monkeypatch):
    from acting_worker import ActingWorker

    show = ActingWorker._show_beside

    def spoil(self, spec, grid, step):
        said = show(self, spec, grid, step)
        path = next(self._file.parent.glob("previews/beside-0.nrrd"))
        path.write_bytes(path.read_bytes()[:-100])
        return said

    monkeypatch.setattr(ActingWorker, "_show_beside", spoil)
    run = finished(logic.start(ct))
    assert run.state is JobState.DONE and not companions(slicer)
    assert any("beside-0.nrrd is cut short" in line for line in run.takeLog())


def test_it_can_be_compared_but_is_neither_a_result_nor_a_reference(slicer, ct, logic, showing, finished):
    from SparseCTReconPanel.candidates import candidates, defaultReference, isResult

    result = finished(logic.start(ct)).outputNode
    (node,) = companions(slicer)
    assert candidates()[0] is result and node in candidates() and not isResult(node)
    assert defaultReference([node, ct]) is ct and defaultReference([node]) is None


def test_what_says_that_it_is_one_survives_an_mrb_file(slicer, ct, logic, showing, finished, tmp_path):
    finished(logic.start(ct))
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (node,) = companions(slicer)
    assert "not the reconstruction" in node.GetAttribute("SparseCTRecon.note")
    assert node.GetNodeReference("SparseCTRecon.result").GetAttribute("SparseCTRecon.method")


def test_the_panel_and_the_worker_mean_the_same_attribute():
    from SparseCTReconPanel import scene

    assert scene.NAMED == NAMED
