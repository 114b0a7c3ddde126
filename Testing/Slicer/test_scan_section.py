"""The section "Projections" by clicks: simulate, load, drop, look, and what it says of what cannot be."""

import numpy as np
import pytest
from acting_worker import new_worker, small_scan
from PySide6 import QtCore, QtGui, QtTest, QtWidgets

from SparseCTReconLib import formats

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def acting(panel, actor):
    panel.logic.newTransport = new_worker(actor)
    return panel


@pytest.fixture
def ready(acting, ct):
    """The panel with the CT chosen."""
    acting.ui.inputSelector.setCurrentNode(ct)
    return acting


@pytest.fixture
def manager(host):
    yield host.show_views()
    host.hide_views()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "Ordner mit Leerzeichen ü"
    formats.write_scan(small_scan(seed=4), place)
    return place


def choose_source(panel, number):
    panel.ui.sourceComboBox.currentIndex = number


def volumes(slicer):
    return slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")


def shown_in(slicer, view):
    return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view}").GetBackgroundVolumeID()


def simulate(panel, until):
    panel.ui.simulateButton.click()
    until(lambda: not (panel.run and panel.run.active))
    return panel.parameterNode.scanVolume


def test_each_source_shows_its_own_widgets(panel):
    for number, visible in enumerate(("inputSelector", "scanSelector", "scanFolderEdit")):
        choose_source(panel, number)
        for name in ("inputSelector", "scanSelector", "scanFolderEdit"):
            assert getattr(panel.ui, name).visible is (name == visible)
        assert panel.ui.simulationButton.visible is (number == 0)


def test_the_machines_own_numbers_are_shown_until_the_user_changes_the_detector(ready):
    ui, parameters = ready.ui, ready.parameterNode
    parameters.preset = "linac-half-fan"
    assert (ui.columnsSpinBox.value, ui.rowsSpinBox.value, ui.pixelSizeSpinBox.value, ui.offsetSpinBox.value) == (256, 192, 1.552, 148)
    assert not ui.offsetSpinBox.enabled
    ui.ownDetectorCheckBox.click()
    ui.offsetSpinBox.value = 120
    assert ui.offsetSpinBox.enabled
    parameters.preset = "c-arm"
    assert ui.offsetSpinBox.value == 120
    assert ui.arcSpinBox.text == "as the machine, 200 deg"
    ui.ownDetectorCheckBox.click()
    assert ui.offsetSpinBox.value == 0


def test_what_the_user_set_of_the_detector_reaches_the_worker(ready, actor, until):
    simulate(ready, until)
    ready.ui.ownDetectorCheckBox.click()
    ready.ui.columnsSpinBox.value = 320
    ready.ui.offsetSpinBox.value = 10
    simulate(ready, until)
    plain, own = actor.jobs
    assert not {"detector_shape", "pixel_mm", "offset_mm"} & set(plain)
    assert (own["detector_shape"], own["pixel_mm"], own["offset_mm"]) == ([256, 320], [1.6, 1.6], [10.0, 0.0])


def test_the_panel_says_what_the_machine_will_see_and_at_what_dose(ready):
    assert ready.ui.sightLabel.text == "Sees 271 mm across and 273 mm along the patient: all of the body."
    ready.parameterNode.photons = 0.0
    assert ready.ui.doseLabel.text.startswith("No noise")
    ready.ui.ownDetectorCheckBox.click()
    ready.ui.columnsSpinBox.value = 10
    assert "Sees 11 mm across" in ready.ui.sightLabel.text
    assert "lies beside it" in ready.ui.sightLabel.text


def test_a_machine_that_sees_nothing_turns_apply_and_simulate_off_with_the_reason(ready):
    ready.ui.ownDetectorCheckBox.click()
    ready.ui.offsetSpinBox.value = 800
    for button in (ready.ui.applyButton, ready.ui.simulateButton):
        assert not button.enabled
        assert "detector misses the isocentre" in button.toolTip
    assert "detector misses the isocentre" in ready.ui.sightLabel.text


