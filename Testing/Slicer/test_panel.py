"""The panel, from its own .ui file: what it offers, why it waits, what it shows while a worker runs."""

import sys

import pytest

from SparseCTReconLib.jobs.client import JobState


@pytest.fixture
def acting_panel(panel, actor):
    """The panel with a worker that acts."""
    from acting_worker import new_worker

    panel.logic.newTransport = new_worker(actor)
    return panel


def test_opening_the_panel_imports_neither_torch_nor_pydantic(session_host):
    import subprocess
    from pathlib import Path

    here = Path(__file__).resolve().parent
    program = (
        f"import sys; sys.path.insert(0, {str(here)!r})\nimport host\nh = host.start()\n"
        f"h.load({str(here.parents[1] / 'SparseCTRecon' / 'SparseCTRecon.py')!r})\nh.open('SparseCTRecon')\n"
        "print('loaded:', sorted({'torch', 'pydantic', 'SimpleITK', 'numba', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "loaded: []" in done.stdout, done.stdout + done.stderr


def test_apply_is_off_and_says_why_until_a_ct_is_selected(panel, ct):
    panel.parameterNode.inputVolume = None
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Select a CT volume to simulate a scan from, or read a scan."
    panel.ui.inputSelector.setCurrentNode(ct)
    assert panel.ui.applyButton.enabled
    assert panel.parameterNode.inputVolume is ct


def test_the_first_volume_of_the_scene_is_offered_as_ct(host, ct):
    panel = host.open("SparseCTRecon")
    assert panel.ui.inputSelector.currentNode() is ct
    assert panel.ui.applyButton.enabled
    panel.cleanup()


def test_a_label_map_is_not_offered_as_ct(host, slicer):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    panel = host.open("SparseCTRecon")
    assert panel.parameterNode.inputVolume is None
    panel.cleanup()


def test_a_volume_without_voxels_is_refused_by_name(panel, slicer):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty one")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert not panel.ui.applyButton.enabled
    assert "Empty one has no voxels" in panel.ui.applyButton.toolTip


def test_reading_a_scan_asks_for_its_folder_instead_of_a_ct(panel, tmp_path):
    panel.ui.sourceComboBox.currentIndex = 2
    assert panel.ui.scanFolderEdit.visible
    assert not panel.ui.inputSelector.visible
    assert not panel.ui.simulationButton.visible
    assert panel.ui.voxelSizeSpinBox.text == "automatic"
    assert panel.ui.applyButton.toolTip == "Choose the folder of the scan."
    panel.ui.scanFolderEdit.text = str(tmp_path)
    assert panel.ui.applyButton.enabled


def test_every_method_of_the_library_is_offered_with_its_summary(panel):
    from SparseCTReconPanel.catalogue import describe

    from SparseCTReconLib import methods

    combo = panel.ui.methodComboBox
    assert [combo.itemText(i) for i in range(combo.count)] == methods.names()
    combo.currentIndex = methods.names().index("cgls")
    assert panel.ui.methodSummaryLabel.text == f"CGLS: {describe('cgls')['summary']}"
    assert describe("cgls")["summary"]


def test_the_panel_says_what_the_evidence_recommends_for_the_number_of_views(panel, ct, tmp_path, monkeypatch):
    from SparseCTReconLib import evidence

    row = {"preset": "recommended", "volume": "head", "budget_s": 60.0, "size": 128, "device": "cpu"}
    measured = [("fdk", 20, 22.0, 0.4), ("admm-tv", 20, 36.0, 21.0), ("fdk", 50, 25.0, 0.4), ("admm-tv", 50, 38.0, 21.0)]
    rows = [row | {"method": name, "views": views, "psnr_db": psnr, "seconds": seconds} for name, views, psnr, seconds in measured]
    monkeypatch.setattr(evidence, "load", lambda: rows)
    panel.ui.viewsSpinBox.value = 20
    assert panel.ui.evidenceLabel.text == "Best for 20 views on CPU: admm-tv, 36.0 dB on 1 volume in about 21 s."
    panel.ui.budgetSpinBox.value = 5
    assert panel.ui.evidenceLabel.text.startswith("Best for 20 views in 5 s on CPU: fdk, 22.0 dB")
    panel.ui.viewsSpinBox.value = 400
    assert panel.ui.evidenceLabel.text == "No evidence for 400 views: the nearest number that was measured is 50."
    panel.ui.sourceComboBox.currentIndex = 2
    assert not panel.ui.evidenceLabel.visible
    (tmp_path / "geometry.xml").write_text(
        "<RTKThreeDCircularGeometry>" + "<Projection>x</Projection>" * 48 + "</RTKThreeDCircularGeometry>"
    )
    panel.ui.scanFolderEdit.text = str(tmp_path)
    assert panel.ui.evidenceLabel.visible and "48 views in 5 s on CPU, measured at 50: fdk" in panel.ui.evidenceLabel.text
    monkeypatch.setattr(evidence, "load", list)
    panel.ui.budgetSpinBox.value = 0
    assert panel.ui.evidenceLabel.text == "No evidence yet: no method has been measured."


def test_the_views_of_a_written_scan_are_counted_without_reading_its_images(host, tmp_path):
    import numpy as np
    from SparseCTReconPanel.evidence import viewsOfScan

    from SparseCTReconLib import Geometry, Scan, write_scan

    geometry = Geometry.preset("linac", 7, detector_shape=(3, 4), pixel_mm=(30, 25))
    write_scan(Scan(np.zeros((7, 3, 4)), geometry), tmp_path / "scan")
    assert viewsOfScan(str(tmp_path / "scan")) == viewsOfScan(str(tmp_path / "scan" / "scan.json")) == 7
    assert viewsOfScan("") == viewsOfScan(str(tmp_path)) == viewsOfScan(str(tmp_path / "nowhere")) == 0


def test_a_warning_of_the_worker_is_told_with_the_result(acting_panel, actor, ct, until):
    acting_panel.ui.inputSelector.setCurrentNode(ct)
    actor.warning = "the views span 90 degrees"
    acting_panel.ui.applyButton.click()
    until(lambda: not acting_panel.run.active)
    assert acting_panel.ui.statusLabel.text == "Oblique CT fdk is ready. Warning: the views span 90 degrees."


def test_what_is_set_in_the_panel_is_kept_in_the_scene(panel, slicer, ct):
    panel.ui.viewsSpinBox.value = 33
    panel.ui.photonsSpinBox.value = 5e4
    panel.ui.methodComboBox.currentIndex = 1
    node = slicer.mrmlScene.GetSingletonNode("SparseCTRecon", "vtkMRMLScriptedModuleNode")
    assert (node.GetParameter("views"), float(node.GetParameter("photons")), node.GetParameter("method")) == ("33", 5e4, "os-sart")


def test_apply_becomes_cancel_shows_progress_and_ends_with_a_volume(acting_panel, ct, until):
    panel = acting_panel
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    assert panel.ui.progressBar.visible
    until(lambda: panel.ui.progressBar.value == 25)
    assert "Reconstructing" in panel.ui.statusLabel.text
    assert "about 75 s left" in panel.ui.statusLabel.text
    until(lambda: not panel.run.active)
    assert panel.run.state is JobState.DONE
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.applyButton.enabled
    assert not panel.ui.progressBar.visible
    assert panel.ui.statusLabel.text == "Oblique CT fdk is ready."


def test_cancel_cancels_and_the_panel_is_ready_again(acting_panel, actor, ct, slicer, until):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 3)
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancelling..."
    assert not panel.ui.applyButton.enabled
    until(lambda: not panel.run.active)
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.applyButton.enabled
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_a_failure_is_one_sentence_with_the_next_step_and_details(acting_panel, actor, host, ct, until):
    panel, actor.ending = acting_panel, "error"
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: not panel.run.active)
    assert panel.ui.problemFrame.visible
    assert panel.ui.problemLabel.text == "The volume does not fit into memory. Take larger voxels."
    assert panel.ui.applyButton.enabled
    assert host.errors == [], "no dialog in the way of what the user does meanwhile"
    panel.ui.problemDetailsButton.click()
    assert host.errors == ["The volume does not fit into memory. Take larger voxels.\nTraceback"]
    panel.ui.problemCloseButton.click()
    assert not panel.ui.problemFrame.visible


