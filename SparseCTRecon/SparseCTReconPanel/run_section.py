"""The section with the result's node, Apply, the progress and the log."""

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from .request import Request
from .section import Section


class RunSection(Section):
    """Starts a reconstruction, cancels it, and shows how far it is."""

    uiFile = "RunSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self._showRun()

    def onApplyButton(self):
        """Start a reconstruction, or cancel the one that runs."""
        if self.panel.run and self.panel.run.active:
            self.panel.run.cancel()
            return
        try:
            self._start()
        except Exception as error:
            showError(str(error), "")

    def _start(self):
        logic, parameters = self.panel.logic, self.parameters
        if not logic.setupPythonRequirements():
            raise RuntimeError(_("The Python packages that the reconstruction needs were not installed."))
        self.ui.logText.clear()
        request = Request.fromParameterNode(parameters)
        logic.start(parameters.inputVolume, parameters.outputVolume, request, self.panel.onRunChanged, parameters.scanVolume)

    def onRunChanged(self, run):
        for line in run.takeLog():
            self.ui.logText.appendPlainText(line)
        self._showRun()
        self._checkCanApply()
        if run.state is JobState.FAILED:
            showError(f"{run.error['message']} {run.error['next_step']}".strip(), run.error["details"])

    def update(self):
        self._checkCanApply()

    def _showRun(self):
        run = self.panel.run
        active = bool(run and run.active)
        fraction, remaining = run.progress if active else (None, None)
        bar = self.ui.progressBar
        bar.setVisible(active)
        bar.setRange(0, 0 if active and fraction is None else 100)
        bar.setValue(round(100 * fraction) if fraction is not None else 0)
        message = run.message if run else ""
        self.ui.statusLabel.text = f"{message} - {timeLeft(remaining)}" if active and remaining is not None else message
        self.ui.statusLabel.setVisible(bool(message))

    def _checkCanApply(self):
        button = self.ui.applyButton
        if self.panel.run and self.panel.run.active:
            cancelling = self.panel.run.state is not JobState.RUNNING
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("The worker is asked to stop; the scene stays as it was.")
            return
        button.text = _("Apply")
        if not self.parameters:
            return
        valid, reason = Request.fromParameterNode(self.parameters).isValid(self.parameters.inputVolume, self.parameters.scanVolume)
        button.enabled = valid
        button.toolTip = _("Reconstruct a volume in a background process.") if valid else reason


def showError(sentence, details):
    slicer.util.errorDisplay(sentence, windowTitle=_("SparseCTRecon"), detailedText=details)


def timeLeft(seconds):
    """Remaining time as a person says it."""
    if seconds < 90:
        return _("about {n} s left").format(n=max(1, round(seconds)))
    return _("about {n} min left").format(n=round(seconds / 60))
