"""A comparison in a worker: the volumes out, the figures as tables into the scene."""

import itertools
import json
import shutil
import traceback
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import Job, JobState

from .compare_export import fileName
from .compare_tables import makeTables
from .placement import exportInWorld, hasVoxels
from .request import writeJob

POLL_INTERVAL_MS = 100
RESULT_FOLDER, VOLUME_FOLDER = "comparison", "volumes"


class ComparisonRun:
    """Handle of a running comparison.

    Parameters
    ----------
    folder : str
        The run's own folder; what was found stays there until `discard`.
    comparison : Comparison
        What is asked.
    referenceNode, resultNodes : vtkMRMLScalarVolumeNode, list of them
        Held by their IDs.
    transport : Transport
        Runs the worker.
    onChanged : callable, optional
        Called with this run whenever there is something new.
    scan : str, optional
        Path of the results' scan: organs that its field of view cuts are marked.

    Attributes
    ----------
    state : JobState
        Running, Cancelling or Importing; at the end Done, Failed or Cancelled.
    error : dict or None
        code, message, next_step, details of a run that failed.
    message : str
        What is going on, or how it ended, for the user.
    figures : dict or None
        The content of comparison.json.
    tables : dict of str to str
        IDs of the table nodes by their kind.
    """

    def __init__(self, folder, comparison, referenceNode, resultNodes, transport, onChanged=None, scan=None):
        self.folder = Path(folder)
        self.comparison = comparison
        self.state = JobState.IDLE
        self.error = None
        self.message = ""
        self.figures = None
        self.tables = {}
        self._referenceID = referenceNode.GetID()
        self._resultIDs = [node.GetID() for node in resultNodes]
        self._referenceName = referenceNode.GetName()
        self._names = _uniqueNames([node.GetName() for node in resultNodes], self._referenceName)
        self._toExport = [(self._referenceID, self._referenceName), *zip(self._resultIDs, self._names)]
        self._scan = scan
        self._onChanged = onChanged or (lambda run: None)
        self._job = Job(transport, self._onEvent, self._importResult)
        self._warnings = []
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)
        self._sceneTag = None

    @property
    def active(self):
        return self.state.active

    @property
    def progress(self):
        """Fraction done (None while unknown) and the seconds left (None while unknown)."""
        progress = self._job.progress or {}
        return progress.get("fraction"), progress.get("remaining_s")

    @property
    def tableNodes(self):
        """The tables that are still in the scene, by their kind."""
        found = {kind: slicer.mrmlScene.GetNodeByID(nodeID) for kind, nodeID in self.tables.items()}
        return {kind: node for kind, node in found.items() if node}

    @property
    def reportFile(self):
        return self._file("report.html")

    @property
    def csvFile(self):
        return self._file("comparison.csv")

    def labelFiles(self):
        """Files of labels that the segmenter has made, by the name of the volume."""
        found = {result["name"]: result.get("labels") for result in (self.figures or {}).get("results", [])}
        reference = self._file("labels/reference.nii.gz")
        paths = {name: self.folder / RESULT_FOLDER / path for name, path in found.items() if path}
        if reference and paths:
            paths = {self._referenceName: reference, **paths}
        return {name: path for name, path in paths.items() if path.exists()}

    def nodeOf(self, name):
        """The volume node that the comparison calls `name`; None once it has been deleted."""
        ids = dict(zip(self._names, self._resultIDs))
        return slicer.mrmlScene.GetNodeByID(ids.get(name) or self._referenceID)

    def start(self):
        self.state = JobState.RUNNING
        self.message = _("Handing the volumes over")
        self._sceneTag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, self._onSceneClose)
        self._timer.start()
        self._onChanged(self)
        return self

    def cancel(self):
        """Ask the worker to stop; what it has found so far is given up."""
        if self.state is not JobState.RUNNING:
            return
        if self._toExport:
            self._end(JobState.CANCELLED, _("Cancelled."))
            return
        self.state = JobState.CANCELLING
        self.message = _("Cancelling...")
        self._job.cancel()
        self._onChanged(self)

    def stop(self, message):
        """End the worker now; `message` says why."""
        if self.active:
            self._job.kill()
            self._end(JobState.CANCELLED, message)

    def discard(self):
        """Delete the files of a comparison that has ended."""
        if not self.active:
            shutil.rmtree(self.folder, ignore_errors=True)

    def poll(self):
        """Go on; the run's timer calls this, and whoever waits without an event loop may."""
        if not self.active:
            return
        try:
            if self._toExport:
                self._exportNext()
                return
            events = self._job.poll()
            if not self._job.active:
                self._jobEnded()
        except Exception as error:
            if not self.active:
                raise
            self._fail(error)
            return
        if events and self.active:
            self._onChanged(self)

    def _exportNext(self):
        nodeID, name = self._toExport[0]
        node = slicer.mrmlScene.GetNodeByID(nodeID)
        if not hasVoxels(node):
            raise ValueError(_("{name} was deleted: the comparison was stopped.").format(name=name))
        path = self.folder / self._fileOf(nodeID, name)
        path.parent.mkdir(parents=True)
        exportInWorld(node, path)
        del self._toExport[0]
        if not self._toExport:
            results = {name: f"../{self._fileOf(nodeID, name)}" for name, nodeID in zip(self._names, self._resultIDs)}
            reference = self._referenceName, f"../{self._fileOf(self._referenceID, self._referenceName)}"
            job = self.comparison.job(reference, results, f"../{RESULT_FOLDER}")
            self._job.start(writeJob(job | {"scan": self._scan}, self.folder / "job"))
            if not self._job.active:
                self._jobEnded()

    def _fileOf(self, nodeID, name):
        """Where a volume is handed over: the report shows the file's name. In ASCII, which readers take on every system."""
        number = 0 if nodeID == self._referenceID else 1 + self._resultIDs.index(nodeID)
        stem = "".join(letter if letter.isascii() else "_" for letter in fileName(name))
        return f"{VOLUME_FOLDER}/{number}/{stem}.nrrd"

    def _file(self, name):
        path = self.folder / RESULT_FOLDER / name
        return path if self.state is JobState.DONE and path.exists() else None

    def _jobEnded(self):
        if self._job.state is JobState.FAILED:
            self.error = self._job.error
            self._end(JobState.FAILED, f"{self.error['message']} {self.error['next_step']}".strip())
        elif self._job.state is JobState.CANCELLED or self.state is JobState.CANCELLING:
            self._end(JobState.CANCELLED, _("Cancelled."))
        else:
            self._end(JobState.DONE, "\n".join([_("Compared."), *self._warned()]))

    def _fail(self, error):
        self._job.kill()
        self.error = {"code": "panel", "message": str(error), "next_step": "", "details": traceback.format_exc()}
        self._end(JobState.FAILED, str(error))

    def _end(self, state, message):
        self._timer.stop()
        slicer.mrmlScene.RemoveObserver(self._sceneTag)
        self.state, self.message = state, message
        shutil.rmtree(self.folder / VOLUME_FOLDER, ignore_errors=True)
        if state is not JobState.DONE:
            self.discard()
        self._onChanged(self)

    def _onEvent(self, event):
        kind = event["event"]
        if kind == "stage" and self.state is JobState.RUNNING:
            self.message = _("Comparing: {stage}").format(stage=event.get("name", ""))
        elif kind == "warning":
            self._warnings.append(event.get("message", "").rstrip("."))

    def _warned(self):
        """The warnings as sentences; one that several results share is said once."""
        shared = {}
        for message in self._warnings:
            name = next((name for name in self._names if message.startswith(f"{name}: ")), None)
            shared.setdefault(message[len(name) + 2 :] if name else message, []).append(name)
        for message, names in shared.items():
            about = ", ".join(filter(None, names))
            yield _("Warning: {message}.").format(message=f"{about}: {message}" if about else message)

    def _importResult(self, event):
        if self.state is JobState.CANCELLING:
            return
        self.state = JobState.IMPORTING
        file = self.folder / RESULT_FOLDER / "comparison.json"
        self.figures = json.loads(file.read_text(encoding="utf-8"))
        tables = makeTables(self.figures, slicer.mrmlScene.GetNodeByID(self._referenceID))
        self.tables = {kind: node.GetID() for kind, node in tables.items()}

    def _onSceneClose(self, caller=None, event=None):
        self.stop(_("The scene was closed: the comparison was stopped."))


def _uniqueNames(names, taken):
    """The names, numbered where a volume before has the same, or `taken` is it."""
    found = [taken]
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        found.append(next(one for one in itertools.chain([name], numbered) if one not in found))
    return found[1:]
