"""First contact: the installation is checked in a process of its own; what is kept on the computer is shown, and deleted after asking."""

import os
import time
from pathlib import Path

import pytest

from SparseCTReconLib.jobs.transport import Poll


class PlayedCheck:
    """A transport whose process says what it is told to."""

    def __init__(self, stdout=b"", stderr=b"", exit_code=0):
        self._said, self.killed = Poll(stdout, stderr, exit_code), False

    def start(self, arguments, environment):
        self.arguments = arguments

    def poll(self):
        return self._said

    def kill(self, pid):
        self.killed = True


@pytest.fixture
def check(host):
    from SparseCTReconPanel.installation import InstallationCheck

    def checked(transport):
        made = InstallationCheck(lambda one: None, lambda: transport)
        made.start()
        made.poll()
        return made

    return checked


def named(check, name):
    (one,) = (one for one in check.findings if one["name"] == name)
    return one


def test_a_missing_package_is_a_fault_that_slicers_user_can_mend(check):
    said = b"""something that torch prints
{"findings": [
 {"name": "numba", "state": "fault", "found": "numba is missing", "next_step": "pip install numba"},
 {"name": "device", "state": "fault", "found": "torch cannot be loaded", "next_step": "pip install torch"},
 {"name": "scipy", "state": "fault", "found": "scipy cannot be loaded", "next_step": "pip install --force-reinstall scipy"},
 {"name": "disk", "state": "warning", "found": "only 0.1 GB", "next_step": "make room"}]}""".replace(b"\n {", b"{")
    done = check(PlayedCheck(said))
    assert not done.active and done.faults == 3
    assert named(done, "numba")["next_step"] == "Press Install packages."
    assert named(done, "device")["next_step"].startswith("Install the PyTorch extension")
    assert named(done, "scipy")["next_step"] == "It comes with Slicer: reinstall Slicer."
    assert named(done, "disk")["next_step"] == "make room"
    assert "fault: numba: numba is missing Press Install packages." in done.report()


def test_slicers_version_and_the_extensions_are_looked_at_without_a_process(check, slicer, monkeypatch):
    done = check(PlayedCheck(b'{"findings": []}'))
    assert named(done, "Slicer") == {"name": "Slicer", "state": "ok", "found": "5.12.3-2026-07-22", "next_step": ""}
    assert named(done, "extension PyTorch")["state"] == "optional"
    assert "Extensions Manager" in named(done, "extension TotalSegmentator")["next_step"]
    assert "PythonSlicer" not in [one["name"] for one in done.findings]


def test_a_process_that_dies_is_said_with_its_last_line(check):
    done = check(PlayedCheck(b"", b"Traceback\nModuleNotFoundError: No module named 'SparseCTReconLib'\n", 1))
    assert done.faults == 1
    assert "No module named 'SparseCTReconLib'" in named(done, "worker")["found"]
    assert "Traceback" in done.report()


def test_a_process_that_does_not_answer_is_ended(check, monkeypatch):
    from SparseCTReconPanel import installation

    monkeypatch.setattr(installation, "LIMIT_S", 0)
    process = PlayedCheck(exit_code=None)
    done = check(process)
    assert process.killed and not done.active
    assert "did not answer" in named(done, "worker")["found"]


def test_without_pythonslicer_the_check_says_so(host, until, monkeypatch):
    from SparseCTReconPanel.installation import InstallationCheck

    monkeypatch.setenv("PATH", "/nowhere")
    done = InstallationCheck(lambda one: None)
    done.start()
    assert not done.active
    assert "not on the path" in done.report()


def test_the_worker_is_asked_for_the_packages_of_the_requirements(check):
    process = PlayedCheck(b'{"findings": []}')
    check(process)
    assert process.arguments[:3] == ["-u", "-m", "SparseCTReconLib.installation"]
    assert {"numba", "pydantic", "torch"} <= set(process.arguments[process.arguments.index("--needed") :])


