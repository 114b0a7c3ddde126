"""The section "Trust" with a played worker: a result's maps lie over it in the slice views, and what goes wrong is a sentence."""

import numpy as np
import pytest
from acting_worker import Script
from examining_worker import ExaminingWorker

from SparseCTReconLib.jobs.client import JobState

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def trust(ct, panel, script, until, monkeypatch):
    """The section, with a result that the panel has made of the CT."""
    from SparseCTReconPanel import dependencies
    from SparseCTReconPanel.trust_section import TrustSection

    monkeypatch.setattr(dependencies, "missing", list)
    panel.logic.newTransport = lambda: ExaminingWorker(script)
    panel.ui.trustSectionButton.collapsed = False
    section = panel.section(TrustSection)
    section.made = panel.logic.process(ct, method="fdk", views=6)
    section.refresh()
    return section


@pytest.fixture
def examined(trust, until):
    trust.ui.trustButton.click()
    until(lambda: trust.examination is not None and not trust.examination.active)
    return trust.examination


def test_one_click_lays_what_contradicts_the_measurements_over_the_result(slicer, trust, examined, script, host):
    import vtk

    assert examined.state is JobState.DONE and not host.errors
    assert script.jobs[-1]["task"] == "trust" and script.jobs[-1]["size_mm"] == 10
    nodes = examined.mapNodes
    assert list(nodes) == ["contradiction", "determined", "prior"]
    for number, name in ((1, "contradiction"), (3, "determined"), (4, "prior")):
        assert (slicer.util.arrayFromVolume(nodes[name]) == number).all()
        here, there = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        nodes[name].GetIJKToRASMatrix(here)
        trust.made.GetIJKToRASMatrix(there)
        assert np.abs(slicer.util.arrayFromVTKMatrix(here) - slicer.util.arrayFromVTKMatrix(there)).max() < 1e-3
    said = trust.ui.trustStatusLabel.text
    assert "2.5 times what the noise allows" in said and "58 % of a 10 mm mean in the body" in said
    assert (
        "the first, in the body at (-10, 20, 30) mm RAS, by -7.2" in said
        and "not what is true" in said
        and "does not say its photons" in said
    )
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert composite.GetForegroundVolumeID() == nodes["contradiction"].GetID()
        assert composite.GetBackgroundVolumeID() == trust.made.GetID()


def test_the_colours_are_clear_where_there_is_nothing_to_see(slicer, examined):
    nodes = examined.mapNodes
    signed = nodes["contradiction"].GetDisplayNode().GetColorNode()
    assert signed is nodes["prior"].GetDisplayNode().GetColorNode()
    shares = nodes["determined"].GetDisplayNode().GetColorNode()
    colour = [0.0] * 4
    opacities = []
    entries = ((signed, 0), (signed, 80), (signed, 90), (signed, 127), (signed, 164), (signed, 174), (signed, 254))
    entries += ((shares, 0), (shares, 120), (shares, 134), (shares, 254))
    for node, entry in entries:
        node.GetColor(entry, colour)
        opacities.append(colour[3])
    assert opacities == [1, 1, 0, 0, 0, 1, 1] + [1, 1, 0, 0], "slice views take any other opacity for full"