def test_packages_that_were_not_installed_are_said_and_nothing_starts(acting_panel, host, ct, monkeypatch):
    from SparseCTReconPanel import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["numba>=0.60"])
    acting_panel.ui.inputSelector.setCurrentNode(ct)
    acting_panel.ui.applyButton.click()
    assert acting_panel.ui.problemLabel.text == "The Python packages that the reconstruction needs were not installed."
    assert acting_panel.run is None
    monkeypatch.setattr(dependencies, "missing", list)
    assert acting_panel.ui.problemActionButton.text == "Retry"
    acting_panel.ui.problemActionButton.click()
    assert acting_panel.run.active
    assert not acting_panel.ui.problemFrame.visible


def test_closing_the_scene_stops_the_run_and_the_panel_says_so(acting_panel, actor, ct, slicer, host, until):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 3)
    slicer.mrmlScene.Clear(False)
    host.process_events()
    assert "scene was closed" in panel.ui.statusLabel.text
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith("Select a CT volume")


def test_a_run_goes_on_while_another_module_is_open(acting_panel, ct, until):
    panel = acting_panel
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    panel.exit()
    until(lambda: not panel.run.active)
    panel.enter()
    assert panel.run.state is JobState.DONE
    assert panel.ui.applyButton.enabled


def test_cleaning_up_the_panel_stops_its_worker(acting_panel, actor, ct, until):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 3)
    panel.cleanup()
    assert actor.killed
    assert panel.run.state is JobState.CANCELLED


