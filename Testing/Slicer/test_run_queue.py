"""Several reconstructions: one worker at a time, in the order in which they were asked for, whatever becomes of each."""

import numpy as np
import pytest
from test_run import snapshot

from SparseCTReconLib.jobs.client import JobState


@pytest.fixture
def three(ct, logic, actor):
    """A run that waits for being cancelled, and two behind it."""
    actor.ending = "waits"
    return [logic.start(ct, method=method) for method in ("fdk", "cgls", "os-sart")]


def states(runs):
    return [run.state for run in runs]


def test_jobs_run_one_after_the_other_in_their_order(slicer, ct, logic, actor, until):
    runs = [logic.start(ct, method=method) for method in ("cgls", "fdk", "os-sart")]
    assert states(runs) == [JobState.RUNNING, JobState.IDLE, JobState.IDLE]
    assert "turn" in runs[1].message

    def at_most_one_runs():
        assert sum(run.state.active for run in runs) <= 1
        return not any(run.active for run in runs)

    until(at_most_one_runs)
    assert states(runs) == [JobState.DONE] * 3
    assert [job["method"] for job in actor.jobs if job["task"] == "reconstruct"] == ["cgls", "fdk", "os-sart"]
    assert [run.outputNode.GetName() for run in runs] == ["Oblique CT cgls", "Oblique CT fdk", "Oblique CT os-sart"]


def test_a_scan_that_a_job_before_has_simulated_is_not_simulated_again(slicer, ct, logic, actor, until):
    from SparseCTReconPanel.scan_node import scanNodes

    runs = [logic.start(ct, method="cgls"), logic.start(ct, method="fdk"), logic.start(ct, method="fdk", views=30)]
    until(lambda: not any(run.active for run in runs))
    assert [job["task"] for job in actor.jobs] == ["simulate", "reconstruct", "reconstruct", "simulate", "reconstruct"]
    assert len(scanNodes()) == 2


def test_a_job_that_fails_leaves_the_scene_as_it_was_and_the_next_one_runs(slicer, ct, logic, actor, until):
    actor.ending = "error"
    slicer.util.setSliceViewerLayers(background=ct)
    before = snapshot(slicer)
    failing = logic.start(ct, keepSnapshots=True)
    until(lambda: failing.previews == 3)
    following = logic.start(ct, method="cgls")
    until(lambda: not failing.active)
    assert failing.state is JobState.FAILED and snapshot(slicer) == before
    actor.ending = "done"
    until(lambda: not following.active)
    assert following.state is JobState.DONE
    assert slicer.util.arrayFromVolume(following.outputNode).mean() == pytest.approx(100)


@pytest.mark.parametrize("source", ["the CT", "the scan"])
def test_a_job_that_waits_for_the_scan_of_a_job_that_is_cancelled_still_has_it(slicer, ct, logic, actor, until, source):
    actor.ending = "waits"
    first = logic.start(ct)
    until(lambda: first.previews == 3)
    second = logic.start(ct, method="cgls") if source == "the CT" else logic.start(scanVolume=first.scanNode, method="cgls")
    first.cancel()
    actor.ending = "done"
    until(lambda: not second.active)
    assert first.state is JobState.CANCELLED and second.state is JobState.DONE, second.error


def test_a_listener_that_fails_at_a_job_s_end_does_not_hold_up_the_next_one(ct, logic, actor, until):
    def listen(run):
        if run.state is JobState.DONE:
            raise RuntimeError("a listener's own fault")

    logic.start(ct, method="cgls", onChanged=listen)
    second = logic.start(ct, method="fdk")
    until(lambda: not second.active)
    assert second.state is JobState.DONE


def test_a_job_that_waits_is_cancelled_without_having_touched_anything(slicer, three, logic, actor, until):
    first, second, third = three
    folder = second.folder
    second.cancel()
    assert second.state is JobState.CANCELLED and not folder.exists()
    assert states(three) == [JobState.RUNNING, JobState.CANCELLED, JobState.IDLE]
    first.cancel()
    actor.ending = "done"
    until(lambda: not third.active)
    assert states(three) == [JobState.CANCELLED, JobState.CANCELLED, JobState.DONE]
    assert [job["method"] for job in actor.jobs if job["task"] == "reconstruct"][-1] == "os-sart"


