"""The section "Reconstruction": the method with its options, and what it will take on this machine."""

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from . import estimate, method_options
from .catalogue import describe, missingWeights, needs, presetValues
from .devices import Devices
from .evidence import recommendation
from .options_form import OptionsForm
from .parameters import DEVICES
from .request import Request, Source
from .section import Section
from .target import placeRegion, planOf

LARGEST_VOXELS = 20
"""Edge in mm that the panel takes."""
STILL_MS = 200
"""After a region has not moved for so long, what follows from it is shown."""


class MethodSection(Section):
    """How the volume is found from the projections."""

    uiFile = "MethodSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self.devices = Devices(self._onDevices)
        self.form = OptionsForm(ui.basicOptionsWidget.layout(), ui.advancedOptionsButton.layout(), self.onOptionChanged)
        self._advice = None
        self._region = None
        self._still = qt.QTimer()
        self._still.setSingleShot(True)
        self._still.setInterval(STILL_MS)
        self._still.connect("timeout()", self.panel.update)
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onRegionAdded)
        ui.methodPresetComboBox.connect("currentIndexChanged(int)", self.onPresetChanged)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChanged)
        ui.resetOptionsButton.connect("clicked(bool)", self.onReset)
        ui.citeButton.connect("clicked(bool)", self.onCite)
        ui.adviceButton.connect("clicked(bool)", self.onAdvice)
        self._listDevices()
        self.devices.look()

    def cleanup(self):
        self.devices.stop()
        self._still.stop()
        self._observeRegion(None)

    def onPresetChanged(self, index):
        """Take the preset and let go of what was set beside it."""
        if self.parameters and index >= 0:
            with slicer.util.NodeModify(self.parameters.parameterNode):
                self.parameters.methodPreset = list(describe(self.parameters.method)["presets"])[index]
                self._keepOptions({})

    def onOptionChanged(self, name, value):
        """Keep an option that the user has changed, as long as it is not the preset's."""
        parameters = self.parameters
        if parameters:
            values = method_options.read(parameters.methodOptions, parameters.method) | {name: value}
            self._keepOptions(method_options.changed(parameters.method, parameters.methodPreset, values))

    def onDeviceChanged(self, index):
        if self.parameters and index >= 0:
            self.parameters.device = DEVICES[index]

    def onRegionAdded(self, node):
        """A new region begins in the middle of the volume."""
        parameters = self.parameters
        if parameters:
            placeRegion(node, Request.fromParameterNode(parameters), parameters.inputVolume, parameters.scanVolume)

    def onReset(self):
        if self.parameters:
            self._keepOptions({})

    def onCite(self):
        """Copy the publication of the method to the clipboard."""
        if self.parameters:
            slicer.app.clipboard().setText(describe(self.parameters.method)["citation"])
            slicer.util.showStatusMessage(_("The citation is on the clipboard."), 3000)

    def onAdvice(self):
        """Do what the advice offers."""
        if self.parameters and self._advice:
            name, value = self._advice
            setattr(self.parameters, name, value)

    def update(self):
        parameters, ui = self.parameters, self.ui
        ui.voxelSizeSpinBox.specialValueText = _("as the CT") if parameters.source is Source.SIMULATE else _("automatic")
        about = describe(parameters.method)
        ui.methodSummaryLabel.text = f"{about['title']}: {about['summary']}"
        ui.methodSummaryLabel.toolTip = about["citation"]
        ui.methodNeedsLabel.text = needs(parameters.method, self.devices.gpus)
        self._observeRegion(parameters.region)
        self._showOptions(about)
        said = recommendation(Request.fromParameterNode(parameters))
        ui.evidenceLabel.text = said
        ui.evidenceLabel.setVisible(bool(said))
        self._showDevice()
        self._showEstimate(about)

    def coarser(self):
        """The voxel size in mm with which the present settings fit into the memory; None where that is not known or they fit."""
        parameters = self.parameters
        plan = parameters and self._plan()
        if not plan:
            return None
        device = self.devices.chosen(parameters.device, describe(parameters.method))
        return estimate.coarserVoxels(plan, self.devices.freeBytes(device))

    def _plan(self):
        parameters = self.parameters
        return planOf(Request.fromParameterNode(parameters), parameters.inputVolume, parameters.scanVolume, parameters.region)

    def _observeRegion(self, node):
        """Follow the region as it is moved: no parameter changes then."""
        if node is self._region:
            return
        events = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
        for event in events:
            if self._region:
                self.panel.removeObserver(self._region, event, self._onRegionMoved)
            if node:
                self.panel.addObserver(node, event, self._onRegionMoved)
        self._region = node

    def _onRegionMoved(self, caller=None, event=None):
        self._still.start()

    def _keepOptions(self, values):
        self.parameters.methodOptions = method_options.write(self.parameters.methodOptions, self.parameters.method, values)

    def _showOptions(self, about):
        """Show the presets and the options; a preset of another method is forgotten."""
        parameters, ui, names = self.parameters, self.ui, list(about["presets"])
        if parameters.methodPreset not in ("", *names):
            parameters.methodPreset = ""
        _fill(ui.methodPresetComboBox, names, max(0, names.index(parameters.methodPreset) if parameters.methodPreset else 0))
        changed = method_options.read(parameters.methodOptions, parameters.method)
        values = presetValues(parameters.method, parameters.methodPreset) | changed
        self.form.show(parameters.method, about["options"], values)
        ui.resetOptionsButton.setEnabled(bool(changed))
        advanced = [option["name"] for option in about["options"] if option["advanced"]]
        ui.advancedOptionsButton.setVisible(bool(advanced))
        n = len(set(advanced) & set(changed))
        ui.advancedOptionsButton.text = _("Advanced ({n} changed)").format(n=n) if n else _("Advanced")

    def _onDevices(self):
        self._listDevices()
        if self.parameters:
            self.update()

    def _listDevices(self):
        names = [self.devices.label(device) for device in DEVICES]
        _fill(self.ui.deviceComboBox, names, self.ui.deviceComboBox.currentIndex)

    def _showDevice(self):
        combo = self.ui.deviceComboBox
        blocked = combo.blockSignals(True)
        combo.setCurrentIndex(DEVICES.index(self.parameters.device))
        combo.blockSignals(blocked)

    def _showEstimate(self, about):
        """Say what it will take, what stands against it, and offer a way out."""
        parameters, ui = self.parameters, self.ui
        plan = self._plan()
        device = self.devices.chosen(parameters.device, about)
        free = self.devices.freeBytes(device)
        isOnDisk = parameters.source is Source.FOLDER
        unknown = _("Not known for a scan on disk: load it into the scene.") if isOnDisk else ""
        ui.estimateLabel.text = estimate.sentence(plan, device, free) if plan else unknown
        for widget in (ui.estimateLabel, ui.estimateTitleLabel):
            widget.setVisible(plan is not None or isOnDisk)
        advice = self._objections(plan, about, free)
        text, button, self._advice = advice or ("", "", None)
        ui.adviceLabel.text, ui.adviceButton.text = text, button
        ui.adviceButton.setVisible(bool(button))
        ui.adviceWidget.setVisible(bool(text))

    def _objections(self, plan, about, free):
        """(Sentence, text of the button, (parameter, value)) of the first thing that stands against the settings; None if nothing does."""
        parameters = self.parameters
        if objection := self.devices.objection(parameters.device, about):
            return objection, _("Use the CPU"), ("device", "cpu")
        if plan and free is not None and estimate.neededBytes(plan) > free:
            size = estimate.coarserVoxels(plan, free)
            sentence = _("This will not fit into the memory that is free.")
            if size is None or size > LARGEST_VOXELS:
                return sentence, "", None
            return sentence, _("Use {n:g} mm voxels").format(n=size), ("voxelSize", size)
        if missingWeights(parameters.method):
            return _("Pretrained weights are missing: without them the result is worse, or the method stops."), "", None
        if parameters.region and parameters.method != "fdk":
            sentence = _("{method} needs all that attenuates the rays within the region: what lies beyond it will show as bright rims.")
            return sentence.format(method=about["title"]), _("Use FDK"), ("method", "fdk")
        return None


def _fill(combo, names, index):
    """Give a combo box its items and its current one, without telling anyone."""
    blocked = combo.blockSignals(True)
    if [combo.itemText(i) for i in range(combo.count)] != names:
        combo.clear()
        combo.addItems(names)
    combo.setCurrentIndex(max(0, index))
    combo.blockSignals(blocked)
