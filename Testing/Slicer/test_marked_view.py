"""The field of view marked in results: an outline where the views do not see all voxels, by clicks, by scripts, in saved scenes."""

import numpy as np
import pytest

from SparseCTReconLib.jobs.client import JobState

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


def seen_by_some(shape):
    """Labels [z, y, x] with a different number of seen voxels along each axis."""
    labels = np.zeros(shape, np.uint8)
    labels[3:12, 4:11, 5:17] = 1
    labels[5:9, 6:9, 7:12] = 2
    return labels


@pytest.fixture
def cut(actor):
    """A worker whose scans do not see all of a volume."""
    actor.seen = seen_by_some
    return actor


def outlines(slicer):
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def mask(slicer, node, result):
    """The only segment on the voxels of the result."""
    (segment,) = node.GetSegmentation().GetSegmentIDs()
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, result)


def is_shown(node):
    return bool(node.GetDisplayNode().GetVisibility())


def test_what_enough_views_see_is_outlined_in_the_result(slicer, ct, logic, cut):
    result = logic.process(ct)
    node = logic.fieldOfView(result)
    np.testing.assert_array_equal(mask(slicer, node, result), seen_by_some((18, 20, 22)) >= 1)
    display = node.GetDisplayNode()
    assert is_shown(node) and display.GetVisibility2DOutline() and not display.GetVisibility2DFill() and not display.GetVisibility3D()
    assert float(node.GetAttribute("SparseCTRecon.field_of_view")) == pytest.approx(9 * 7 * 12 / (18 * 20 * 22), abs=1e-5)


def test_the_labels_mean_what_the_library_says():
    from SparseCTReconPanel import field_of_view

    from SparseCTReconLib.operators import field_of_view as library

    assert field_of_view.ENOUGH == library.ENOUGH


def test_a_result_that_is_seen_whole_has_no_outline(slicer, ct, logic, actor):
    result = logic.process(ct)
    assert logic.fieldOfView(result) is None and outlines(slicer) == []
    with pytest.raises(ValueError, match="No field of view is marked"):
        logic.showFieldOfView(result)


def test_scripts_show_the_outline_of_one_result_at_a_time(ct, logic, cut):
    first, second = (logic.process(ct, method=method) for method in ("fdk", "cgls"))
    marks = [logic.fieldOfView(node) for node in (first, second)]
    assert [is_shown(mark) for mark in marks] == [False, True]
    logic.showFieldOfView(first)
    assert [is_shown(mark) for mark in marks] == [True, False]
    logic.showFieldOfView(first, False)
    assert [is_shown(mark) for mark in marks] == [False, False]


def test_an_outline_follows_the_transform_of_its_result(slicer, ct, logic, cut, host):
    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode") for _ in range(2))
    ct.SetAndObserveTransformNodeID(first.GetID())
    result = logic.process(ct)
    assert logic.fieldOfView(result).GetTransformNodeID() == first.GetID()
    host.process_events()
    result.SetAndObserveTransformNodeID(second.GetID())
    assert logic.fieldOfView(result).GetTransformNodeID() == second.GetID()


def test_an_outline_goes_with_its_result_and_no_other(slicer, ct, logic, cut):
    first, second = (logic.process(ct, method=method) for method in ("fdk", "cgls"))
    kept = logic.fieldOfView(second)
    slicer.mrmlScene.RemoveNode(first)
    assert outlines(slicer) == [kept]
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode")) == 1
    others = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "of somebody else")
    slicer.mrmlScene.RemoveNode(second)
    assert outlines(slicer) == [others]


def test_a_result_that_is_made_again_is_marked_again_and_one_that_fails_keeps_its_mark(slicer, ct, logic, cut):
    result = logic.process(ct)
    cut.ending = "error"
    with pytest.raises(RuntimeError):
        logic.process(ct, result)
    assert mask(slicer, logic.fieldOfView(result), result).sum() == 9 * 7 * 12
    cut.ending, cut.seen = "done", lambda shape: np.eye(shape[1], shape[2], dtype=np.uint8)[None].repeat(shape[0], 0)
    logic.process(ct, result)
    assert mask(slicer, logic.fieldOfView(result), result).sum() == 18 * 20 and len(outlines(slicer)) == 1
    cut.seen = lambda shape: np.ones(shape, np.uint8)
    logic.process(ct, result)
    assert outlines(slicer) == []


def test_it_comes_back_with_a_saved_scene(slicer, ct, logic, cut, tmp_path):
    name = logic.process(ct).GetName()
    logic.showFieldOfView(slicer.util.getNode(name), False)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "sc\u00e8ne.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "sc\u00e8ne.mrb"))
    result = slicer.util.getNode(name)
    node = logic.fieldOfView(result)
    np.testing.assert_array_equal(mask(slicer, node, result), seen_by_some((18, 20, 22)) >= 1)
    display = node.GetDisplayNode()
    assert not is_shown(node) and not display.GetVisibility2DFill()
    logic.showFieldOfView(result)
    assert is_shown(node)
    slicer.mrmlScene.RemoveNode(result)
    assert outlines(slicer) == []


@pytest.fixture
def reconstruct(panel, cut, ct, until):
    """Click Apply and wait; returns the result."""
    from acting_worker import new_worker

    panel.logic.newTransport = new_worker(cut)
    panel.ui.inputSelector.setCurrentNode(ct)

    def click(method="fdk"):
        panel.parameterNode.method = method
        panel.ui.applyButton.click()
        until(lambda: not panel.run.active)
        assert panel.run.state is JobState.DONE, panel.run.error
        return panel.run.outputNode

    return click


def test_the_outline_is_switched_in_the_panel_and_follows_the_chosen_result(panel, reconstruct):
    box, mark = panel.ui.fieldOfViewCheckBox, panel.logic.fieldOfView
    assert not box.visible
    first = reconstruct()
    assert box.visible and box.checked and "10 % of the voxels" in box.text and is_shown(mark(first))
    box.click()
    assert not is_shown(mark(first))
    second = reconstruct("cgls")
    assert not is_shown(mark(first)) and not is_shown(mark(second)), "what was switched off stays off"
    box.click()
    assert [is_shown(mark(node)) for node in (first, second)] == [False, True]
    panel.ui.resultSelector.setCurrentNode(first)
    assert [is_shown(mark(node)) for node in (first, second)] == [True, False]


def test_the_panel_leaves_what_is_switched_elsewhere(panel, reconstruct):
    mark = panel.logic.fieldOfView(reconstruct())
    mark.GetDisplayNode().SetVisibility(False)  # as by the eye in the data tree
    panel.parameterNode.views = 17
    assert not is_shown(mark)


def test_a_result_that_is_seen_whole_hides_the_switch(panel, reconstruct, cut):
    reconstruct()
    cut.seen = lambda shape: np.ones(shape, np.uint8)
    reconstruct("cgls")
    assert not panel.ui.fieldOfViewCheckBox.visible
