"""The section "Reconstruction": the method, its presets, and what the evidence says of it."""

from slicer.i18n import tr as _

from .catalogue import describe
from .evidence import recommendation
from .request import Request, Source
from .section import Section


class MethodSection(Section):
    """How the volume is found from the projections."""

    uiFile = "MethodSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        self.ui.methodPresetComboBox.connect("currentTextChanged(QString)", self.onPresetChanged)

    def onPresetChanged(self, name):
        if self.parameters:
            self.parameters.methodPreset = name

    def update(self):
        parameters, ui = self.parameters, self.ui
        ui.voxelSizeSpinBox.specialValueText = _("as the CT") if parameters.source is Source.SIMULATE else _("automatic")
        about = describe(parameters.method)
        ui.methodSummaryLabel.text = about.get("summary", "")
        ui.methodSummaryLabel.toolTip = about.get("citation", "")
        self._showPresets(about.get("presets", []))
        said = recommendation(Request.fromParameterNode(parameters))
        ui.evidenceLabel.text = said
        ui.evidenceLabel.setVisible(bool(said))

    def _showPresets(self, names):
        """Offer the method's presets where it has more than one; a preset of another method is forgotten."""
        parameters, combo = self.parameters, self.ui.methodPresetComboBox
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