def test_little_that_contradicts_leaves_the_slice_as_it_is(slicer, trust, examined, host):
    from SparseCTReconPanel import trust_maps

    def middle(value):
        voxels = slicer.util.arrayFromVolume(examined.mapNodes["contradiction"])
        voxels[:] = value
        slicer.util.arrayFromVolumeModified(examined.mapNodes["contradiction"])
        picture = views.shown("Red")
        return picture[picture.shape[0] // 2, picture.shape[1] // 2, :3].astype(int)

    views = host.show_views()
    try:
        trust_maps.show(trust.made, None)
        views.sliceWidget("Red").sliceLogic().FitSliceToBackground()
        alone = middle(0.0)
        trust_maps.show(trust.made, examined.mapNodes["contradiction"])
        assert (middle(2.5) == alone).all() and (middle(-2.5) == alone).all()
        assert middle(8.0)[0] > middle(8.0)[2] and middle(-8.0)[2] > middle(-8.0)[0], "orange, blue"
    finally:
        host.hide_views()


def test_what_the_views_determine_is_shown_in_the_body_alone(slicer, trust, examined, host):
    from SparseCTReconPanel import trust_maps

    node = examined.mapNodes["determined"]
    voxels = slicer.util.arrayFromVolume(node)
    views = host.show_views()
    try:
        shown = {}
        for value in (-1.0, 0.0, 20.0, 60.0, None):
            trust_maps.show(trust.made, None if value is None else node)
            voxels[:] = value or 0
            slicer.util.arrayFromVolumeModified(node)
            views.sliceWidget("Red").sliceLogic().FitSliceToBackground()
            picture = views.shown("Red")
            shown[value] = picture[picture.shape[0] // 2, picture.shape[1] // 2, :3].astype(int).tolist()
    finally:
        host.hide_views()
    assert shown[-1.0] == shown[60.0] == shown[None], "nothing is asked, and enough is known"
    assert shown[0.0] != shown[20.0] != shown[None], "orange"


def test_maps_are_chosen_and_taken_away_and_are_no_results(slicer, trust, examined):
    from SparseCTReconPanel.candidates import candidates

    trust.ui.trustMapSelector.setCurrentIndex(2)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert all(one.GetForegroundVolumeID() == examined.mapNodes["determined"].GetID() for one in composites)
    trust.ui.trustMapSelector.setCurrentIndex(0)
    assert not any(one.GetForegroundVolumeID() for one in composites)
    assert not {node.GetID() for node in examined.mapNodes.values()} & {node.GetID() for node in candidates()}


def test_examined_again_the_maps_of_before_go(slicer, trust, examined, until):
    before = {node.GetID() for node in examined.mapNodes.values()}
    trust.ui.trustButton.click()
    until(lambda: trust.examination is not examined and not trust.examination.active)
    assert not any(slicer.mrmlScene.GetNodeByID(nodeID) for nodeID in before - set(trust.examination.maps.values()))
    assert len(all_maps(slicer)) == 3
    assert not examined.folder.exists()


def all_maps(slicer):
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node.GetAttribute("SparseCTRecon.trust")]


def test_a_deleted_result_takes_its_maps_along_and_what_was_said_of_it(slicer, ct, trust, examined, until):
    other = trust.panel.logic.process(ct, method="cgls", views=6)
    kept = trust.panel.logic.examine(other)
    displays = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode")
    slicer.mrmlScene.RemoveNode(trust.made)
    assert {node.GetID() for node in all_maps(slicer)} == {node.GetID() for node in kept.values()}
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode") == displays - 4 + 1, "the deleted result's own stays"
    until(lambda: trust.ui.trustMapSelector.count == 0)
    assert not trust.ui.trustStatusLabel.text and not trust.ui.trustReportButton.enabled
    assert trust.result is other


def test_maps_follow_the_transform_of_their_result(slicer, trust, examined, until):
    def under(transform):
        return [node.GetTransformNodeID() == (transform and transform.GetID()) for node in examined.mapNodes.values()] == [True] * 3

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    trust.made.SetAndObserveTransformNodeID(transform.GetID())
    until(lambda: under(transform))
    trust.made.SetAndObserveTransformNodeID(None)
    assert under(None)


def test_a_result_that_is_made_again_has_no_maps_of_what_it_was(slicer, ct, trust, examined, script):
    script.ending = "error"
    with pytest.raises(RuntimeError):
        trust.panel.logic.process(ct, trust.made, method="cgls", views=6)
    assert len(all_maps(slicer)) == 3
    script.ending = "done"
    trust.panel.logic.process(ct, trust.made, method="cgls", views=6)
    assert all_maps(slicer) == []


def test_maps_of_a_saved_scene_still_belong_to_their_result(slicer, trust, examined, until, tmp_path):
    name = trust.made.GetName()
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    assert len(all_maps(slicer)) == 3
    result = slicer.util.getNode(name)
    until(lambda: trust.result is result)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    result.SetAndObserveTransformNodeID(transform.GetID())
    until(lambda: {node.GetTransformNodeID() for node in all_maps(slicer)} == {transform.GetID()})
    slicer.mrmlScene.RemoveNode(result)
    assert all_maps(slicer) == []


def test_the_report_is_written_where_it_is_wanted(trust, examined, tmp_path):
    assert trust.ui.trustReportButton.enabled
    trust.saveReport(tmp_path / "trust.html")
    assert (tmp_path / "trust.html").read_text() == "<html>played</html>"
    trust.saveReport(tmp_path / "nowhere" / "trust.html")
    assert "could not be written" in trust.ui.trustStatusLabel.text


def test_what_goes_wrong_is_a_sentence_and_leaves_the_scene_as_it_was(slicer, trust, script, until):
    script.ending = "error"
    before = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    trust.ui.trustButton.click()
    until(lambda: trust.examination is not None and not trust.examination.active)
    assert trust.ui.trustStatusLabel.text == "The volume is of another scan."
    assert [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")] == before
    assert not trust.examination.folder.exists() and trust.ui.trustButton.text == "Examine"


def test_it_can_be_cancelled(trust, script, until):
    script.ending = "waits"
    trust.ui.trustButton.click()
    until(lambda: "what the views determine" in trust.ui.trustStatusLabel.text)
    assert trust.ui.trustButton.text == "Cancel"
    trust.ui.trustButton.click()
    until(lambda: not trust.examination.active)
    assert trust.examination.state is JobState.CANCELLED and trust.ui.trustStatusLabel.text == "Cancelled."


def test_only_results_whose_scan_is_there_can_be_examined(slicer, ct, trust):
    logic = trust.panel.logic
    assert logic.canBeExamined(trust.made) == (True, "")
    assert "no result of this module" in logic.canBeExamined(ct)[1]
    assert "Choose a result" in logic.canBeExamined(None)[1]
    ct.SetAttribute("SparseCTRecon.method", "fdk")
    assert "is not there any more" in logic.canBeExamined(ct)[1]
    with pytest.raises(ValueError, match="not there any more"):
        logic.examine(ct)


def test_scripts_get_the_maps(trust):
    maps = trust.panel.logic.examine(trust.made, sizeMm=12.0)
    assert set(maps) == {"contradiction", "determined", "prior"}