def test_simulate_makes_a_scan_shows_it_and_is_not_done_twice(ready, actor, slicer, manager, until):
    node = simulate(ready, until)
    assert [job["task"] for job in actor.jobs] == ["simulate"]
    assert node.GetName() == "Oblique CT scan, 50 views"
    assert ready.ui.statusLabel.text == "Oblique CT scan, 50 views is ready."
    assert ready.ui.sourceComboBox.currentIndex == 0
    simulate(ready, until)
    assert len(actor.jobs) == 1
    assert ready.parameterNode.scanVolume is node


def test_apply_after_simulate_takes_the_scan_that_is_there(ready, actor, slicer, until):
    simulate(ready, until)
    ready.ui.applyButton.click()
    until(lambda: not ready.run.active)
    assert [job["task"] for job in actor.jobs] == ["simulate", "reconstruct"]
    assert ready.run.outputNode.GetName() == "Oblique CT fdk"


OPENING_THE_MODULE = 3
"""Clicks in Slicer's toolbar: the list of modules, the category, the module."""


class Clicks(QtCore.QObject):
    """Counts where the mouse is pressed."""

    def __init__(self):
        super().__init__()
        self.widgets = set()

    def eventFilter(self, watched, event):
        if event.type() == QtCore.QEvent.MouseButtonPress and isinstance(watched, QtWidgets.QWidget):
            self.widgets.add(watched)
        return False


def test_from_opening_slicer_with_a_ct_to_a_reconstruction_it_is_at_most_four_clicks(host, slicer, ct, actor, manager, until):
    clicks = Clicks()
    host.app.installEventFilter(clicks)
    panel = host.open("SparseCTRecon")
    panel.logic.newTransport = new_worker(actor)
    QtTest.QTest.mouseClick(panel.ui.applyButton, QtCore.Qt.LeftButton)
    until(lambda: panel.run and not panel.run.active)
    host.app.removeEventFilter(clicks)
    assert shown_in(slicer, "Red") == panel.run.outputNode.GetID()
    assert OPENING_THE_MODULE + len(clicks.widgets) <= 4
    panel.cleanup()


def test_scans_are_offered_as_scans_and_not_as_cts(ready, slicer, until):
    node = simulate(ready, until)
    offered = [ready.ui.scanSelector.itemText(i) for i in range(ready.ui.scanSelector.count)]
    assert node.GetName() in offered
    assert "Oblique CT" not in offered
    assert node.GetName() not in [ready.ui.inputSelector.itemText(i) for i in range(ready.ui.inputSelector.count)]


def test_a_scan_is_not_the_first_volume_that_is_offered_as_ct(host, slicer):
    from SparseCTReconPanel.scan_node import createScanNode

    createScanNode(small_scan(), "Mine")
    panel = host.open("SparseCTRecon")
    assert panel.parameterNode.inputVolume is None
    panel.cleanup()


def test_reconstructing_a_scan_of_the_scene(acting, actor, slicer, until, folder):
    node = acting.logic.loadScan(str(folder))
    choose_source(acting, 1)
    acting.ui.scanSelector.setCurrentNode(node)
    assert acting.ui.sightLabel.text == "6 views of 8 x 6 pixels of 68.3 mm."
    acting.ui.applyButton.click()
    until(lambda: not acting.run.active)
    assert acting.run.outputNode.GetName() == f"{folder.name} fdk"


def test_a_scan_whose_attributes_were_edited_turns_apply_off_with_the_reason(acting, slicer, folder):
    node = acting.logic.loadScan(str(folder))
    node.SetAttribute("SparseCTRecon.photons", "7")
    choose_source(acting, 1)
    acting.ui.scanSelector.setCurrentNode(node)
    assert not acting.ui.applyButton.enabled
    assert "was edited or is damaged" in acting.ui.applyButton.toolTip
    assert "was edited or is damaged" in acting.ui.sightLabel.text
    assert not acting.ui.showProjectionsCheckBox.enabled


