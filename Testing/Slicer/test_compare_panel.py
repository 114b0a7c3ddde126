"""The section "Compare" by clicks, with a played worker and real nodes, with and without views."""

import numpy as np
import pytest
from comparing_worker import new_worker
from volumes_to_compare import add_volume, body, reference_and_results

from SparseCTReconLib.jobs.client import JobState

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def volumes(slicer):
    """A reference and three results, in the scene before the panel opens."""
    reference, results = reference_and_results(slicer, 3)
    return reference, results


@pytest.fixture
def compare(volumes, panel, monkeypatch):
    """The section, whose worker is played; what it is to do is set on `compare.script`."""
    from acting_worker import Script
    from SparseCTReconPanel import dependencies
    from SparseCTReconPanel.compare_section import CompareSection

    monkeypatch.setattr(dependencies, "missing", list)
    section = panel.section(CompareSection)
    section.script = Script()
    panel.logic.newTransport = new_worker(section.script)
    panel.ui.compareSectionButton.collapsed = False
    return section


@pytest.fixture
def manager(host, compare):
    yield host.show_views()
    host.hide_views()


@pytest.fixture
def compared(compare, until):
    """Click Compare and wait for the end."""

    def click(button="compareButton"):
        getattr(compare.ui, button).click()
        until(lambda: compare.comparison is not None and not compare.comparison.active)
        return compare.comparison

    return click


def listed(compare):
    rows = compare.ui.compareResultsList
    return {rows.item(n).text(): rows.item(n).checkState().value == 2 for n in range(rows.count)}


def check(compare, name, checked=True):
    import qt

    rows = compare.ui.compareResultsList
    item = next(rows.item(n) for n in range(rows.count) if rows.item(n).text() == name)
    item.setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)


def shown(compare):
    table = compare.ui.compareTable
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def test_one_click_compares_this_module_s_results_with_the_ct(compare, compared, volumes, host):
    assert compare.ui.compareReferenceSelector.currentNode() is volumes[0]
    assert listed(compare) == {"Result 3": True, "Result 2": True, "Result 1": True}
    compared()
    assert [row[0] for row in shown(compare)] == ["Result 3", "Result 2", "Result 1"]
    assert shown(compare)[0][1:5] == ["39", "0.990", "10", "0.900"]
    assert compare.ui.compareStatusLabel.text == "Compared." and not host.errors


def test_names_that_begin_alike_are_shown_without_what_they_share(compare, compared, volumes):
    for node, method in zip(volumes[1], ("fdk", "admm-tv", "naf")):
        node.SetName(f"Head of Ms M\u00fcller {method}")
    compared()
    assert [row[0] for row in shown(compare)] == ["naf", "admm-tv", "fdk"]
    assert compare.ui.compareTable.item(0, 0).toolTip() == "Head of Ms M\u00fcller naf"


def test_the_other_tables_can_be_chosen(compare, compared):
    compared()
    selector = compare.ui.compareTableSelector
    selector.setCurrentIndex(selector.findText("Tissues"))
    assert shown(compare)[0][:3] == ["Result 3", "air", "0.900"]


def test_compare_turns_into_cancel_and_back(compare, until):
    compare.script.ending = "waits"
    compare.ui.compareButton.click()
    until(lambda: compare.comparison and compare.comparison.progress[0])
    assert compare.ui.compareButton.text == "Cancel" and compare.ui.compareProgressBar.visible
    assert compare.ui.compareStatusLabel.text == "Comparing: image figures - about 1 s left"
    compare.ui.compareButton.click()
    until(lambda: not compare.comparison.active)
    assert compare.ui.compareButton.text == "Compare" and compare.ui.compareStatusLabel.text == "Cancelled."
    assert not compare.ui.compareProgressBar.visible


def test_an_error_is_a_sentence_in_the_panel(compare, compared, host):
    compare.script.ending = "error"
    compared()
    assert compare.ui.compareStatusLabel.text == "TotalSegmentator's weights are missing. Connect to a network once."
    assert compare.ui.compareButton.enabled and not host.errors


