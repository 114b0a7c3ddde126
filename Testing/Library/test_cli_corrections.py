"""The commands calibrate and correct: what was found is shown before it is used, what was measured is kept."""

import json

import numpy as np
import pytest
from cli_cases import refused, run
from test_calibration import COARSE, measured

from SparseCTReconLib import read_scan, write_scan
from SparseCTReconLib.corrections.chain import HISTORY

pytestmark = pytest.mark.usefixtures("quick_workers")


@pytest.fixture(scope="module")
def displaced(tmp_path_factory):
    """The folder of a scan whose detector lies a pixel of 6.4 mm beside its place."""
    folder = tmp_path_factory.mktemp("displaced") / "scan"
    write_scan(measured(COARSE, 1.0), folder)
    return folder


def test_calibrate_prints_what_it_finds_and_changes_nothing(displaced, capsys):
    before = read_scan(displaced).content_hash()
    assert run("calibrate", displaced) == 0
    said = capsys.readouterr().out
    assert "+6.3" in said or "+6.4" in said or "+6.5" in said
    assert "nothing was changed" in said and "--out" in said
    assert read_scan(displaced).content_hash() == before


def test_calibrate_applies_what_it_found_to_another_folder(displaced, tmp_path, capsys):
    assert run("calibrate", displaced, "--out", tmp_path / "found", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    geometry, moved = read_scan(displaced).geometry, read_scan(tmp_path / "found").geometry
    np.testing.assert_allclose(moved.detector - geometry.detector, found["u_mm"] * geometry.u, atol=1e-3)
    assert found["u_mm"] == pytest.approx(6.4, abs=0.5) and found["tilt_deg"] is None and found["warnings"] == []
    assert read_scan(tmp_path / "found").provenance[HISTORY][0]["name"] == "detector-offset"


def test_correct_applies_a_chain_and_prints_what_was_measured(displaced, tmp_path, capsys):
    assert run("correct", displaced, tmp_path / "out", "--set", "i0=measured", "rings=on", "--set", "scatter.fraction=0.05") == 0
    said = capsys.readouterr().out
    assert "i0: measured" in said and "scatter: on" in said and "fraction 0.05" in said
    assert [entry["name"] for entry in read_scan(tmp_path / "out").provenance[HISTORY]] == ["i0", "scatter", "rings"]


def test_correct_takes_a_chain_from_a_file(displaced, tmp_path, capsys):
    config = tmp_path / "chain.json"
    config.write_text('[{"name": "scatter", "fraction": 0.1}, {"name": "rings", "mode": "off"}]')
    assert run("correct", displaced, tmp_path / "out", "--config", config) == 0
    assert [entry["name"] for entry in read_scan(tmp_path / "out").provenance[HISTORY]] == ["scatter"]


def test_wrong_corrections_are_refused_and_leave_nothing(displaced, tmp_path, capsys):
    out = tmp_path / "out"
    wrong = tmp_path / "wrong.json"
    wrong.write_text('[{"name": "rings"}, {"name": "scatter"}]')
    (tmp_path / "cut.json").write_text("[{")
    for arguments, said in (
        ((), "no correction is given"),
        (("--set", "ring=on"), "did you mean 'rings'"),
        (("--set", "rings"), "write name=value"),
        (("--set", "lag=measured"), "lag cannot be measured"),
        (("--set", "rings=on", "--config", wrong), "given twice"),
        (("--config", wrong), "put it before"),
        (("--config", tmp_path / "cut.json"), "cannot be read"),
    ):
        assert said in refused(capsys, "correct", displaced, out, *arguments)
    assert "is the scan itself" in refused(capsys, "correct", displaced, displaced, "--set", "rings=on")
    assert not out.exists()


def test_a_scan_that_cannot_be_calibrated_leaves_nothing(tmp_path, capsys):
    write_scan(measured(COARSE).subset(slice(0, 4)), tmp_path / "few")
    assert "it takes 8 or more" in refused(capsys, "calibrate", tmp_path / "few", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