def test_a_scan_that_is_loaded_is_chosen_and_shown(acting, slicer, host, folder):
    choose_source(acting, 2)
    acting.ui.scanFolderEdit.text = str(folder)
    acting.ui.loadScanButton.click()
    assert host.errors == []
    assert acting.ui.sourceComboBox.currentIndex == 1
    assert acting.ui.scanSelector.currentNode().GetName() == folder.name
    assert shown_in(slicer, "Red") in (None, acting.parameterNode.scanVolume.GetID())
    assert acting.ui.applyButton.enabled


def test_a_scan_without_scan_json_is_said_before_and_after_it_is_loaded(acting, folder):
    (folder / "scan.json").unlink()
    choose_source(acting, 2)
    acting.ui.scanFolderEdit.text = str(folder)
    assert "isocentre at LPS 0" in acting.ui.sightLabel.text
    acting.ui.loadScanButton.click()
    assert acting.ui.sightLabel.text.endswith("Assumed: line integrals, isocentre at LPS 0: there was no scan.json.")


def test_what_cannot_be_loaded_is_said_and_the_scene_unharmed(acting, slicer, host, folder):
    (folder / "projections.mha").write_bytes(b"damaged")
    choose_source(acting, 2)
    acting.ui.scanFolderEdit.text = str(folder)
    acting.ui.loadScanButton.click()
    assert "projections.mha" in host.errors[0]
    assert volumes(slicer) == []
    assert acting.ui.sourceComboBox.currentIndex == 2


@pytest.mark.parametrize(("entry", "asked"), [(0, "getExistingDirectory"), (1, "getOpenFileName")])
def test_browsing_loads_what_was_chosen(acting, slicer, folder, monkeypatch, entry, asked):
    from SparseCTReconPanel import scan_section

    choose_source(acting, 2)
    path = str(folder if entry == 0 else folder / "scan.json")
    monkeypatch.setattr(scan_section.qt.QFileDialog, asked, lambda *arguments: path)
    action = QtWidgets.QWidget.actions(acting.ui.browseButton)[entry]
    action.trigger()
    assert acting.parameterNode.scanVolume.GetName() == folder.name


def drop(widget, *paths):
    """Enter with files and drop them, as a window system does; return whether it was accepted."""
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
    place = QtCore.QPoint(5, 5)
    keys = QtCore.Qt.LeftButton, QtCore.Qt.NoModifier
    enter = QtGui.QDragEnterEvent(place, QtCore.Qt.CopyAction, data, *keys)
    QtWidgets.QApplication.sendEvent(widget, enter)
    if not enter.isAccepted():
        return False
    QtWidgets.QApplication.sendEvent(widget, QtGui.QDropEvent(QtCore.QPointF(place), QtCore.Qt.CopyAction, data, *keys))
    return True


def test_a_scan_that_is_dropped_onto_the_section_is_loaded_and_chosen(acting, slicer, until, folder):
    assert acting.ui.ScanSection.acceptDrops
    assert drop(acting.ui.ScanSection, folder)
    until(lambda: acting.parameterNode.scanVolume is not None)
    assert acting.parameterNode.scanVolume.GetName() == folder.name
    assert acting.ui.sourceComboBox.currentIndex == 1


