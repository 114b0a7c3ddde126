"""The section with Apply: curves, snapshots, jobs, log, problems and earlier settings, by clicks."""

import json
import logging

import numpy as np
import pytest

from SparseCTReconLib.jobs.client import JobState


@pytest.fixture
def acting_panel(panel, actor, ct, monkeypatch):
    """The panel with a CT and a worker that acts; curves are drawn at once."""
    from acting_worker import new_worker
    from SparseCTReconPanel import run

    monkeypatch.setattr(run, "FLUSH_S", 0)
    panel.logic.newTransport = new_worker(actor)
    panel.ui.inputSelector.setCurrentNode(ct)
    return panel


@pytest.fixture
def reconstruct(acting_panel, until):
    """Click Apply and wait; returns the run."""

    def click():
        acting_panel.ui.applyButton.click()
        until(lambda: not acting_panel.run.active)
        return acting_panel.run

    return click


@pytest.fixture
def views(host):
    yield host.show_views()
    host.hide_views()


def items(combo):
    return [combo.itemText(i) for i in range(combo.count)]


def cells(table):
    return [tuple(table.item(row, column).text() for column in (0, 1)) for row in range(table.rowCount)]


def points(slicer, chart):
    """(steps, values) of a chart's only series."""
    series = chart.GetNthPlotSeriesNode(0)
    table = series.GetTableNode()
    columns = (series.GetXColumnName(), series.GetYColumnName())
    return [slicer.util.arrayFromTableColumn(table, column).tolist() for column in columns]


def test_loss_and_psnr_are_curves_that_grow_while_it_runs(acting_panel, actor, slicer, until):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 3)
    until(lambda: len(points(slicer, panel.run.charts["PSNR"])[0]) == 3)
    assert items(panel.ui.plotComboBox) == ["PSNR", "residual"]
    assert panel.ui.plotComboBox.visible
    assert points(slicer, panel.run.charts["residual"]) == [[1, 2, 3], [0.75, 0.5, 0.25]]
    panel.ui.applyButton.click()
    until(lambda: not panel.run.active)
    assert not panel.ui.plotComboBox.visible
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []


def test_the_curves_belong_to_the_result_and_come_back_with_the_scene(acting_panel, reconstruct, slicer, tmp_path):
    panel = acting_panel
    name = reconstruct().outputNode.GetName()
    before = {figure: points(slicer, chart) for figure, chart in panel.run.charts.items()}
    assert [len(steps) for steps, _values in before.values()] == [4, 3], "PSNR of three previews and the result; three losses"
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "sc\u00e8ne.mrb"))
    slicer.mrmlScene.Clear(True)
    assert not panel.ui.plotComboBox.visible
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "sc\u00e8ne.mrb"))
    from SparseCTReconPanel.curves import chartsOf

    after = {figure: points(slicer, chart) for figure, chart in chartsOf(slicer.util.getNode(name)).items()}
    assert list(after) == list(before)
    for figure, (steps, values) in after.items():
        assert steps == before[figure][0] and values == pytest.approx(before[figure][1], rel=1e-4)
    panel.ui.resultSelector.setCurrentNode(slicer.util.getNode(name))
    assert items(panel.ui.plotComboBox) == ["PSNR", "residual"]


def test_the_psnr_of_the_curve_is_that_of_the_evaluation(ct, logic, actor, finished, slicer):
    from SparseCTReconLib.evaluation.metrics import psnr

    truth = slicer.util.arrayFromVolume(ct).astype(np.float32)
    actor.voxels = lambda shape, done: truth + 100 * (1 - done)
    run = finished(logic.start(ct))
    steps, values = points(slicer, run.charts["PSNR"])
    expected = [psnr(truth + 100 * (1 - step / 4), truth, None, (-1000, 1000)) for step in (1, 2, 3)]
    assert steps == [1, 2, 3] and values == pytest.approx(expected, abs=0.3), "the result equals the CT: no PSNR, no point"


