"""The section "Corrections" by clicks: off, on and measured, an offset that is shown before it is used, and what cannot be."""

import json

import pytest
from acting_worker import new_worker, small_scan

from SparseCTReconLib import formats
from SparseCTReconLib.corrections.chain import ORDER

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def ready(panel, actor, tmp_path):
    """The panel with a scan chosen and the section open."""
    panel.logic.newTransport = new_worker(actor)
    formats.write_scan(small_scan(views=14), tmp_path / "scan")
    panel.parameterNode.scanVolume = panel.logic.loadScan(str(tmp_path / "scan"))
    panel.ui.correctionsButton.collapsed = False
    section(panel).update()
    return panel


def section(panel):
    from SparseCTReconPanel.corrections_section import CorrectionsSection

    return panel.section(CorrectionsSection)


def ended(panel, until):
    until(lambda: section(panel)._run is None)


def test_each_correction_has_a_row_with_what_it_can_be(ready):
    rows = section(ready)._rows
    assert list(rows) == [kind.name for kind in ORDER]
    for kind in ORDER:
        modes, parameters = rows[kind.name]
        assert modes.count == (2 if kind.unmeasurable else 3) and modes.currentIndex == 0
        assert all(name in parameters.toolTip for name in kind.model_fields if name != "mode")
    assert section(ready).chosen() == {}


def test_what_is_chosen_reaches_the_worker_and_a_new_scan_is_taken(ready, actor, until):
    before = ready.parameterNode.scanVolume
    section(ready).choose("rings", "measured")
    section(ready).choose("scatter", "on", "fraction=0.2; of=minimum")
    ready.ui.correctButton.click()
    ended(ready, until)
    (job,) = actor.jobs
    assert job["task"] == "correct"
    assert job["corrections"] == {"rings": {"mode": "measured"}, "scatter": {"mode": "on", "fraction": "0.2", "of": "minimum"}}
    after = ready.parameterNode.scanVolume
    assert after is not before and after.GetName() == f"{before.GetName()} corrected"
    assert ready.parameterNode.source.value == "scene" and section(ready).chosen() == {}


def test_an_offset_is_shown_and_used_only_by_the_next_correction(ready, actor, until):
    before = ready.parameterNode.scanVolume
    ready.ui.findOffsetButton.click()
    ended(ready, until)
    assert ready.parameterNode.scanVolume is before
    assert "+6.40 mm" in ready.ui.foundOffsetLabel.text and "mirrored" in ready.ui.foundOffsetLabel.text
    assert section(ready).chosen() == {"detector-offset": {"mode": "on", "u_mm": "6.400"}}
    ready.ui.correctButton.click()
    ended(ready, until)
    assert [job["task"] for job in actor.jobs] == ["calibrate", "correct"]
    assert not ready.ui.foundOffsetLabel.visible


def test_an_offset_of_nothing_has_no_minus(ready):
    from SparseCTReconPanel.corrections_run import FoundOffset

    offset = FoundOffset("", ready.parameterNode.scanVolume)
    offset.found = {"u_mm": -0.002, "unexplained": 0.02, "unexplained_before": 0.02}
    assert "lies +0.00 mm" in offset.said


def test_without_a_scan_the_buttons_say_what_is_missing(panel, ct):
    panel.ui.correctionsButton.collapsed = False
    section(panel).update()
    assert not panel.ui.correctButton.enabled and not panel.ui.findOffsetButton.enabled
    assert "Choose a scan" in panel.ui.correctButton.toolTip


def test_tips_come_back_and_packages_are_looked_up_once(ready, monkeypatch):
    from SparseCTReconPanel import dependencies

    scan, tips = ready.parameterNode.scanVolume, [button.toolTip for button in (ready.ui.findOffsetButton, ready.ui.correctButton)]
    monkeypatch.setattr(dependencies, "missing", lambda: pytest.fail("packages were looked up again"))
    ready.parameterNode.scanVolume = None
    section(ready).update()
    assert "Choose a scan" in ready.ui.findOffsetButton.toolTip
    ready.parameterNode.scanVolume = scan
    section(ready).update()
    assert [button.toolTip for button in (ready.ui.findOffsetButton, ready.ui.correctButton)] == tips


def test_what_is_wrong_is_said_and_starts_nothing(ready, actor, host):
    ready.ui.correctButton.click()
    section(ready).choose("scatter", "on", "fraction")
    ready.ui.correctButton.click()
    section(ready).choose("scatter", "on", "fraction=7")
    ready.ui.correctButton.click()
    said = "\n".join(map(str, host.errors))
    assert "switch one on" in said and "write parameter=value" in said and "less than 1" in said
    assert actor.jobs == [] and ready.ui.correctButton.enabled


def test_a_correction_that_fails_says_why_and_leaves_the_scan(ready, actor, host, until):
    before = ready.parameterNode.scanVolume
    actor.ending = "error"
    section(ready).choose("rings", "on")
    ready.ui.correctButton.click()
    ended(ready, until)
    assert "does not fit into memory" in str(host.errors[-1])
    assert ready.parameterNode.scanVolume is before and section(ready).chosen() == {"rings": {"mode": "on"}}


def test_a_corrected_scan_knows_the_ct_of_the_scan_before(slicer, ct, logic, actor):
    from SparseCTReconPanel.scan_node import ctOf

    scan = logic.simulate(ct, views=14)
    corrected = logic.correct(scan, {"rings": "measured"})
    assert ctOf(corrected) is ct and corrected.GetAttribute("SparseCTRecon.simulation") is None
    json.dumps(actor.jobs[-1])
