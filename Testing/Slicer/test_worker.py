"""The same runs with real worker processes under QProcess: CT node in, reconstructed node out."""

import os
import signal
import time

import numpy as np
import pytest
from test_run import matrix_of, world_of_brightest

from SparseCTReconLib.jobs.client import JobState

pytestmark = pytest.mark.slow

QUICK = {"views": 24, "photons": 0.0, "preset": "linac"}


def test_a_ct_is_simulated_and_reconstructed_in_its_place_with_its_provenance(slicer, ct, logic, finished):
    run = finished(logic.start(ct, method="fdk", **QUICK), 120)
    assert run.state is JobState.DONE, run.error
    node = run.outputNode
    assert np.abs(matrix_of(node) - matrix_of(ct)).max() < 1e-3
    truth, voxels = slicer.util.arrayFromVolume(ct), slicer.util.arrayFromVolume(node)
    inside = slice(7, 11), slice(8, 12), slice(9, 13)
    assert voxels[inside].mean() == pytest.approx(truth[inside].mean(), abs=150)
    assert node.GetAttribute("SparseCTRecon.method") == "fdk"
    assert len(node.GetAttribute("SparseCTRecon.scan_sha256")) == 64
    assert "research use only" in node.GetAttribute("SparseCTRecon.disclaimer")


def test_a_marker_stays_where_it_was_from_ct_to_scan_to_scene(slicer, ct, logic, finished):
    there = world_of_brightest(ct, slicer.util.arrayFromVolume(ct))
    run = finished(logic.start(ct, method="fdk", **QUICK), 120)
    back = world_of_brightest(run.outputNode, slicer.util.arrayFromVolume(run.outputNode))
    assert np.abs(back - there).max() < 1.0


def test_iterations_stream_into_one_node_and_a_sequence(slicer, ct, logic, finished):
    run = finished(logic.start(ct, method="cgls", keepSnapshots=True, **QUICK), 120)
    assert run.state is JobState.DONE, run.error
    assert run.previews >= 1
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    assert sequence.GetNumberOfDataNodes() == run.previews
    assert np.abs(matrix_of(sequence.GetNthDataNode(0)) - matrix_of(ct)).max() < 1e-3


def test_two_jobs_in_the_queue_and_a_region_go_through_paths_with_spaces_and_other_letters(slicer, ct, logic, host, finished, tmp_path):
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    bounds = np.zeros(6)
    ct.GetRASBounds(bounds)
    roi.SetCenter(*bounds.reshape(3, 2).mean(axis=1))
    roi.SetSize(16, 20, 12)
    folder = tmp_path / "\u00dcbungs daten \u6d4b\u8bd5"
    folder.mkdir()
    before, host.app.__dict__["_folder"] = host.app.__dict__["_folder"], str(folder)
    try:
        runs = [logic.start(ct, method=method, region=roi, voxelSize=2.0, **QUICK) for method in ("fdk", "cgls")]
        for run in runs:
            assert finished(run, 120).state is JobState.DONE, run.error
    finally:
        host.app.__dict__["_folder"] = before
    assert runs[0].folder.is_relative_to(folder)
    assert [run.outputNode.GetImageData().GetDimensions() for run in runs] == [(8, 10, 6)] * 2
    found = np.zeros(6)
    runs[0].outputNode.GetRASBounds(found)
    assert np.allclose(found.reshape(3, 2).mean(axis=1), bounds.reshape(3, 2).mean(axis=1), atol=1e-3)
    assert slicer.util.arrayFromVolume(runs[0].outputNode).mean() == pytest.approx(40, abs=150), "inside of the body"
    assert list(runs[1].charts) == ["PSNR", "residual"]


@pytest.fixture
def sharpening(ct, logic, until):
    """A run of a method that takes long, with its first preview in the scene."""
    run = logic.start(ct, method="naf", **QUICK)
    until(lambda: run.previews >= 1, 120)
    return run


def test_a_worker_that_is_killed_is_noticed_within_five_seconds_and_said(slicer, ct, sharpening, until):
    os.kill(sharpening.workerPid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: not sharpening.active, 10)
    assert time.monotonic() - killed < 5
    assert sharpening.state is JobState.FAILED
    assert "worker" in sharpening.error["message"]
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [ct]


def test_cancelling_a_worker_leaves_no_process_and_the_scene_as_it_was(slicer, ct, sharpening, until):
    pid = sharpening.workerPid
    sharpening.cancel()
    until(lambda: not sharpening.active, 12)
    assert sharpening.state is JobState.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [ct]


def test_a_time_limit_ends_with_the_volume_as_it_is_then(ct, logic, finished):
    run = finished(logic.start(ct, method="naf", budget=3.0, **QUICK), 120)
    assert run.state is JobState.DONE, run.error
    assert run.outputNode.GetAttribute("SparseCTRecon.method") == "naf"


def test_a_volume_that_is_no_ct_is_refused_in_a_sentence(slicer, ct, logic, finished):
    slicer.util.updateVolumeFromArray(ct, np.full((8, 8, 8), 500, np.int16))
    run = finished(logic.start(ct, **QUICK), 60)
    assert run.state is JobState.FAILED
    assert run.error["code"] == "not-a-ct"
    assert "Hounsfield" in run.error["message"]
    assert "Traceback" not in run.error["message"]


def test_the_panel_brings_a_reconstruction_of_a_real_worker_into_the_scene(panel, slicer, ct, host, until):
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.ui.viewsSpinBox.value = 24
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    until(lambda: not panel.run.active, 120)
    assert host.errors == []
    assert panel.run.state is JobState.DONE
    assert slicer.util.getNode("Oblique CT fdk")
    assert panel.ui.logText.toPlainText().strip()
    assert panel.parameterNode.scanVolume is panel.run.scanNode