def test_removing_the_job_that_runs_lets_the_next_one_begin(three, logic, actor, until):
    logic.queue.remove(three[0])
    assert actor.killed and three[0] not in logic.queue.runs
    until(lambda: three[1].state is JobState.RUNNING)


def test_closing_the_scene_ends_all_jobs_and_says_so(slicer, three, actor, host, until):
    until(lambda: three[0].previews == 3)
    slicer.mrmlScene.Clear(False)
    assert states(three) == [JobState.CANCELLED] * 3
    assert all("scene was closed" in run.message for run in three)
    host.process_events()
    assert len([job for job in actor.jobs if job["task"] == "reconstruct"]) == 1
    assert not any(run.folder.exists() for run in three)


def test_deleting_the_output_of_a_job_that_waits_ends_it_with_a_sentence(slicer, ct, logic, actor, until):
    actor.ending = "waits"
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    first, second = logic.start(ct), logic.start(ct, output)
    slicer.mrmlScene.RemoveNode(output)
    first.cancel()
    until(lambda: not second.active)
    assert second.state is JobState.CANCELLED
    assert second.message == "The output volume was deleted: nothing was reconstructed."


def test_the_second_job_into_the_same_volume_gives_back_what_the_first_has_made(slicer, ct, logic, actor, until):
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    first, second = logic.start(ct, output, method="cgls"), logic.start(ct, output, method="fdk")
    until(lambda: not first.active)
    actor.ending = "waits"
    actor.voxels = lambda shape, done: np.full(shape, -500, np.float32)
    until(lambda: second.previews == 3)
    assert slicer.util.arrayFromVolume(output).mean() == pytest.approx(-500)
    second.cancel()
    until(lambda: not second.active)
    assert slicer.util.arrayFromVolume(output).mean() == pytest.approx(100)
    assert output.GetAttribute("SparseCTRecon.method") == "cgls"


def test_a_script_that_waits_for_its_volume_waits_for_those_before_it_too(slicer, ct, logic, actor):
    first = logic.start(ct, method="cgls")
    node = logic.process(ct, method="fdk")
    assert not first.active and node.GetName() == "Oblique CT fdk"


@pytest.mark.parametrize("kind", ["vtkMRMLScalarVolumeNode", "vtkMRMLMarkupsROINode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode"])
def test_a_node_that_is_deleted_during_a_run_does_not_break_it(slicer, ct, logic, actor, until, kind):
    from SparseCTReconPanel import run as run_module

    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    roi.SetCenter(ct.GetOrigin())
    roi.SetSize(20, 20, 20)
    actor.previews = 6
    flush = run_module.FLUSH_S
    run_module.FLUSH_S = 0
    try:
        run = logic.start(ct, region=roi, keepSnapshots=True)
        until(lambda: run.previews >= 2)
        for node in slicer.util.getNodesByClass(kind):
            if node is not run.outputNode:
                slicer.mrmlScene.RemoveNode(node)
        until(lambda: not run.active)
    finally:
        run_module.FLUSH_S = flush
    assert run.state is JobState.DONE, run.error


def test_a_scan_that_is_deleted_while_its_job_waits_does_not_stop_the_job(slicer, ct, logic, actor, until):
    scan = logic.simulate(ct, views=6)
    actor.ending = "waits"
    first, second = logic.start(scanVolume=scan, method="fdk"), logic.start(scanVolume=scan, method="cgls")
    slicer.mrmlScene.RemoveNode(scan)
    first.cancel()
    actor.ending = "done"
    until(lambda: not second.active)
    assert second.state is JobState.DONE, second.error


def test_paths_with_spaces_and_other_letters_are_taken_to_the_worker_and_back(slicer, ct, logic, actor, finished, host, tmp_path):
    before = host.app.__dict__["_folder"]
    folder = tmp_path / "Übungs daten \u6d4b\u8bd5 \u00e9"
    folder.mkdir()
    host.app.__dict__["_folder"] = str(folder)
    try:
        run = finished(logic.start(ct, method="cgls"))
    finally:
        host.app.__dict__["_folder"] = before
    assert run.folder.is_relative_to(folder)
    assert run.state is JobState.DONE, run.error
    assert not run.folder.exists()