def test_without_a_reference_there_is_no_psnr(slicer, ct, logic, actor, finished):
    scan = logic.simulate(ct, views=6)
    slicer.mrmlScene.RemoveNode(ct)
    run = finished(logic.start(scanVolume=scan))
    assert list(run.charts) == ["residual"]


def test_a_click_shows_the_curve_in_a_plot_view_and_another_one_brings_the_layout_back(acting_panel, reconstruct, slicer, views):
    panel, before = acting_panel, views.layout
    reconstruct()
    panel.ui.plotButton.click()
    assert views.layout != before
    selected = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotViewNode").GetPlotChartNodeID
    assert selected() == panel.run.charts["PSNR"].GetID()
    panel.ui.plotComboBox.currentIndex = 1
    assert selected() == panel.run.charts["residual"].GetID()
    panel.ui.plotButton.click()
    assert views.layout == before


def test_closing_the_panel_gives_the_layout_back(acting_panel, reconstruct, views):
    before = views.layout
    reconstruct()
    acting_panel.ui.plotButton.click()
    acting_panel.cleanup()
    assert views.layout == before


def test_the_snapshots_are_stepped_through_with_the_window_of_the_result(acting_panel, reconstruct, slicer):
    panel = acting_panel
    assert not panel.ui.snapshotSlider.visible
    panel.ui.keepSnapshotsCheckBox.click()
    result = reconstruct().outputNode
    result.GetDisplayNode().SetWindowLevel(321, 12)
    assert panel.ui.snapshotSlider.visible and panel.ui.snapshotLabel.text == "result"

    def shown():
        return slicer.mrmlScene.GetNodeByID(slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID())

    for position, mean in ((0, 25), (2, 75), (1, 50)):
        panel.ui.snapshotSlider.value = position
        assert slicer.util.arrayFromVolume(shown()).mean() == pytest.approx(mean)
        assert panel.ui.snapshotLabel.text == f"step {position + 1}"
        assert shown().GetDisplayNode().GetWindow() == 321
    assert slicer.util.arrayFromVolume(result).mean() == pytest.approx(100)
    panel.ui.snapshotSlider.value = 3
    assert shown() is result and panel.ui.snapshotLabel.text == "result"


def test_snapshots_that_were_deleted_are_offered_no_more(acting_panel, reconstruct, slicer):
    panel = acting_panel
    panel.ui.keepSnapshotsCheckBox.click()
    reconstruct()
    panel.ui.snapshotSlider.value = 0
    for kind in ("vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode"):
        for node in slicer.util.getNodesByClass(kind):
            slicer.mrmlScene.RemoveNode(node)
            panel.ui.snapshotSlider.value = 1 - panel.ui.snapshotSlider.value
    panel.parameterNode.views = 20
    assert not panel.ui.snapshotSlider.visible


def test_jobs_are_listed_with_where_they_stand_and_cancelled_or_removed_by_a_click(acting_panel, actor, until):
    panel, actor.ending = acting_panel, "waits"
    ui = panel.ui
    assert not ui.queueButton.visible and not ui.queueSectionButton.visible
    ui.applyButton.click()
    assert ui.queueButton.visible and not ui.queueSectionButton.visible
    panel.parameterNode.method = "cgls"
    ui.queueButton.click()
    panel.parameterNode.method = "os-sart"
    ui.queueButton.click()
    assert ui.queueSectionButton.visible and ui.queueSectionButton.text == "Jobs (2 waiting)"
    assert cells(ui.queueTable) == [("Oblique CT fdk", "running"), ("Oblique CT cgls", "waits"), ("Oblique CT os-sart", "waits")]
    ui.queueTable.cellWidget(1, 2).click()
    assert cells(ui.queueTable) == [("Oblique CT fdk", "running"), ("Oblique CT os-sart", "waits")]
    ui.queueTable.cellWidget(0, 2).click()
    assert cells(ui.queueTable)[0] == ("Oblique CT fdk", "cancelling")
    until(lambda: cells(ui.queueTable) == [("Oblique CT fdk", "cancelled"), ("Oblique CT os-sart", "running")])
    assert ui.applyButton.text == "Cancel"
    actor.ending = "done"
    until(lambda: cells(ui.queueTable)[1][1] == "done")
    ui.queueTable.cellWidget(0, 2).click()
    assert cells(ui.queueTable) == [("Oblique CT os-sart", "done")]
    assert ui.applyButton.text == "Apply" and not ui.queueButton.visible


