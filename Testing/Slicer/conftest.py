"""Fixtures of the Slicer side: the test host once for the session, a scene for each test, an oblique CT, a worker that acts."""

import functools
import importlib.metadata
import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name, module in (("slicer-core", "slicer"), ("PySide6", "PySide6")) if importlib.util.find_spec(module) is None]
collect_ignore = ["host"]
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "Testing" / "Library"))  # scans as other codes write them


@pytest.fixture(scope="session")
def session_host(tmp_path_factory):
    if MISSING:
        pytest.skip(f"{' and '.join(MISSING)} not installed (extra slicer-test)")
    import host

    real = os.environ.get("SLICER_BASE_PYTHON")
    started = host.start(Path(real) if real else None)
    programs = tmp_path_factory.mktemp("programs")
    put_on_path(programs, "PythonSlicer")
    sys.path.insert(0, str(ROOT / "SparseCTRecon"))
    import SparseCTReconPanel.run

    SparseCTReconPanel.run.POLL_INTERVAL_MS = 10
    for name in ("version", "requires"):  # what is installed stays so; every panel and every job asks for all of it
        setattr(importlib.metadata, name, functools.cache(getattr(importlib.metadata, name)))
    started.load(ROOT / "SparseCTRecon" / "SparseCTRecon.py")
    return started


def put_on_path(folder, name):
    """Let this interpreter be found as PythonSlicer, behind a launcher as in Slicer: its pid is not the worker's."""
    program = folder / name
    program.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def host(session_host):
    """The host with an empty scene; what the panel showed as errors is in `host.errors`."""
    session_host.clear()
    yield session_host
    session_host.clear()


@pytest.fixture
def slicer(host):
    import slicer

    return slicer


@pytest.fixture
def ct(slicer):
    """A CT node with oblique axes, three different spacings, a bright marker and a study around it."""
    z, y, x = np.mgrid[:18, :20, :22]
    body = ((z - 8.5) / 8) ** 2 + ((y - 9.5) / 9) ** 2 + ((x - 10.5) / 10) ** 2 < 0.9
    voxels = np.where(body, 40, -1000).astype(np.int16)
    voxels[11:13, 6:8, 13:15] = 1500
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Oblique CT")
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix()))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(900, 123)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    return node


def oblique_matrix():
    a, b = np.radians(20), np.radians(-12)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ np.diag([-2.1, -1.9, 2.5])
    matrix[:3, 3] = 31.25, -17.5, 403.7
    return matrix


@pytest.fixture
def logic(host):
    from SparseCTReconPanel.logic import SparseCTReconLogic

    made = SparseCTReconLogic()
    yield made
    made.stopAll("The test is over.")


@pytest.fixture
def actor(logic, monkeypatch):
    """Let the logic's jobs run by a worker that acts, and be asked at once; set its traits on the returned object."""
    from acting_worker import Script, new_worker
    from SparseCTReconPanel import run, volumes_run

    for module in (run, volumes_run):
        monkeypatch.setattr(module, "POLL_INTERVAL_MS", 1)

    script = Script()
    logic.newTransport = new_worker(script)
    return script


@pytest.fixture
def quick_workers(loaded_libraries, host, monkeypatch):
    """Workers are forked with their libraries, where processes can be, instead of started under QProcess; ask for it before the panel."""
    if sys.platform == "linux":
        import forked_worker
        import SparseCTReconPanel.logic

        from SparseCTReconLib.jobs import transport

        monkeypatch.setattr(transport, "subprocess", forked_worker)
        monkeypatch.setattr(SparseCTReconPanel.logic, "QProcessTransport", transport.SubprocessTransport)


@pytest.fixture
def panel(host, request):
    widget = host.open("SparseCTRecon")
    yield widget
    widget.cleanup()
    widget.parent.setMRMLScene(None)  # else the selectors of each test's panel would follow the scenes of all tests after it
    widget.parent.close()


@pytest.fixture
def acting_panel(panel, actor, ct):
    """The panel with a CT and a worker that acts."""
    from acting_worker import new_worker

    panel.logic.newTransport = new_worker(actor)
    panel.ui.inputSelector.setCurrentNode(ct)
    return panel


@pytest.fixture
def until(host):
    """Let the event loop run until something is so."""

    def wait(condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come about in time"
            host.process_events()
            time.sleep(0.001)

    return wait


@pytest.fixture
def finished(until):
    def wait(run, seconds=60.0):
        until(lambda: not run.active, seconds)
        return run

    return wait
