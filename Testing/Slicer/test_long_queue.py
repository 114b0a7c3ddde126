"""A hundred reconstructions in the queue: all in their order, one at a time, and nothing of them left but their volumes."""

import os

import pytest

from SparseCTReconLib.jobs.client import JobState


@pytest.fixture
def known_packages(host, monkeypatch):
    """What is installed is not looked up for each job."""
    from SparseCTReconPanel import dependencies

    monkeypatch.setattr(dependencies, "missing", list)


@pytest.mark.slow
def test_a_hundred_jobs_come_through_the_queue(slicer, ct, logic, actor, known_packages, until):
    def open_files():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    actor.previews = 1
    first = logic.start(ct, method="fdk")
    until(lambda: not first.active)
    before = open_files()
    views = [20 + k % 3 for k in range(99)]
    runs = [first, *(logic.start(ct, method="fdk", views=each) for each in views)]
    runs[50].cancel()

    def at_most_one_runs():
        assert sum(run.state.active for run in runs) <= 1
        return not any(run.active for run in runs)

    until(at_most_one_runs, seconds=300)
    assert [run.state for run in runs[:50] + runs[51:]] == [JobState.DONE] * 99
    assert runs[50].state is JobState.CANCELLED
    reconstructed = [job for job in actor.jobs if job["task"] == "reconstruct"]
    assert len(reconstructed) == 99
    assert sum(job["task"] == "simulate" for job in actor.jobs) == 4, "a scan of as many views is simulated once"
    assert len({run.outputNode.GetID() for run in runs if run.state is JobState.DONE}) == 99
    assert open_files() <= before + 5
    assert [run for run in runs if run.folder.exists()] == []