def test_the_log_says_what_each_job_did(acting_panel, reconstruct):
    reconstruct()
    lines = acting_panel.ui.logText.plainText.splitlines()
    assert "fdk on cpu (acting)" in lines
    assert "Reconstructing: starting" in lines


def test_the_log_is_copied_and_saved_also_where_the_path_has_other_letters(acting_panel, slicer, host, tmp_path, monkeypatch):
    panel = acting_panel
    dialog = host.qt.QFileDialog
    panel.ui.logText.appendPlainText("\u00b5 = 0.02 / mm")
    panel.ui.copyLogButton.click()
    assert slicer.app.clipboard().text() == "\u00b5 = 0.02 / mm"
    file = tmp_path / "\u00dcbung eins.log"
    monkeypatch.setattr(dialog, "getSaveFileName", lambda *arguments: str(file))
    panel.ui.saveLogButton.click()
    assert file.read_text(encoding="utf-8") == "\u00b5 = 0.02 / mm\n"
    monkeypatch.setattr(dialog, "getSaveFileName", lambda *arguments: str(tmp_path))
    panel.ui.saveLogButton.click()
    assert panel.ui.problemFrame.visible and str(tmp_path) in panel.ui.problemLabel.text


def test_a_result_gives_its_settings_back(acting_panel, reconstruct, slicer, ct, tmp_path):
    panel, parameters = acting_panel, acting_panel.parameterNode
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    panel.ui.regionSelector.setCurrentNode(roi)
    roi.SetCenter(10, -20, 410)
    roi.SetSize(20, 20, 20)
    parameters.method = "naf"
    panel.ui.methodPresetComboBox.currentIndex = 1
    parameters.methodOptions = '{"naf": {"smoothness": 0.25}}'
    parameters.views, parameters.photons, parameters.budget, parameters.voxelSize = 31, 5e4, 60.0, 3.0
    result = reconstruct().outputNode
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Other")
    panel.ui.inputSelector.setCurrentNode(other)
    panel.ui.regionSelector.setCurrentNode(None)
    parameters.method, parameters.views, parameters.budget, parameters.methodOptions = "fdk", 50, 0.0, "{}"
    assert panel.ui.resultSelector.currentNode() is result
    panel.ui.useSettingsButton.click()
    assert parameters.inputVolume is ct and parameters.region is roi
    assert (parameters.method, parameters.methodPreset) == ("naf", "from-scratch")
    assert json.loads(parameters.methodOptions) == {"naf": {"smoothness": 0.25}}
    assert (parameters.views, parameters.photons, parameters.budget, parameters.voxelSize) == (31, 5e4, 60.0, 3.0)


def test_a_detector_of_one_s_own_that_is_not_displaced_comes_back_with_the_settings(acting_panel, reconstruct):
    panel, parameters = acting_panel, acting_panel.parameterNode
    parameters.ownDetector, parameters.offset = True, 0.0
    reconstruct()
    parameters.offset = 100.0
    panel.ui.useSettingsButton.click()
    assert parameters.ownDetector and parameters.offset == 0.0


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"views": "many", "gone": 1, "method": "gone", "source": "MOON"}'])
def test_a_result_whose_settings_were_edited_gives_back_what_can_be_read(acting_panel, reconstruct, text):
    panel = acting_panel
    node = reconstruct().outputNode
    node.SetAttribute("SparseCTRecon.request", text)
    panel.ui.useSettingsButton.click()
    assert panel.parameterNode.views == 50 and panel.parameterNode.method == "fdk"