def test_a_file_that_is_no_scan_is_said_when_it_is_dropped(acting, slicer, host, until, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert drop(acting.ui.ScanSection, tmp_path / "notes.txt")
    until(lambda: host.errors)
    assert "notes.txt is no scan" in host.errors[0]
    assert not drop(acting.ui.ScanSection)


def test_the_slider_steps_through_views_in_slices_and_orbit_together(ready, slicer, manager, until):
    from SparseCTReconPanel.orbit import BEAM

    ready.parameterNode.views = 8
    display = ready.sections[0].display
    display_of = display.orbit
    ready.ui.showOrbitCheckBox.checked = True
    assert display_of.node(BEAM)
    sources = []
    for view in (0, 5):
        ready.ui.viewSlider.value = view
        sources.append(display_of.node(BEAM).GetPolyData().GetPoint(0))
    assert np.linalg.norm(np.subtract(*sources)) > 1000
    assert ready.ui.viewNumberLabel.text == "6 of 8, 225.0 deg"
    ready.ui.showOrbitCheckBox.checked = False
    assert not display_of.shown


def test_projections_are_shown_only_where_they_are_those_of_the_settings(acting, slicer, manager, folder):
    node = acting.logic.loadScan(str(folder))
    choose_source(acting, 1)
    acting.ui.scanSelector.setCurrentNode(node)
    acting.ui.showProjectionsCheckBox.checked = True
    assert shown_in(slicer, "Red") == shown_in(slicer, "Green") == node.GetID()
    acting.ui.viewSlider.value = 4
    assert int(np.median(manager.shown("Red")[..., 0])) > 100
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    red.SetSliceOffset(red.GetSliceOffset() + 2 * node.GetSpacing()[2])
    assert acting.ui.viewSlider.value == 2
    assert acting.ui.viewNumberLabel.text.startswith("3 of 6")
    choose_source(acting, 0)
    assert shown_in(slicer, "Red") is None
    assert acting.ui.showProjectionsCheckBox.toolTip == "Simulate or load the scan first."


def test_the_projections_give_way_to_the_volume_that_is_reconstructed(acting, slicer, manager, until, folder):
    acting.sections[0].load(str(folder))
    assert shown_in(slicer, "Red") == acting.parameterNode.scanVolume.GetID()
    acting.ui.applyButton.click()
    until(lambda: not acting.run.active)
    assert acting.run.outputNode, (acting.run.state, acting.run.message)
    assert shown_in(slicer, "Red") == acting.run.outputNode.GetID()
    assert not acting.ui.showProjectionsCheckBox.checked


def test_a_scan_that_is_deleted_while_it_is_shown_leaves_the_panel_usable(acting, slicer, manager, host, folder):
    acting.sections[0].load(str(folder))
    acting.ui.showOrbitCheckBox.checked = True
    slicer.mrmlScene.RemoveNode(acting.parameterNode.scanVolume)
    host.process_events()
    acting.ui.viewSlider.value = 1
    assert acting.ui.applyButton.toolTip.startswith("Choose a scan of the scene")
    assert not acting.sections[0].display.orbit.shown


def test_closing_the_scene_while_a_scan_is_shown_leaves_the_panel_usable(acting, slicer, manager, host, folder):
    acting.sections[0].load(str(folder))
    acting.ui.showOrbitCheckBox.checked = True
    slicer.mrmlScene.Clear(False)
    acting.ui.viewSlider.value = 1
    host.process_events()
    assert not acting.sections[0].display.orbit.shown
    acting.sections[0].load(str(folder))
    assert acting.parameterNode.scanVolume.GetName() == folder.name


def test_a_scene_that_is_saved_and_opened_again_brings_the_panel_back_as_it_was(acting, slicer, host, folder, tmp_path):
    acting.sections[0].load(str(folder))
    acting.parameterNode.photons = 777.0
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(False)
    assert not acting.ui.applyButton.enabled
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    host.process_events()
    assert acting.ui.sourceComboBox.currentIndex == 1
    assert acting.ui.scanSelector.currentNode().GetName() == folder.name
    assert acting.ui.photonsSpinBox.value == 777
    assert acting.ui.sightLabel.text.startswith("6 views of 8 x 6 pixels")
    assert acting.ui.applyButton.enabled


def test_nothing_of_a_display_outlives_the_panel(host, slicer, manager, folder):
    panel = host.open("SparseCTRecon")
    panel.sections[0].load(str(folder))
    panel.ui.showOrbitCheckBox.checked = True
    assert slicer.util.getNodesByClass("vtkMRMLModelNode")
    panel.cleanup()
    assert [node for node in slicer.util.getNodesByClass("vtkMRMLModelNode") if "Slice" not in node.GetName()] == []
    assert shown_in(slicer, "Red") is None