def test_volumes_deleted_while_they_are_compared_do_no_harm(slicer, compare, volumes, until, host):
    compare.script.ending = "waits"
    compare.ui.compareButton.click()
    until(lambda: compare.comparison and compare.comparison.progress[0])
    slicer.mrmlScene.RemoveNode(volumes[0])
    slicer.mrmlScene.RemoveNode(volumes[1][0])
    until(lambda: "Result 1" not in listed(compare))
    compare.script.ending = "done"
    until(lambda: not compare.comparison.active)
    assert [row[0] for row in shown(compare)] == ["Result 3", "Result 2", "Result 1"]
    assert compare.ui.compareStatusLabel.text == "Compared." and not host.errors


def test_without_results_the_button_says_why_it_is_off(compare, volumes):
    for result in volumes[1]:
        check(compare, result.GetName(), False)
    assert not compare.ui.compareButton.enabled
    assert compare.ui.compareButton.toolTip == "Check the volumes to compare with the reference."


def test_a_seventh_result_is_not_taken(slicer, compare, until):
    for n in range(4, 8):
        add_volume(slicer, f"Result {n}", body())
    until(lambda: len(listed(compare)) == 7)
    for n in range(4, 8):
        check(compare, f"Result {n}")
    assert sum(listed(compare).values()) == 6
    assert compare.ui.compareStatusLabel.text == "Up to 6 volumes are compared at once."


def test_volumes_that_come_and_go_are_listed(slicer, compare, volumes, until):
    add_volume(slicer, "New", body())
    until(lambda: "New" in listed(compare))
    assert listed(compare) == {"Result 3": True, "Result 2": True, "Result 1": True, "New": False}
    slicer.mrmlScene.RemoveNode(volumes[1][1])
    until(lambda: "Result 2" not in listed(compare))
    assert listed(compare) == {"Result 3": True, "Result 1": True, "New": False}


def test_the_reference_is_not_among_the_results(compare, volumes, until):
    compare.ui.compareReferenceSelector.setCurrentNode(volumes[1][0])
    until(lambda: "Result 1" not in listed(compare))
    assert set(listed(compare)) == {"Result 3", "Result 2", "CT"}


def test_differences_are_made_on_a_click_and_go_with_another(slicer, compare, until):
    from SparseCTReconPanel.differences import isDifference

    def made():
        return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isDifference(node)]

    compare.ui.differencesButton.click()
    until(lambda: len(made()) == 3)
    assert sorted(float(slicer.util.arrayFromVolume(node).max()) for node in made()) == [10, 20, 30]
    compare.ui.differenceRangeSpinBox.value = 120
    assert {node.GetDisplayNode().GetWindow() for node in made()} == {240}
    compare.ui.differencesButton.click()
    assert not made()


def test_differences_are_not_gone_on_with_once_nothing_is_chosen(slicer, compare, volumes, monkeypatch, until):
    from SparseCTReconPanel import differences

    def endless(reference, result):
        while True:
            yield made.append(result)

    made = []
    monkeypatch.setattr(differences, "differenceInSteps", endless)
    compare.ui.differencesButton.click()
    until(lambda: made)
    for result in volumes[1]:
        check(compare, result.GetName(), False)
    steps = len(made)
    for _ in range(5):
        slicer.app.processEvents()
    assert len(made) == steps


def test_results_that_do_not_overlap_with_the_reference_are_said_in_the_panel(slicer, compare, volumes, until):
    for result in volumes[1]:
        result.SetOrigin(5000, 0, 0)
    compare.ui.differencesButton.click()
    until(lambda: "do not overlap" in compare.ui.compareStatusLabel.text)
    assert not compare.ui.differencesButton.checked