def test_a_result_of_the_command_line_gives_back_its_method_and_options(acting_panel, slicer):
    panel = acting_panel
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "From a file")
    for name, value in (("method", "naf"), ("preset", "paper"), ("options", '{"iterations": 700, "seed": 0, "gone": 1}')):
        node.SetAttribute(f"SparseCTRecon.{name}", value)
    panel.ui.resultSelector.setCurrentNode(node)
    panel.ui.useSettingsButton.click()
    parameters = panel.parameterNode
    assert (parameters.method, parameters.methodPreset, parameters.views) == ("naf", "paper", 50)
    assert panel.ui.resetOptionsButton.enabled
    parameters.views = 40
    assert parameters.methodPreset == "paper" and '"iterations": 700' in parameters.methodOptions


def test_only_results_of_the_module_are_offered(acting_panel, reconstruct, ct):
    panel = acting_panel
    assert not panel.ui.useSettingsButton.enabled
    node = reconstruct().outputNode
    assert panel.ui.resultSelector.currentNode() is node and panel.ui.useSettingsButton.enabled
    assert ct.GetName() not in items(panel.ui.resultSelector)


def test_a_job_that_ran_out_of_memory_offers_coarser_voxels(acting_panel, actor, reconstruct):
    panel, actor.ending, actor.code = acting_panel, "error", "out-of-memory"
    reconstruct()
    assert panel.ui.problemLabel.text.startswith("The volume does not fit into memory. Take larger voxels")
    assert panel.ui.problemActionButton.text == "Use coarser voxels"
    panel.ui.problemActionButton.click()
    assert panel.parameterNode.voxelSize == 3.75, "one and a half times the CT's coarsest"
    assert not panel.ui.problemFrame.visible


def test_a_gpu_that_the_worker_does_not_find_offers_the_cpu(acting_panel, actor, reconstruct):
    panel, actor.ending, actor.code = acting_panel, "error", "no-device"
    panel.parameterNode.device = "cuda"
    reconstruct()
    assert panel.ui.problemLabel.text.endswith("Choose the CPU.")
    panel.ui.problemActionButton.click()
    assert panel.parameterNode.device == "cpu"


def test_what_cannot_be_started_is_said_without_a_traceback(acting_panel, slicer, ct):
    panel = acting_panel
    panel.ui.outputSelector.setCurrentNode(panel.logic.simulate(ct, views=6))
    panel.ui.applyButton.click()
    assert "is a scan: choose another volume for the result" in panel.ui.problemLabel.text
    assert not panel.ui.problemDetailsButton.visible and not panel.ui.problemActionButton.visible
    assert panel.ui.applyButton.text == "Apply"


def test_a_worker_that_died_can_be_tried_again(acting_panel, actor, reconstruct, until):
    panel, actor.ending = acting_panel, "dies"
    reconstruct()
    assert panel.ui.problemActionButton.text == "Retry"
    actor.ending = "done"
    panel.ui.problemActionButton.click()
    until(lambda: not panel.run.active)
    assert panel.run.state is JobState.DONE and not panel.ui.problemFrame.visible


def test_closing_the_application_is_said_in_its_log(acting_panel, actor, slicer, until, caplog):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 1)
    with caplog.at_level(logging.WARNING):
        slicer.app.aboutToQuit.emit()
    assert actor.killed and "Slicer was closed, the reconstruction was stopped" in caplog.text


def test_a_run_that_a_script_has_started_is_shown_and_cancelled_in_the_panel(acting_panel, actor, ct, until):
    panel, actor.ending = acting_panel, "waits"
    run = panel.logic.start(ct, method="cgls")
    assert panel.ui.applyButton.text == "Cancel"
    until(lambda: panel.ui.progressBar.value == 75)
    assert "75 s left" in panel.ui.statusLabel.text
    assert "cgls on cpu (acting)" in panel.ui.logText.plainText
    panel.ui.applyButton.click()
    until(lambda: not run.active)
    assert panel.ui.applyButton.text == "Apply"