@pytest.fixture
def section(panel):
    (one,) = (section for section in panel.sections if type(section).__name__ == "AboutSection")
    return one


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with 3 MB of kernels of two versions, 20 MB of segmentation models, and something that is not ours."""
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path))
    for name, size in (("kernels-a/x.nbc", 1), ("kernels-b/x.nbc", 2), ("totalsegmentator/nnunet/m.pth", 20), ("Documents/thesis.tex", 1)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size * 1_000_000))
    return tmp_path


def test_what_is_kept_is_shown_with_its_size_once_the_section_is_open(panel, section, cache):
    panel.ui.aboutButton.collapsed = False
    assert panel.ui.keptKernelsCheckBox.text == "Compiled kernels (3.0 MB)"
    assert panel.ui.keptTotalSegmentatorCheckBox.text == "TotalSegmentator's models (20 MB)"
    assert str(cache / "totalsegmentator") in panel.ui.keptTotalSegmentatorCheckBox.toolTip
    assert panel.ui.keptWeightsCheckBox.text == "Downloaded weights (nothing)" and not panel.ui.keptWeightsCheckBox.enabled
    assert not panel.ui.deleteKeptButton.enabled and panel.ui.deleteKeptButton.toolTip == "Choose what to delete."


def test_only_what_is_chosen_is_deleted_and_only_after_asking(panel, section, cache, slicer, monkeypatch):
    asked, answer = [], [False]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **more: asked.append(text + more["detailedText"]) or answer[0])
    panel.ui.aboutButton.collapsed = False
    panel.ui.keptKernelsCheckBox.checked = True
    assert panel.ui.deleteKeptButton.enabled
    panel.ui.deleteKeptButton.click()
    assert "Compiled kernels (3.0 MB)" in asked[0] and "kernels-b" in asked[0] and "TotalSegmentator" not in asked[0]
    assert (cache / "kernels-a" / "x.nbc").is_file()
    answer[0] = True
    panel.ui.deleteKeptButton.click()
    assert sorted(path.name for path in cache.iterdir()) == ["Documents", "totalsegmentator"]
    assert panel.ui.keptKernelsCheckBox.text == "Compiled kernels (nothing)"
    assert not panel.ui.deleteKeptButton.enabled


def test_what_cannot_be_deleted_is_named(panel, section, cache, host, slicer, monkeypatch):
    from SparseCTReconPanel import downloads

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **more: True)
    monkeypatch.setattr(downloads.shutil, "rmtree", lambda folder, ignore_errors: None)
    panel.ui.aboutButton.collapsed = False
    panel.ui.keptTotalSegmentatorCheckBox.checked = True
    panel.ui.deleteKeptButton.click()
    assert "not deleted whole" in host.errors[0] and "totalsegmentator" in host.errors[0]


def test_files_of_failed_runs_are_offered_once_they_are_old(host, slicer, cache):
    from SparseCTReconPanel import downloads

    folders = [Path(slicer.app.temporaryPath) / f"SparseCTRecon-{name}" for name in ("new", "old")]
    for folder in folders:
        folder.mkdir()
        (folder / "worker.log").write_text("what it said")
    long_ago = time.time() - 8 * 86400
    for path in (folders[1], folders[1] / "worker.log"):
        os.utime(path, (long_ago, long_ago))
    (runs,) = (entry for entry in downloads.kept() if entry.kind == "runs")
    assert runs.folders == (folders[1],) and runs.size == 12
    assert downloads.delete([runs]) == []
    assert folders[0].is_dir() and not folders[1].exists()
    downloads.shutil.rmtree(folders[0])


def test_nothing_is_deleted_while_a_reconstruction_runs(panel, section, actor, cache, ct, until):
    from acting_worker import new_worker

    panel.logic.newTransport = new_worker(actor)
    actor.ending = "waits"
    panel.ui.aboutButton.collapsed = False
    panel.ui.keptKernelsCheckBox.checked = True
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.applyButton.click()
    until(lambda: panel.run.previews >= 1)
    assert not panel.ui.deleteKeptButton.enabled and "Something runs" in panel.ui.deleteKeptButton.toolTip
    panel.run.stop("The test is over.")
    assert panel.ui.deleteKeptButton.enabled


def test_nothing_is_deleted_while_organs_are_compared(panel, section, cache, host, slicer, monkeypatch, until):
    from acting_worker import Script
    from comparing_worker import new_worker
    from SparseCTReconPanel import dependencies, segmenter
    from SparseCTReconPanel.compare_section import CompareSection
    from volumes_to_compare import reference_and_results

    script = Script()
    script.ending = "waits"
    monkeypatch.setattr(dependencies, "missing", list)
    monkeypatch.setattr(segmenter, "hasPackage", lambda: True)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **more: True)
    panel.logic.newTransport = new_worker(script)
    panel.ui.aboutButton.collapsed = False
    panel.ui.keptTotalSegmentatorCheckBox.checked = True
    reference, results = reference_and_results(slicer, 1)
    run = panel.logic.startComparison(reference, results, organs=True)  # by a script: the panel hears nothing of it
    panel.ui.deleteKeptButton.click()
    assert (cache / "totalsegmentator").exists() and "Something runs" in host.errors.pop()
    assert not panel.ui.deleteKeptButton.enabled and "Something runs" in panel.ui.deleteKeptButton.toolTip
    run.stop("The test is over.")
    until(lambda: panel.ui.compareOrgansButton.enabled)
    panel.ui.compareOrgansButton.click()
    assert not panel.ui.deleteKeptButton.enabled
    panel.section(CompareSection).comparison.stop("The test is over.")
    assert panel.ui.deleteKeptButton.enabled


def test_the_verdict_comes_first_and_faults_before_what_is_well(host):
    from SparseCTReconPanel.about_section import findingsText

    well = {"name": "numpy", "state": "ok", "found": "2.4", "next_step": ""}
    fault = {"name": "numba", "state": "fault", "found": "<missing>", "next_step": "Press Install packages."}
    text = findingsText([well, fault])
    assert text.index("will fail until") < text.index("&lt;missing&gt;") < text.index("Press Install") < text.index("numpy")
    assert "Ready to reconstruct." in findingsText([well])


def test_installing_packages_from_here_says_how_it_went(panel, section, monkeypatch, host):
    monkeypatch.setattr(panel.logic, "setupPythonRequirements", lambda: True)
    panel.ui.installPackagesButton.click()
    assert panel.ui.checkText.visible is False or "All packages are installed." in panel.ui.checkText.toPlainText()

    def fail():
        raise RuntimeError("pip said no")

    monkeypatch.setattr(panel.logic, "setupPythonRequirements", fail)
    panel.ui.installPackagesButton.click()
    assert host.errors == ["pip said no"]


@pytest.mark.slow
def test_check_installation_runs_the_real_check_while_the_window_answers(panel, section, host, slicer, until):
    panel.ui.aboutButton.collapsed = False
    panel.ui.checkInstallationButton.click()
    assert panel.ui.checkInstallationButton.text == "Stop checking" and panel.ui.checkProgressBar.visible
    until(lambda: not section.check.active, 120)
    assert panel.ui.checkInstallationButton.text == "Check installation"
    assert "Ready to reconstruct." in panel.ui.checkText.toPlainText()
    assert "agree" in panel.ui.checkText.toPlainText()
    panel.ui.copyReportButton.click()
    assert "ok: kernels: compiled" in slicer.app.clipboard().text()


def test_a_check_can_be_stopped_and_goes_with_the_panel(panel, section, host):
    panel.ui.checkInstallationButton.click()
    panel.ui.checkInstallationButton.click()
    assert not section.check.active and panel.ui.checkInstallationButton.text == "Check installation"
    panel.ui.checkInstallationButton.click()
    section.cleanup()
    assert not section.check.active
