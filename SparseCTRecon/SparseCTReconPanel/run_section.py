"""The section with the result's node, Apply, the progress, the jobs and the log."""

import traceback

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import problems
from .estimate import duration
from .job_table import JobTable
from .method_section import MethodSection
from .request import Request
from .results import ResultBrowser
from .section import Section
from .target import gridOfResult


class RunSection(Section):
    """Starts reconstructions, cancels them, and shows how far they are."""

    uiFile = "RunSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self._problem = None
        self.jobs = JobTable(ui.queueTable, panel.logic.queue)
        self.results = ResultBrowser(ui, panel)
        panel.logic.queue.onChanged = self._onQueueChanged
        for button, slot in (
            (ui.applyButton, self.onApplyButton),
            (ui.queueButton, self.onQueueButton),
            (ui.problemActionButton, self.onProblemAction),
            (ui.problemDetailsButton, self.onProblemDetails),
            (ui.problemCloseButton, self.onProblemClose),
            (ui.copyLogButton, self.onCopyLog),
            (ui.saveLogButton, self.onSaveLog),
        ):
            button.connect("clicked(bool)", lambda checked=False, slot=slot: slot())
        self._showProblem(None)
        self._showRun()
        self._onQueueChanged()

    def cleanup(self):
        self.results.cleanup()

    def onApplyButton(self):
        """Start a reconstruction, or cancel the one that runs."""
        if self._running:
            self._running.cancel()
        else:
            self.ui.logText.clear()
            self.onQueueButton()

    def onQueueButton(self):
        """Start a reconstruction, or put it behind those that run."""
        self._showProblem(None)
        try:
            self._start()
        except Exception as error:
            self._showProblem(problems.ofError(error, traceback.format_exc()))

    def onProblemAction(self):
        """Do what helps against the problem that is shown."""
        action = self._problem.action
        if action == problems.COARSER:
            self.parameters.voxelSize = self._coarser()
        elif action == problems.CPU:
            self.parameters.device = "cpu"
        self._showProblem(None)
        if action == problems.RETRY:
            self.onQueueButton()

    def onProblemDetails(self):
        slicer.util.errorDisplay(self._problem.sentence, windowTitle=_("SparseCTRecon"), detailedText=self._problem.details)

    def onProblemClose(self):
        self._showProblem(None)

    def onCopyLog(self):
        slicer.app.clipboard().setText(self.ui.logText.plainText)

    def onSaveLog(self):
        path = qt.QFileDialog.getSaveFileName(self.widget, _("Save the log"), "SparseCTRecon.log", _("Log files (*.log *.txt)"))
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.saveLog(path)

    def saveLog(self, path):
        """Write the log to a text file."""
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.ui.logText.plainText + "\n")
        except OSError as error:
            self._showProblem(problems.ofError(error))

    def onRunChanged(self, run):
        for line in run.takeLog():
            self.ui.logText.appendPlainText(line)
        self._showRun()
        self._onQueueChanged()
        self.results.follow()
        if run.state is JobState.FAILED:
            self._showProblem(problems.ofRun(run, named=len(self.panel.logic.queue.runs) > 1))
        if run.state is JobState.DONE:
            self.results.show(run)

    def update(self):
        self._checkCanApply()
        self.results.update()

    @property
    def _running(self):
        return self.panel.logic.queue.running if self.panel.logic else None

    def _start(self):
        logic, parameters = self.panel.logic, self.parameters
        if not logic.setupPythonRequirements():
            raise RuntimeError(_("The Python packages that the reconstruction needs were not installed."))
        request = Request.fromParameterNode(parameters)
        logic.start(
            parameters.inputVolume,
            parameters.outputVolume,
            request,
            scanVolume=parameters.scanVolume,
            region=parameters.region,
        )

    def _coarser(self):
        """Voxels in mm that are coarser than those that did not fit."""
        found = self.panel.section(MethodSection).coarser()
        if found:
            return found
        parameters = self.parameters
        grid = gridOfResult(Request.fromParameterNode(parameters), parameters.inputVolume, parameters.scanVolume, parameters.region)
        return min(20.0, round(1.5 * (max(grid["spacing_mm"]) if grid else parameters.voxelSize or 1.0), 2))

    def _showProblem(self, problem):
        """Show what went wrong and what can be done; None: nothing did."""
        self._problem, ui = problem, self.ui
        ui.problemFrame.setVisible(problem is not None)
        if problem is None:
            return
        ui.problemLabel.text = problem.sentence
        ui.problemDetailsButton.setVisible(bool(problem.details))
        names = {problems.COARSER: _("Use coarser voxels"), problems.CPU: _("Use the CPU"), problems.RETRY: _("Retry")}
        ui.problemActionButton.text = names.get(problem.action, "")
        ui.problemActionButton.setVisible(problem.action in names)

    def _showRun(self):
        run = self._running or self.panel.run
        active = bool(run and run.state.active)
        fraction, remaining = run.progress if active else (None, None)
        bar = self.ui.progressBar
        bar.setVisible(active)
        bar.setRange(0, 0 if active and fraction is None else 100)
        bar.setValue(round(100 * fraction) if fraction is not None else 0)
        message = run.message if run and run.state is not JobState.FAILED else ""
        self.ui.statusLabel.text = f"{message} - {timeLeft(remaining)}" if active and remaining is not None else message
        self.ui.statusLabel.setVisible(bool(message))

    def _onQueueChanged(self):
        queue = self.panel.logic.queue
        self.jobs.show()
        self.ui.queueSectionButton.setVisible(len(queue.runs) > 1)
        waiting = len(queue.waiting)
        self.ui.queueSectionButton.text = _("Jobs ({n} waiting)").format(n=waiting) if waiting else _("Jobs")
        self._checkCanApply()

    def _checkCanApply(self):
        button, queueButton = self.ui.applyButton, self.ui.queueButton
        valid, reason = self._isValid()
        running = self._running
        queueButton.setVisible(running is not None)
        queueButton.enabled = valid
        queueButton.toolTip = _("Reconstruct with the present settings when the jobs before have ended.") if valid else reason
        if running:
            cancelling = running.state is not JobState.RUNNING
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("The worker is asked to stop; the scene stays as it was.")
            return
        button.text = _("Apply")
        button.enabled = valid
        button.toolTip = _("Reconstruct a volume in a background process.") if valid else reason

    def _isValid(self):
        """(True, "") or (False, why nothing can be started, in one sentence)."""
        parameters = self.parameters
        if not parameters:
            return False, _("No scene is open.")
        request = Request.fromParameterNode(parameters)
        valid, reason = request.isValid(parameters.inputVolume, parameters.scanVolume)
        if valid and parameters.region:
            try:
                gridOfResult(request, parameters.inputVolume, parameters.scanVolume, parameters.region)
            except ValueError as error:
                return False, str(error)
        return valid, reason


def timeLeft(seconds):
    """Remaining time as a person says it."""
    return _("about {time} left").format(time=duration(seconds))
