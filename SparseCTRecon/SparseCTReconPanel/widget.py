"""The panel: asks, shows, and leaves the work to the logic."""

import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from SparseCTReconLib.jobs.client import JobState

from .catalogue import describe
from .evidence import recommendation
from .logic import SparseCTReconLogic, stopAtQuit
from .request import Request, Source


class SparseCTReconWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Uses ScriptedLoadableModuleWidget base class, available at:
    https://github.com/Slicer/Slicer/blob/main/Base/Python/slicer/ScriptedLoadableModule.py
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self.run = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._undoStopAtQuit = None

    def setup(self):
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SparseCTRecon.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = SparseCTReconLogic()
        self._undoStopAtQuit = stopAtQuit(self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.browseButton.connect("clicked(bool)", self.onBrowseButton)
        self.ui.methodPresetComboBox.connect("currentTextChanged(QString)", self.onPresetChanged)
        self.initializeParameterNode()
        self._showRun()

    def cleanup(self):
        """Called when the application closes and the module widget is destroyed."""
        if self.logic:
            self.logic.stopAll(_("The panel was closed: the reconstruction was stopped."))
            self._undoStopAtQuit()
            self.logic = None
        self.removeObservers()

    def onReload(self):
        """Reload the panel's own package too: Slicer reloads the module file only."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "SparseCTReconPanel"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def exit(self):
        """Called each time the user opens a different module; a reconstruction goes on."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        """Called just before the scene is closed."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Ensure parameter node exists and observed."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            firstVolumeNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if firstVolumeNode:
                self._parameterNode.inputVolume = firstVolumeNode

    def setParameterNode(self, inputParameterNode):
        """Set and observe parameter node."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
            self._update()

    def onBrowseButton(self):
        folder = qt.QFileDialog.getExistingDirectory(self.parent, _("Scan folder"), self.ui.scanFolderEdit.text)
        if folder:
            self.ui.scanFolderEdit.text = folder

    def onPresetChanged(self, name):
        if self._parameterNode:
            self._parameterNode.methodPreset = name

    def onApplyButton(self):
        """Start a reconstruction, or cancel the one that runs."""
        if self.run and self.run.active:
            self.run.cancel()
            return
        try:
            self._start()
        except Exception as error:
            self._showError(str(error), "")

    def _start(self):
        if not self.logic.setupPythonRequirements():
            raise RuntimeError(_("The Python packages that the reconstruction needs were not installed."))
        self.ui.logText.clear()
        parameters = self._parameterNode
        request = Request.fromParameterNode(parameters)
        self.run = self.logic.start(parameters.inputVolume, parameters.outputVolume, request, self.onRunChanged)

    def onRunChanged(self, run):
        """Called by the run whenever there is something new."""
        self.run = run
        for line in run.takeLog():
            self.ui.logText.appendPlainText(line)
        self._showRun()
        self._checkCanApply()
        if run.state is JobState.DONE and run.scanFolder and self._parameterNode:
            # Ready for another method on the very same projections.
            self._parameterNode.scanFolder = str(run.scanFolder)
        elif run.state is JobState.FAILED:
            self._showError(f"{run.error['message']} {run.error['next_step']}".strip(), run.error["details"])

    def _showRun(self):
        active = bool(self.run and self.run.active)
        fraction, remaining = self.run.progress if active else (None, None)
        bar = self.ui.progressBar
        bar.setVisible(active)
        bar.setRange(0, 0 if active and fraction is None else 100)
        bar.setValue(round(100 * fraction) if fraction is not None else 0)
        message = self.run.message if self.run else ""
        self.ui.statusLabel.text = f"{message} - {timeLeft(remaining)}" if active and remaining is not None else message
        self.ui.statusLabel.setVisible(bool(message))

    def _update(self, caller=None, event=None):
        parameters = self._parameterNode
        if not parameters:
            return
        simulated = parameters.source is Source.SIMULATE
        for widget in (self.ui.inputLabel, self.ui.inputSelector, self.ui.simulationButton):
            widget.setVisible(simulated)
        for widget in (self.ui.scanFolderLabel, self.ui.scanFolderEdit, self.ui.browseButton):
            widget.setVisible(not simulated)
        self.ui.voxelSizeSpinBox.specialValueText = _("as the CT") if simulated else _("automatic")
        about = describe(parameters.method)
        self.ui.methodSummaryLabel.text = about.get("summary", "")
        self.ui.methodSummaryLabel.toolTip = about.get("citation", "")
        self._showPresets(about.get("presets", []))
        said = recommendation(Request.fromParameterNode(parameters))
        self.ui.evidenceLabel.text = said
        self.ui.evidenceLabel.setVisible(bool(said))
        self._checkCanApply()

    def _showPresets(self, names):
        """Offer the method's presets where it has more than one; a preset of another method is forgotten."""
        parameters, combo = self._parameterNode, self.ui.methodPresetComboBox
        if parameters.methodPreset not in ("", *names):
            parameters.methodPreset = ""
        blocked = combo.blockSignals(True)
        if [combo.itemText(i) for i in range(combo.count)] != names:
            combo.clear()
            combo.addItems(names)
        combo.currentIndex = max(0, combo.findText(parameters.methodPreset))
        combo.blockSignals(blocked)
        for widget in (self.ui.methodPresetLabel, combo):
            widget.setVisible(len(names) > 1)

    def _checkCanApply(self):
        button = self.ui.applyButton
        if self.run and self.run.active:
            cancelling = self.run.state is not JobState.RUNNING
            button.text = _("Cancelling...") if cancelling else _("Cancel")
            button.enabled = not cancelling
            button.toolTip = _("The worker is asked to stop; the scene stays as it was.")
            return
        button.text = _("Apply")
        if not self._parameterNode:
            return
        valid, reason = Request.fromParameterNode(self._parameterNode).isValid(self._parameterNode.inputVolume)
        button.enabled = valid
        button.toolTip = _("Reconstruct a volume in a background process.") if valid else reason

    def _showError(self, sentence, details):
        slicer.util.errorDisplay(sentence, windowTitle=_("SparseCTRecon"), detailedText=details)


def timeLeft(seconds):
    """Remaining time as a person says it."""
    if seconds < 90:
        return _("about {n} s left").format(n=max(1, round(seconds)))
    return _("about {n} min left").format(n=round(seconds / 60))