def test_a_line_profile_comes_and_goes(slicer, compare):
    compare.ui.profileButton.click()
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    check(compare, "Result 2", False)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode") == 1
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode").GetNumberOfPlotSeriesNodes() == 3
    compare.ui.profileButton.click()
    for kind in ("PlotChart", "PlotSeries", "MarkupsLine", "Table"):
        assert slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") == 0


def test_without_a_main_window_side_by_side_says_so(compare):
    compare.ui.sideBySideButton.click()
    assert compare.ui.compareStatusLabel.text == "There is no window to show the volumes in."
    assert not compare.ui.sideBySideButton.checked


def test_the_slider_fades_without_the_layout_too(slicer, compare):
    compare.ui.compareFadeSlider.value = 40
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert composite.GetForegroundOpacity() == 0.4


def test_a_preset_that_this_slicer_lacks_is_said(compare):
    selector = compare.ui.windowPresetSelector
    selector.setCurrentIndex(1)
    selector.activated.emit(1)
    assert "no display preset CT_ABDOMEN" in compare.ui.compareStatusLabel.text


def test_a_closed_scene_empties_the_section(slicer, compare, compared, until):
    compared()
    compare.ui.profileButton.click()
    slicer.mrmlScene.Clear(True)
    until(lambda: not listed(compare))
    assert not compare.ui.profileButton.checked and not compare.ui.compareTable.visible
    assert not compare.ui.compareButton.enabled and not compare.ui.compareReportButton.enabled


def test_a_scene_closed_while_differences_are_made_does_no_harm(slicer, compare, host):
    compare.ui.differencesButton.click()
    slicer.mrmlScene.Clear(True)
    for _ in range(20):
        host.process_events()
    assert not compare.ui.differencesButton.checked and not host.errors


def test_the_report_is_written_from_the_panel(compare, compared, tmp_path, monkeypatch):
    import qt

    assert not compare.ui.compareReportButton.enabled
    compared()
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_arguments: str(tmp_path / "report.html"))
    compare.ui.compareReportButton.click()
    assert (tmp_path / "report.html").exists() and "Written to" in compare.ui.compareStatusLabel.text


@pytest.mark.parametrize(("entry", "ending"), [("NRRD files...", ".nrrd"), ("DICOM series...", "")])
def test_the_checked_volumes_are_written_from_the_panel(compare, tmp_path, monkeypatch, entry, ending):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: str(tmp_path))
    menu = compare.ui.compareSaveVolumesButton.menu()
    next(action for action in menu.actions() if action.text == entry).trigger()
    assert {path.name for path in tmp_path.iterdir()} == {f"Result {n}{ending}" for n in (1, 2, 3)}
    assert f"Written: Result 3{ending}" in compare.ui.compareStatusLabel.text


def test_without_totalsegmentator_organs_are_off_with_a_reason(compare):
    assert not compare.ui.compareOrgansButton.enabled
    assert "not installed" in compare.ui.compareOrgansButton.toolTip
    assert "not installed" in compare.ui.segmenterLabel.text and not compare.ui.segmenterQualitySelector.enabled


def test_with_totalsegmentator_one_click_compares_organs(compare, compared, monkeypatch, volumes):
    from SparseCTReconPanel import segmenter

    monkeypatch.setattr(segmenter, "hasPackage", lambda: True)
    compare.ui.organsButton.collapsed = False
    compare.refresh()
    assert compare.ui.compareOrgansButton.enabled
    compare.ui.organNamesEdit.text = "liver"
    compared("compareOrgansButton")
    assert compare.script.jobs[0]["segmenter"]["organs"] == ["liver"]
    assert shown(compare)[0][:4] == ["Result 3", "liver (at the border)", "0.910", "0.950"]


@pytest.mark.parametrize(("installs", "sentence"), [(True, "Restart Slicer"), (False, "is there a network?")])
def test_the_install_button_asks_slicer_for_the_extension(compare, host, monkeypatch, installs, sentence):
    import slicer

    asked = []

    class Model:
        def installExtensionFromServer(self, name):
            asked.append(name)
            return installs

    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: Model(), raising=False)
    compare.ui.installSegmenterButton.click()
    assert asked == ["TotalSegmentator"]
    assert sentence in compare.ui.compareStatusLabel.text and not host.errors