def test_quitting_the_application_stops_the_worker(acting_panel, actor, ct, slicer, until):
    panel, actor.ending = acting_panel, "waits"
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews == 3)
    slicer.app.aboutToQuit.emit()
    assert actor.killed
    assert panel.run.state is JobState.CANCELLED


def test_the_panel_renders_into_a_picture(panel, ct, host, tmp_path):
    panel.ui.inputSelector.setCurrentNode(ct)
    host.process_events()
    picture = panel.parent.grab().toImage()
    colours = {picture.pixel(x, y) for x in range(0, picture.width(), 5) for y in range(0, picture.height(), 5)}
    assert len(colours) > 20
    assert picture.save(str(tmp_path / "panel.png"))
    assert (tmp_path / "panel.png").stat().st_size < 300_000


def test_the_log_keeps_its_newest_lines_only(panel):
    for number in range(700):
        panel.ui.logText.appendPlainText(f"line {number}")
    lines = panel.ui.logText.toPlainText().splitlines()
    assert len(lines) == 500
    assert lines[-1] == "line 699"


def test_the_notice_is_there_to_be_read(panel):
    assert "Research use only" in panel.ui.noticeLabel.text
    assert panel.ui.noticeLabel.visible


def test_the_sample_cts_are_registered_with_the_files_that_are_there(host, monkeypatch):
    import hashlib
    import types
    from pathlib import Path
    from urllib.request import url2pathname

    from SparseCTReconPanel.sampledata import registerSampleData

    registered = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    registerSampleData()
    assert [source["sampleName"] for source in registered] == ["SparseCTReconHead", "SparseCTReconKnee"]
    for source in registered:
        file = Path(url2pathname(source["uris"].removeprefix("file://")))
        assert f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest()}" == source["checksums"]
        assert Path(source["thumbnailFileName"]).is_file()


def test_seconds_are_said_as_a_person_says_them(host):
    from SparseCTReconPanel.run_section import timeLeft

    assert [timeLeft(0.2), timeLeft(75), timeLeft(600)] == ["about 1 s left", "about 75 s left", "about 10 min left"]
