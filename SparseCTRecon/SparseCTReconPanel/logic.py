"""The module's logic: nodes in, nodes out, with or without the panel."""

import hashlib
import json
import logging
import shutil
import time
from contextlib import suppress
from dataclasses import replace

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from SparseCTReconLib.jobs.client import JobState

from . import dependencies, field_of_view, scene
from .companions import Companions
from .compare_logic import CompareLogic
from .corrections_logic import CorrectionsLogic
from .field_of_view_logic import FieldOfViewLogic
from .job import QProcessTransport
from .parameters import SparseCTReconParameterNode
from .previous import Settings
from .record import Record
from .request import Request, Source
from .run import Run
from .run_queue import RunQueue
from .scan_folders import ScanFolders
from .scan_node import OutputScan, ctOf, findSimulated, isScan, loadScan, saveScan
from .target import gridOfResult
from .trust_logic import TrustLogic


class SparseCTReconLogic(ScriptedLoadableModuleLogic, CompareLogic, TrustLogic, CorrectionsLogic, FieldOfViewLogic):
    """Sparse-view cone-beam CT reconstruction in a background process.

    Example::

      logic = slicer.util.getModuleLogic("SparseCTRecon")
      volumeNode = logic.process(ctNode, method="admm-tv", views=50)
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.newTransport = QProcessTransport
        self.scanFolders = ScanFolders()
        self.queue = RunQueue()
        self.queue.onIdle = self.scanFolders.discardUnused
        self.companions = Companions()

    def getParameterNode(self):
        return SparseCTReconParameterNode(super().getParameterNode())

    def setupPythonRequirements(self):
        """Install the Python packages that the worker needs, after asking; return whether they are there."""
        return dependencies.install()

    def start(self, inputVolume=None, outputVolume=None, request=None, onChanged=None, scanVolume=None, region=None, **changes):
        """Start a reconstruction in the background, or put it behind those that run, and return its handle at once.

        A scan that is simulated for it becomes a node of the scene and is used again for as long as nothing of it is changed.

        :param inputVolume: CT to simulate a scan from; the result takes its grid and its place in the subject hierarchy.
        :param outputVolume: volume node for the result; a new one if not given.
        :param request: a Request; the defaults if not given.
        :param onChanged: called with the handle whenever there is something new.
        :param scanVolume: scan node to reconstruct from, instead of a CT.
        :param region: vtkMRMLMarkupsROINode whose box is reconstructed, along its own axes; the whole CT if not given.
        :param changes: fields of the request to change, such as method="admm-tv", views=30 or scanFolder="/data/scan".
        :raises ValueError: if something that is needed is missing or wrong, in one sentence.
        """
        if scanVolume is not None and request is None:
            changes.setdefault("source", Source.SCENE)
        elif "scanFolder" in changes:
            changes.setdefault("source", Source.FOLDER)
        request = replace(request or Request(), **changes)
        self._check(request, inputVolume, scanVolume)
        if isScan(outputVolume):
            raise ValueError(_("{name} is a scan: choose another volume for the result.").format(name=outputVolume.GetName()))
        if outputVolume is not None and outputVolume is self._ct(request, inputVolume, scanVolume):
            raise ValueError(_("{name} is the CT itself: choose another volume for the result.").format(name=outputVolume.GetName()))
        nodes = {"inputVolume": inputVolume, "scanVolume": scanVolume, "region": region}
        return self._start(lambda folder: self._newRun(folder, request, nodes, outputVolume, onChanged))

    def process(self, inputVolume=None, outputVolume=None, request=None, onChanged=None, scanVolume=None, region=None, **changes):
        """Reconstruct, wait for it, and return the volume node; None if it was cancelled. For the arguments see `start`.

        :raises RuntimeError: if the reconstruction failed.
        """
        run = self._wait(self.start(inputVolume, outputVolume, request, onChanged, scanVolume, region, **changes))
        return run.outputNode if run.state is JobState.DONE else None

    def startSimulation(self, inputVolume, request=None, onChanged=None, **changes):
        """Start to simulate a scan of a CT in the background and return the run's handle, whose scanNode it becomes. For the arguments see
        `start`."""
        request = replace(request or Request(), **changes, source=Source.SIMULATE)
        self._check(request, inputVolume)
        return self._start(lambda folder: self._newSimulation(folder, request, inputVolume, onChanged))

    def simulate(self, inputVolume, request=None, onChanged=None, **changes):
        """Simulate a scan of a CT, wait for it, and return its node, which may have been there already; None if it was cancelled.

        :raises RuntimeError: if the simulation failed.
        """
        found = self.findScan(inputVolume, replace(request or Request(), **changes))
        return found or self._wait(self.startSimulation(inputVolume, request, onChanged, **changes)).scanNode

    def findScan(self, inputVolume, request):
        """The scan of the scene that `request` would simulate again; None if there is none."""
        self._check(replace(request, source=Source.SIMULATE), inputVolume)
        return findSimulated(_simulationText(request, inputVolume))

    def loadScan(self, path):
        """Read a scan folder, or any file that a reader of the library recognises, into a new scan node.

        :raises ValueError: where it cannot be read, in one sentence.
        """
        return loadScan(path)

    def saveScan(self, scanVolume, folder):
        """Write a scan node to a scan folder, which other programs read.

        :raises ValueError: where the node's attributes were edited, or the folder cannot be written, in one sentence.
        """
        saveScan(scanVolume, folder)

    def stopAll(self, message):
        """Stop every run of this logic, put the scene back, delete the folders of its scans, and follow the scene no longer."""
        self.stopComparison(message)
        self.stopExamination(message)
        self.queue.stopAll(message)
        self.scanFolders.discard()
        self.companions.leave()

    def _check(self, request, inputVolume, scanVolume=None):
        valid, reason = request.isValid(inputVolume, scanVolume)
        if not valid:
            raise ValueError(reason)
        missing = dependencies.missing()
        if missing:
            raise ValueError(
                _(
                    "Python packages are missing ({names}): press Apply in the panel, or call setupPythonRequirements() of this logic."
                ).format(names=", ".join(missing))
            )

    def _start(self, newRun):
        if not any(run.active for run in self.queue.runs):
            self.scanFolders.discardUnused()
        folder = slicer.util.tempDirectory(key="SparseCTRecon-")
        try:
            run = newRun(folder)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.queue.add(run)
        return run

    def _wait(self, run):
        while run.active:
            slicer.app.processEvents()
            run.poll()
            time.sleep(0.01)
        if run.state is JobState.FAILED:
            raise RuntimeError(f"{run.error['message']} {run.error['next_step']}".strip())
        return run

    def _newRun(self, folder, request, nodes, outputVolume, onChanged):
        grid = gridOfResult(request, **nodes)
        scan, scanOutput = self._scan(folder, request, nodes["inputVolume"], nodes["scanVolume"])
        ct = self._ct(request, nodes["inputVolume"], nodes["scanVolume"])
        source = ct or (nodes["scanVolume"] if request.source is Source.SCENE else None)
        name = f"{source.GetName() if source else 'Scan'} {request.method}"

        def jobs():
            path, before = scan()
            job = request.reconstructJob(path, "../volume.nrrd", grid) | {"field_of_view": f"../{field_of_view.FILE}"}
            return [*before, (_("Reconstructing"), job)]

        return Run(
            folder,
            jobs,
            scene.OutputVolume(outputVolume, ct, name),
            self.newTransport,
            onChanged,
            scanOutput,
            Record(name, Settings(request, **nodes), ct, request.keepSnapshots),
        )

    def _newSimulation(self, folder, request, inputVolume, onChanged):
        scanOutput, job = self._simulation(folder, request, inputVolume)
        return Run(folder, [job], None, self.newTransport, onChanged, scanOutput)

    def _simulation(self, folder, request, inputVolume):
        """Where the simulated scan goes, and the job that makes it."""
        scene.exportVolume(inputVolume, f"{folder}/ct.nrrd")
        name = _("{name} scan, {views} views").format(name=inputVolume.GetName(), views=request.views)
        scanOutput = OutputScan(self.scanFolders, inputVolume, name, _simulationText(request, inputVolume))
        return scanOutput, (_("Simulating the scan"), request.simulateJob("../ct.nrrd", str(scanOutput.folder)))

    def _scan(self, folder, request, inputVolume, scanVolume):
        """What gives, when the run begins, the scan's path and the jobs that make it; and where a simulated one goes."""
        if request.source is Source.FOLDER:
            return lambda: (request.scanFolder, []), None
        text = _simulationText(request, inputVolume) if request.source is Source.SIMULATE else ""
        scanVolume = findSimulated(text) if text else scanVolume
        if scanVolume:
            path = str(self.scanFolders.folderOf(scanVolume))
            return lambda: (path, []), None
        scanOutput, job = self._simulation(folder, request, inputVolume)

        def scan():
            found = findSimulated(text)  # by a run that was before this one in the queue
            if found is None:
                return str(scanOutput.folder), [job]
            scanOutput.restore()
            return str(self.scanFolders.folderOf(found)), []

        return scan, scanOutput

    def _ct(self, request, inputVolume, scanVolume):
        """The CT that the scan is, or was, simulated from, as far as it is known."""
        if request.source is Source.SIMULATE:
            return inputVolume
        return ctOf(scanVolume) if request.source is Source.SCENE else None


def _simulationText(request, ct):
    """What a simulation is asked for, CT included, as a text that is another for another scan."""
    job = request.simulateJob("", "")
    voxels = hashlib.blake2b(slicer.util.arrayFromVolume(ct).data, digest_size=16).hexdigest()
    # To a micrometre or so: a scene that is saved and opened again does not keep the last digits.
    grid = {key: [round(value, 5) for value in values] for key, values in scene.gridOf(ct).items()}
    return json.dumps(job | {"ct": voxels, "grid": grid}, sort_keys=True)


def stopAtQuit(logic):
    """Stop the logic's runs when the application quits; return what undoes this."""

    def stop():
        if logic.queue.running:
            logging.warning("SparseCTRecon: Slicer was closed, the reconstruction was stopped.")
        logic.stopAll(_("Slicer was closed: the reconstruction was stopped."))

    slicer.app.connect("aboutToQuit()", stop)

    def undo():
        with suppress(Exception):
            slicer.app.disconnect("aboutToQuit()", stop)

    return undo
