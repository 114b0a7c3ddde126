"""The module's logic: nodes in, nodes out, with or without the panel."""

import shutil
import time
from contextlib import suppress
from dataclasses import replace

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from SparseCTReconLib.jobs.client import JobState

from . import dependencies, scene
from .job import QProcessTransport
from .parameters import SparseCTReconParameterNode
from .request import Request, Source, coarserGrid
from .run import Run


class SparseCTReconLogic(ScriptedLoadableModuleLogic):
    """Sparse-view cone-beam CT reconstruction in a background process.

    Example::

      logic = slicer.util.getModuleLogic("SparseCTRecon")
      volumeNode = logic.process(ctNode, method="admm-tv", views=50)
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.newTransport = QProcessTransport
        self._runs = []

    def getParameterNode(self):
        return SparseCTReconParameterNode(super().getParameterNode())

    def setupPythonRequirements(self):
        """Install the Python packages that the worker needs, after asking; return whether they are there."""
        return dependencies.install()

    def start(self, inputVolume=None, outputVolume=None, request=None, onChanged=None, **changes):
        """Start a reconstruction in the background and return its handle at once.

        A simulated scan lies in the handle's scanFolder until Slicer is closed.

        :param inputVolume: CT to simulate a scan from; the result takes its grid and its place in the subject hierarchy.
        :param outputVolume: volume node for the result; a new one if not given.
        :param request: a Request; the defaults if not given.
        :param onChanged: called with the handle whenever there is something new.
        :param changes: fields of the request to change, such as method="admm-tv", views=30 or scanFolder="/data/scan".
        :raises ValueError: if something that is needed is missing or wrong, in one sentence.
        """
        if "scanFolder" in changes:
            changes.setdefault("source", Source.FOLDER)
        request = replace(request or Request(), **changes)
        valid, reason = request.isValid(inputVolume)
        if not valid:
            raise ValueError(reason)
        missing = dependencies.missing()
        if missing:
            raise ValueError(
                _(
                    "Python packages are missing ({names}): press Apply in the panel, or call setupPythonRequirements() of this logic."
                ).format(names=", ".join(missing))
            )
        folder = slicer.util.tempDirectory(key="SparseCTRecon-")
        try:
            run = self._newRun(folder, request, inputVolume, outputVolume, onChanged)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._runs.append(run)
        return run.start()

    def process(self, inputVolume=None, outputVolume=None, request=None, onChanged=None, **changes):
        """Reconstruct, wait for it, and return the volume node; None if it was cancelled. For the arguments see `start`.

        :raises RuntimeError: if the reconstruction failed.
        """
        run = self.start(inputVolume, outputVolume, request, onChanged, **changes)
        while run.active:
            slicer.app.processEvents()
            run.poll()
            time.sleep(0.01)
        if run.state is JobState.FAILED:
            raise RuntimeError(f"{run.error['message']} {run.error['next_step']}".strip())
        return run.outputNode if run.state is JobState.DONE else None

    def stopAll(self, message):
        """Stop every run of this logic, put the scene back, and delete the scans that were simulated."""
        for run in self._runs:
            run.stop(message)
            run.discardScan()
        self._runs = []

    def _newRun(self, folder, request, inputVolume, outputVolume, onChanged):
        simulated = request.source is Source.SIMULATE
        jobs, grid = [], None
        if simulated:
            scene.exportVolume(inputVolume, f"{folder}/ct.nrrd")
            grid = coarserGrid(scene.gridOf(inputVolume), request.voxelSize)
            jobs.append((_("Simulating the scan"), request.simulateJob("../ct.nrrd", "../scan")))
        scan = "../scan" if simulated else request.scanFolder
        jobs.append((_("Reconstructing"), request.reconstructJob(scan, "../volume.nrrd", grid)))
        name = f"{inputVolume.GetName() if simulated else 'Scan'} {request.method}"
        output = scene.OutputVolume(outputVolume, inputVolume if simulated else None, name)
        snapshots = scene.Snapshots(f"{name} snapshots") if request.keepSnapshots else None
        return Run(folder, jobs, output, snapshots, self.newTransport, onChanged)


def stopAtQuit(logic):
    """Stop the logic's runs when the application quits; return what undoes this."""

    def stop():
        logic.stopAll("Slicer was closed.")

    slicer.app.connect("aboutToQuit()", stop)

    def undo():
        with suppress(Exception):
            slicer.app.disconnect("aboutToQuit()", stop)

    return undo