def test_the_views_show_what_is_checked(slicer, manager, compare, until):
    before = manager.layout
    compare.ui.sideBySideButton.click()
    assert manager.sliceViewNames() == [f"SparseCTReconVolume{n}" for n in range(4)]
    check(compare, "Result 2", False)
    assert len(manager.sliceViewNames()) == 3
    compare.ui.differencesButton.click()
    until(lambda: len(manager.sliceViewNames()) == 5)
    compare.ui.compareOrientationSelector.setCurrentIndex(1)
    name = manager.sliceViewNames()[0]
    assert manager.sliceWidget(name).mrmlSliceNode().GetOrientation() == "Coronal"
    compare.ui.sideBySideButton.click()
    assert manager.layout == before


def test_differences_and_profile_are_shown_on_one_click(slicer, manager, compare, until):
    compare.ui.differencesButton.click()
    until(lambda: len(manager.sliceViewNames()) == 7)
    assert compare.ui.sideBySideButton.checked
    compare.ui.sideBySideButton.click()
    compare.ui.profileButton.click()
    plot = slicer.mrmlScene.GetNodeByID("vtkMRMLPlotViewNodeSparseCTReconProfile")
    assert plot.GetPlotChartNode() is slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")


def test_views_differences_and_profile_follow_the_reference(slicer, host, manager, compare, volumes, until):
    from SparseCTReconPanel.differences import findDifference

    reference, results = volumes
    compare.ui.differencesButton.click()
    compare.ui.profileButton.click()
    compare.ui.compareReferenceSelector.setCurrentNode(results[0])
    until(lambda: findDifference(results[0], results[2]))
    until(lambda: len(manager.sliceViewNames()) == 5)
    composite = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{manager.sliceViewNames()[0]}")
    assert composite.GetBackgroundVolumeID() == results[0].GetID()
    assert compare.viewing.profile.chartNode.GetNthPlotSeriesNode(0).GetName() == "Result 1"
    for node in volumes[1]:
        slicer.mrmlScene.RemoveNode(node)
    until(lambda: not compare.ui.compareButton.enabled)
    assert not host.errors


def test_a_volume_that_a_transform_bends_has_no_profile_and_leaves_no_nodes(slicer, compare, volumes):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volumes[1][0].SetAndObserveTransformNodeID(transform.GetID())
    before = slicer.mrmlScene.GetNumberOfNodes()
    compare.ui.profileButton.click()
    assert "harden the transform" in compare.ui.compareStatusLabel.text
    assert not compare.ui.profileButton.checked and slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_new_result_is_checked_and_an_old_one_that_was_made_anew_has_a_new_difference(slicer, compare, volumes, until):
    from SparseCTReconPanel.differences import findDifference

    reference, results = volumes
    check(compare, "Result 2", False)
    compare.ui.differencesButton.click()
    until(lambda: findDifference(reference, results[0]))
    values = slicer.util.arrayFromVolume(results[0])
    values[:] = body() - 7
    slicer.util.arrayFromVolumeModified(results[0])

    class Run:
        state, outputNode = JobState.DONE, results[0]

    compare.onRunChanged(Run)
    until(lambda: np.allclose(slicer.util.arrayFromVolume(findDifference(reference, results[0])), -7))
    Run.outputNode = results[1]
    compare.onRunChanged(Run)
    assert listed(compare)["Result 2"]


def test_scan_nodes_and_previews_do_not_disturb_what_is_checked(slicer, compare, volumes, until):
    check(compare, "Result 1", False)
    slicer.util.updateVolumeFromArray(volumes[1][0], np.zeros((3, 3, 3), np.float32))
    add_volume(slicer, "Another", body())
    until(lambda: "Another" in listed(compare))
    assert not listed(compare)["Result 1"] and listed(compare)["Result 2"]
