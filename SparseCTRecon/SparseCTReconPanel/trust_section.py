"""The section "Trust": what the measurements support of a result, as overlays in the slice views."""

import shutil

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import trust_maps
from .candidates import candidates, isResult
from .run_section import timeLeft
from .section import Section


class TrustSection(Section):
    """Chooses a result, starts its examination, lays the maps over it."""

    uiFile = "TrustSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self.examination = None
        self._filling = False
        ui.trustButton.connect("clicked(bool)", lambda checked=False: self.onTrustButton())
        ui.trustReportButton.connect("clicked(bool)", lambda checked=False: self.onReportButton())
        ui.trustResultSelector.connect("currentIndexChanged(int)", lambda index: self._showAll())
        ui.trustMapSelector.connect("currentIndexChanged(int)", lambda index: self.onMap())
        scene = slicer.mrmlScene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndCloseEvent)
        self._sceneTags = [scene.AddObserver(event, lambda *_arguments: self._refreshing.start()) for event in events]
        self._refreshing = qt.QTimer()
        self._refreshing.setSingleShot(True)
        self._refreshing.setInterval(0)
        self._refreshing.connect("timeout()", self.refresh)
        self.refresh()

    @property
    def result(self):
        """The result that is chosen; None where there is none."""
        nodeID = self.ui.trustResultSelector.currentData
        return slicer.mrmlScene.GetNodeByID(nodeID) if nodeID else None

    def cleanup(self):
        self._refreshing.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []

    def onRunChanged(self, run):
        if not run.active:
            self.refresh()

    def refresh(self):
        """List the results of the scene, the newest first; what was chosen stays chosen."""
        selector, chosen = self.ui.trustResultSelector, self.ui.trustResultSelector.currentData
        nodes = [node for node in candidates() if isResult(node)]
        self._filling = True
        selector.clear()
        for node in nodes:
            selector.addItem(node.GetName(), node.GetID())
        ids = [node.GetID() for node in nodes]
        selector.setCurrentIndex(ids.index(chosen) if chosen in ids else 0 if ids else -1)
        self._filling = False
        if self.examination and self.examination.state is JobState.DONE and not self.examination.resultNode:
            self.examination = None  # what was said of a result that has been deleted goes with it
        self._showAll()

    def onTrustButton(self):
        """Examine the chosen result; pressed again, cancel that."""
        if self.examination and self.examination.active:
            self.examination.cancel()
            return
        try:
            if not self.panel.logic.setupPythonRequirements():
                raise RuntimeError(_("The Python packages that this needs were not installed."))
            self.panel.logic.startExamination(self.result, self.onExaminationChanged, self.ui.trustSizeSpinBox.value)
        except Exception as error:
            self._say(str(error))

    def onExaminationChanged(self, run):
        """Called by an examination whenever there is something new."""
        self.examination = run
        self._showAll()
        if run.state is JobState.DONE:
            self.ui.trustMapSelector.setCurrentIndex(1)
            self.onMap()

    def onMap(self):
        """Lay the chosen map over the result in the slice views."""
        run = self.examination
        if self._filling or not run or run.active or not run.resultNode:
            return
        trust_maps.show(run.resultNode, run.mapNodes.get(self.ui.trustMapSelector.currentData))

    def onReportButton(self):
        """Ask for a file and write the report of the last examination to it."""
        path = qt.QFileDialog.getSaveFileName(self.widget, _("Write the report"), "trust.html", _("Report (*.html)"))
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.saveReport(path)

    def saveReport(self, path):
        """Write the report of the last examination to a file."""
        try:
            shutil.copyfile(self.examination.reportFile, path)
            self._say(_("Written to {path}.").format(path=path))
        except OSError as error:
            self._say(_("{path} could not be written: {error}").format(path=path, error=error.strerror or error))

    def _say(self, sentence, details=""):
        self.ui.trustStatusLabel.text = sentence
        self.ui.trustStatusLabel.toolTip = details
        self.ui.trustStatusLabel.setVisible(bool(sentence))

    def _showAll(self):
        if self._filling:
            return
        run, bar = self.examination, self.ui.trustProgressBar
        active = bool(run and run.active)
        fraction, remaining = run.progress if active else (None, None)
        bar.setVisible(active)
        bar.setRange(0, 0 if fraction is None else 100)
        bar.setValue(round(100 * (fraction or 0)))
        message = run.message if run else ""
        self._say(message if remaining is None else f"{message} - {timeLeft(remaining)}", run.error["details"] if run and run.error else "")
        self.ui.trustReportButton.setEnabled(bool(run and run.reportFile))
        self._offerMaps()
        self._showButton(active)

    def _offerMaps(self):
        run, selector = self.examination, self.ui.trustMapSelector
        names = list(run.mapNodes) if run and not run.active else []
        if names == [selector.itemData(n) for n in range(1, selector.count)]:
            return
        blocked = selector.blockSignals(True)
        selector.clear()
        if names:
            selector.addItem(_("nothing"), "")
        for name in names:
            selector.addItem(trust_maps.title(name), name)
        selector.blockSignals(blocked)
        selector.setEnabled(bool(names))

    def _showButton(self, active):
        button, logic = self.ui.trustButton, self.panel.logic
        if active:
            cancelling = self.examination.state is not JobState.RUNNING
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("The worker is asked to stop; what it has found so far is given up.")
            return
        valid, reason = logic.canBeExamined(self.result) if logic else (False, "")
        button.text, button.enabled = _("Examine"), valid
        button.toolTip = _("What do the measurements support? In a background process; some minutes.") if valid else reason
