"""What runs of a worker have in common that take volumes of the scene: the volumes out, the job, what came of it into the scene."""

import shutil
import traceback
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import Job, JobState

from .compare_export import fileName
from .placement import exportInWorld, hasVoxels
from .request import writeJob

POLL_INTERVAL_MS = 100
VOLUME_FOLDER = "volumes"


class VolumesRun:
    """Handle of a run; a subclass says what the job is, and takes over what came of it.

    Parameters
    ----------
    folder : str
        The run's own folder; what was found stays there until `discard`.
    volumes : list of (vtkMRMLScalarVolumeNode, str)
        What is handed over, under the names that files take; held by their IDs.
    transport : Transport
        Runs the worker.
    onChanged : callable, optional
        Called with this run whenever there is something new.

    Attributes
    ----------
    state : JobState
        Running, Cancelling or Importing; at the end Done, Failed or Cancelled.
    error : dict or None
        code, message, next_step, details of a run that failed.
    message : str
        What is going on, or how it ended, for the user.
    """

    resultFolder = ""
    """Name of the folder, within the run's own, where the worker leaves what it finds."""

    def __init__(self, folder, volumes, transport, onChanged=None):
        self.folder = Path(folder)
        self.state = JobState.IDLE
        self.error = None
        self.message = ""
        self._volumes = [(node.GetID(), name) for node, name in volumes]
        self._toExport = list(enumerate(self._volumes))
        self._onChanged = onChanged or (lambda run: None)
        self._job = Job(transport, self._onEvent, self._importResult)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)
        self._sceneTag = None

    def jobOf(self, files):
        """The job as JSON values, for the files of the volumes, relative to the job's folder."""
        raise NotImplementedError

    def export(self, node, path):
        """Write a volume: at its place in the world, so that all fit each other."""
        exportInWorld(node, path)

    def sentences(self):
        """What is said when it is done, a sentence for each line."""
        raise NotImplementedError

    def working(self, stage):
        """What is said at a stage of the worker's."""
        raise NotImplementedError

    def take(self):
        """Take what came of it over into the scene."""
        raise NotImplementedError

    def warn(self, message):
        """The worker warns."""

    @property
    def active(self):
        return self.state.active

    @property
    def progress(self):
        """Fraction done (None while unknown) and the seconds left (None while unknown)."""
        progress = self._job.progress or {}
        return progress.get("fraction"), progress.get("remaining_s")

    def resultFile(self, name):
        """A file that the worker has left; None before the end, and where it is not there."""
        path = self.folder / self.resultFolder / name
        return path if self.state is JobState.DONE and path.exists() else None

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
        """Delete the files of a run that has ended."""
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
        number, (nodeID, name) = self._toExport[0]
        node = slicer.mrmlScene.GetNodeByID(nodeID)
        if not hasVoxels(node):
            raise ValueError(self.deleted(name))
        path = self.folder / self._fileOf(number, name)
        path.parent.mkdir(parents=True)
        self.export(node, path)
        del self._toExport[0]
        if not self._toExport:
            files = [f"../{self._fileOf(number, name)}" for number, (_nodeID, name) in enumerate(self._volumes)]
            self._job.start(writeJob(self.jobOf(files) | {"output": f"../{self.resultFolder}"}, self.folder / "job"))
            if not self._job.active:
                self._jobEnded()

    def deleted(self, name):
        """What is said where a volume was deleted before it was handed over."""
        raise NotImplementedError

    def _fileOf(self, number, name):
        """Where a volume is handed over: the report shows the file's name. In ASCII, which readers take on every system."""
        stem = "".join(letter if letter.isascii() else "_" for letter in fileName(name))
        return f"{VOLUME_FOLDER}/{number}/{stem}.nrrd"

    def _jobEnded(self):
        if self._job.state is JobState.FAILED:
            self.error = self._job.error
            self._end(JobState.FAILED, f"{self.error['message']} {self.error['next_step']}".strip())
        elif self._job.state is JobState.CANCELLED or self.state is JobState.CANCELLING:
            self._end(JobState.CANCELLED, _("Cancelled."))
        else:
            self._end(JobState.DONE, "\n".join(self.sentences()))

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
            self.message = self.working(event.get("name", ""))
        elif kind == "warning":
            self.warn(event.get("message", "").rstrip("."))

    def _importResult(self, event):
        if self.state is JobState.CANCELLING:
            return
        self.state = JobState.IMPORTING
        self.take()

    def _onSceneClose(self, caller=None, event=None):
        self.stop(self.closed())

    def closed(self):
        """What is said where the scene was closed while it ran."""
        raise NotImplementedError
