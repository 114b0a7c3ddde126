"""A run: the jobs from a CT or a scan to a volume in the scene, one after the other, and the scene as it was if they do not end well."""

import shutil
import time
import traceback
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import Job, JobState
from SparseCTReconLib.jobs.failures import explain

from . import field_of_view, trust_maps
from .nrrd import readNrrd
from .previews import Previews
from .request import writeJob

POLL_INTERVAL_MS = 100
FLUSH_S = 0.5
MAKE_SCANS = ("simulate", "correct", "calibrate")
"""Tasks whose end the run's `scanOutput` is told of."""


class Run:
    """Handle of a running reconstruction.

    Parameters
    ----------
    folder : str
        The run's own folder for exchange with the workers.
    jobs : list of (str, dict), or callable
        What is to be done, in order: a title for the user and a job.json; the last one makes the volume. A callable gives the list when
        the run begins.
    output : OutputVolume or None
        Where the voxels go; None where a scan is all that is made.
    newTransport : callable
        Makes a transport for each job.
    onChanged : callable, optional
        Called with this run whenever there is something new.
    scanOutput : OutputScan or None
        Where the projections of a job that simulates or corrects go, or what takes note of an offset that was found.
    record : Record or None
        What is kept of the run beside the volume; None where there is no volume.

    Attributes
    ----------
    title : str
        What the run makes, for a list of runs.
    state : JobState
        Idle while it waits for its turn, then Running, Cancelling or Importing; at the end Done, Failed or Cancelled.
    onNews, onEnded : callable
        For whoever keeps the runs: called with this one whenever there is something new, and when it has ended.
    error : dict or None
        code, message, next_step, details of a run that failed.
    message : str
        What is going on, or how it ended, for the user.
    log : list of str
        What the workers have said since `takeLog` was last called.
    """

    def __init__(self, folder, jobs, output, newTransport, onChanged=None, scanOutput=None, record=None):
        self.folder = Path(folder)
        self.title = output.name if output else scanOutput.name
        self.onNews = self.onEnded = lambda run: None
        self.state = JobState.IDLE
        self.error = None
        self.message = ""
        self._jobs = jobs
        self._index = -1
        self._output = output
        self._scanOutput = scanOutput
        self._record = record
        self._newTransport = newTransport
        self._onChanged = onChanged or (lambda run: None)
        self._job = None
        self._stage = ""
        self._warnings = []
        self._log = []
        self._previews = Previews(output, record, lambda line: self._log.append(line))
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)
        self._sceneTag = None
        self._flushed = 0.0

    @property
    def waiting(self):
        """Whether it has not begun yet."""
        return self.state is JobState.IDLE

    @property
    def active(self):
        """Whether there is still something to wait for."""
        return self.waiting or self.state.active

    @property
    def outputNode(self):
        """The volume; None where there is none (yet)."""
        return self._output.node if self._output else None

    @property
    def scanNode(self):
        """The simulated projections; None where there are none (yet)."""
        return self._scanOutput.node if self._scanOutput else None

    @property
    def previews(self):
        """How many previews of the volume were shown."""
        return self._previews.count

    @property
    def charts(self):
        """A chart for each figure of the run, by name."""
        return self._record.charts if self._record else {}

    @property
    def workerPid(self):
        """Process ID of the present worker, once it has said it."""
        return self._job.pid if self._job else None

    @property
    def progress(self):
        """Fraction done of the present job (None while unknown) and the seconds left (None while unknown)."""
        progress = (self._job.progress if self._job else None) or {}
        return progress.get("fraction"), progress.get("remaining_s")

    def wait(self, message):
        """Wait for its turn; `message` says so."""
        self.message = message
        self._observeScene()
        self._tell()

    def start(self):
        self._observeScene()
        if self._output and self._output.deleted:
            self.stop(_("The output volume was deleted: nothing was reconstructed."))
            return self
        self.state = JobState.RUNNING
        self._timer.start()
        try:
            if self._output:
                self._output.begin()
            self._jobs = self._jobs() if callable(self._jobs) else self._jobs
            self._next()
        except Exception as error:
            self._fail(error)
        self._tell()
        return self

    def cancel(self):
        """Ask the worker to stop; the scene is put back when it has."""
        if self.waiting:
            self.stop(_("Cancelled."))
        elif self.state is JobState.RUNNING:
            self.state = JobState.CANCELLING
            self.message = _("Cancelling...")
            self._forgetPreviews()
            self._job.cancel()
            self._tell()

    def stop(self, message):
        """End the worker now and put the scene back; `message` says why."""
        if self.active:
            if self._job:
                self._job.kill()
            self._end(JobState.CANCELLED, message)

    def poll(self):
        """Take what the worker has said; the run's timer calls this, and whoever waits without an event loop may."""
        if not self.state.active:
            return
        if self._output and self._output.deleted:
            self.stop(_("The output volume was deleted: the reconstruction was stopped."))
            return
        try:
            if self._job.state is JobState.DONE:
                self._showPreviews()  # the last ones of what lies beside the volume
            events = self._job.poll()
            if self._job.state is JobState.RUNNING:
                self._showPreviews()
                self._flushCurves()
            elif not self._job.active and not (self._job.state is JobState.DONE and self._previews.pending):
                self._jobEnded()
        except Exception as error:
            if not self.active:
                raise
            self._fail(error)
            return
        if events and self.active:
            self._tell()

    def takeLog(self):
        """Return the new lines of the log and forget them."""
        lines, self._log = self._log, []
        return lines

    def _tell(self):
        self.onNews(self)
        self._onChanged(self)

    def _next(self):
        self._index += 1
        self._stage = ""
        self._forgetPreviews()
        title, values = self._jobs[self._index]
        self.message = title
        last = self._index == len(self._jobs) - 1
        self._job = Job(self._newTransport(), self._onEvent, self._importResult if last and self._output else None)
        self._job.start(writeJob(values, self.folder / f"job{self._index + 1}"))
        if not self._job.active:
            self._jobEnded()

    def _jobEnded(self):
        state = self._job.state
        if state is JobState.FAILED:
            self.error = self._job.error
            self._end(JobState.FAILED, self.error["message"])
        elif state is JobState.CANCELLED or self.state is JobState.CANCELLING:
            self._end(JobState.CANCELLED, _("Cancelled."))
        else:
            self._jobDone()

    def _jobDone(self):
        if self._scanOutput and self._jobs[self._index][1]["task"] in MAKE_SCANS:
            self._scanOutput.take()
        if self._index < len(self._jobs) - 1:
            self._next()
            return
        made = self.outputNode or self.scanNode
        ready = _("{name} is ready.").format(name=made.GetName()) if made else self._scanOutput.said
        self._end(JobState.DONE, " ".join([ready, *self._warnings]))

    def _fail(self, error):
        """End a run that this process, not the worker, could not go on with."""
        if self._job:
            self._job.kill()
        self.error = {**explain(error)._asdict(), "details": traceback.format_exc()}
        self._end(JobState.FAILED, self.error["message"])

    def _end(self, state, message):
        self._forgetPreviews()
        self._timer.stop()
        slicer.mrmlScene.RemoveObserver(self._sceneTag)
        self._sceneTag = None
        self.state, self.message = state, message
        if state is not JobState.DONE:
            for made in filter(None, (self._output, self._scanOutput, self._record, self._previews)):
                made.restore()
        elif self._output:
            self._output.keep()
            self._previews.keep()
        self._tidyUp()
        try:
            self._tell()
        finally:
            self.onEnded(self)

    def _tidyUp(self):
        """Leave the files of a run that failed, for a look at them, and of no other."""
        if self.state is JobState.FAILED:
            self._log.append(_("The files of this run are kept in {folder}").format(folder=self.folder))
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _onEvent(self, event):
        kind = event["event"]
        if kind == "preview":
            if self.state is JobState.RUNNING:
                self._previews.note(event)
        elif kind == "stage":
            title, self._stage = self._jobs[self._index][0], event.get("name", "")
            self._log.append(f"{title}: {self._stage}")
            if self.state is JobState.RUNNING:
                self.message = f"{title}: {self._stage}"
        elif kind == "metric" and self._record:
            self._record.note(event["step"], event["values"])
        elif kind == "started" and event.get("backend"):
            self._log.append(_("{method} on {device} ({backend})").format(**event))
        elif kind in ("log", "warning"):
            self._log.append(event.get("message", ""))
            if kind == "warning":
                self._warnings.append(_("Warning: {message}.").format(message=event.get("message", "").rstrip(".")))

    def _showPreviews(self):
        """Go on with handing previews over to the scene; large ones take several polls, which then follow at once."""
        self._timer.setInterval(0 if self._previews.handOver() else POLL_INTERVAL_MS)

    def _forgetPreviews(self):
        self._previews.forget()
        self._timer.setInterval(POLL_INTERVAL_MS)

    def _importResult(self, event):
        if self.state is JobState.CANCELLING:
            return
        self.state = JobState.IMPORTING
        self._previews.forgetResult()
        array, ijkToRas, attributes = readNrrd(event["path"])
        node = self._output.finish(array, ijkToRas, attributes)
        trust_maps.removeMaps(node)
        summary = event.get("summary", {})
        field_of_view.importFieldOfView(self.folder / field_of_view.FILE, node, summary.get("fov_fraction"))
        if step := summary.get("step"):
            self._record.measure(step, array, ijkToRas)
        self._record.finish(node)

    def _flushCurves(self):
        """Show the newest figures, now and then."""
        if self._record and time.monotonic() > self._flushed + FLUSH_S:
            self._record.flush()
            self._flushed = time.monotonic()

    def _observeScene(self):
        if self._sceneTag is None:
            self._sceneTag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, self._onSceneClose)

    def _onSceneClose(self, caller=None, event=None):
        self.stop(_("The scene was closed: the reconstruction was stopped."))
