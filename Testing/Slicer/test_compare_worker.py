"""Comparisons with a real worker and a played TotalSegmentator: what goes wrong is a sentence in the panel, and the scene as it was.

Workers under QProcess are cancelled and asked by a script; the others are forked, which saves the time that libraries take to load.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from volumes_to_compare import add_volume, body, reference_and_results

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")
pytestmark = pytest.mark.slow
PLAYED = Path(__file__).resolve().parents[1] / "Library" / "played_totalsegmentator.py"


@pytest.fixture
def compare(slicer, panel, monkeypatch, tmp_path):
    """The section, whose worker is real; TotalSegmentator does as `PLAYED_SEGMENTER` says."""
    from SparseCTReconPanel import dependencies
    from SparseCTReconPanel.compare_section import CompareSection

    monkeypatch.setattr(dependencies, "missing", list)
    monkeypatch.setenv("SPARSECTRECON_TOTALSEGMENTATOR", str(PLAYED))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "theirs"))
    return panel.section(CompareSection)


@pytest.fixture
def said(slicer, compare, until, host, tmp_path):
    """Click, wait, and return the sentence in the panel; a failure leaves the scene and the disk as they were."""

    def click(button="compareOrgansButton", fails=True):
        compare.refresh()
        before = state(slicer)
        getattr(compare.ui, button).click()
        until(lambda: compare.comparison is not None and not compare.comparison.active, 60)
        assert not host.errors
        if fails:
            assert state(slicer) == before and not compare.comparison.folder.exists()
            assert compare.ui.compareButton.enabled and compare.ui.compareButton.text == "Compare"
        return compare.ui.compareStatusLabel.text

    return click


def state(slicer):
    """IDs of all nodes, and what the volumes hold."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    return sorted(node.GetID() for node in nodes), [
        (node.GetOrigin(), float(np.nansum(slicer.util.arrayFromVolume(node)))) for node in volumes
    ]


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize(
    ("mood", "sentence"),
    [
        ("not-found", "the weights of TotalSegmentator for this task are missing or damaged"),
        ("no-network", "could not be downloaded: there is no network"),
        ("licence", "this task of TotalSegmentator needs a licence number"),
        ("broken", "TotalSegmentator is not wholly installed"),
        ("memory", "TotalSegmentator ran out of memory"),
        ("empty", "TotalSegmentator found no organ in the reference"),
    ],
)
def test_a_segmenter_that_fails_is_a_sentence_with_what_to_do(slicer, said, monkeypatch, mood, sentence):
    monkeypatch.setenv("PLAYED_SEGMENTER", mood)
    reference_and_results(slicer, 1)
    found = said()
    assert sentence.casefold() in found.casefold() and found.endswith(".") and "Traceback" not in found


@pytest.mark.usefixtures("quick_workers")
def test_a_gpu_that_is_asked_for_and_is_not_there_is_said(slicer, compare, said, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "no-gpu")
    compare.parameters.device = "cuda"
    reference_and_results(slicer, 1)
    assert "finds no GPU" in said()


@pytest.mark.usefixtures("quick_workers")
def test_a_result_without_organs_is_compared_with_a_warning(slicer, compare, said, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "empty-recon")
    reference_and_results(slicer, 1)
    assert "Result 1: TotalSegmentator found no organ in it" in said(fails=False)
    assert compare.ui.compareTable.item(0, 2).text() == "0.000"


@pytest.mark.usefixtures("quick_workers")
def test_volumes_on_different_grids_are_compared_on_the_result_s(slicer, compare, said):
    add_volume(slicer, "CT", np.repeat(np.repeat(np.repeat(body(), 2, 0), 2, 1), 2, 2), (1, 1, 1), (9.5, -20.5, 29.5))
    add_volume(slicer, "Result", body().astype(np.float32) + 10, attributes={"SparseCTRecon.method": "fdk"})
    assert "Compared." in said("compareButton", fails=False)
    rmse = compare.comparison.figures["results"][0]["image"]["rmse_hu"]
    assert rmse == pytest.approx(10, abs=0.1)


@pytest.mark.usefixtures("quick_workers")
def test_a_reference_that_does_not_overlap_is_said(slicer, said):
    reference, _results = reference_and_results(slicer, 1)
    reference.SetOrigin(4000, 0, 0)
    assert "do not overlap" in said("compareButton")


@pytest.mark.usefixtures("quick_workers")
def test_voxels_that_are_no_numbers_are_said(slicer, said):
    voxels = body().astype(np.float32)
    voxels[3, 3, 3] = np.nan
    reference_and_results(slicer, 0)
    add_volume(slicer, "Result", voxels, attributes={"SparseCTRecon.method": "fdk"})
    assert "1 of 2688 voxels of the reconstruction are not finite" in said("compareButton")


def test_a_segmenter_that_is_cancelled_leaves_nothing_behind(slicer, compare, until, said, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "slow")
    reference_and_results(slicer, 1)
    compare.refresh()
    before = state(slicer)
    compare.ui.compareOrgansButton.click()
    until(lambda: "segmenting the reference" in compare.ui.compareStatusLabel.text, 60)
    compare.ui.compareButton.click()
    until(lambda: not compare.comparison.active)
    assert compare.ui.compareStatusLabel.text == "Cancelled."
    assert state(slicer) == before and not compare.comparison.folder.exists()


@pytest.mark.usefixtures("quick_workers")
def test_a_reference_is_segmented_once_for_all_comparisons(slicer, compare, said, monkeypatch, tmp_path):
    monkeypatch.setenv("PLAYED_CALLS", str(tmp_path / "calls"))
    reference, results = reference_and_results(slicer, 1)
    said(fails=False)
    slicer.util.arrayFromVolume(results[0])[:] += 1
    slicer.util.arrayFromVolumeModified(results[0])
    said(fails=False)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()]
    assert ["reference" in call["o"] for call in calls] == [True, True, False, False], "normal and for the noise floor; then results alone"


def test_a_script_compares_and_writes_the_report(slicer, logic):
    reference = add_volume(slicer, "CT", np.repeat(np.repeat(np.repeat(body(), 3, 0), 3, 1), 3, 2), spacing=(1, 1, 1))
    worse = np.repeat(np.repeat(np.repeat(body().astype(np.float32) + 50, 3, 0), 3, 1), 3, 2)
    result = add_volume(slicer, "Worse", worse, spacing=(1, 1, 1), attributes={"SparseCTRecon.method": "fdk"})
    tables = logic.compare(reference, [result])
    assert np.isclose(slicer.util.arrayFromTableColumn(tables["image"], "RMSE (HU)")[0], 50, atol=0.5)
    assert logic.exportReport(slicer.app.temporaryPath + "/report.html").stat().st_size > 1000
    assert logic.comparisonRun.figures["reference"]["name"] == "CT"
