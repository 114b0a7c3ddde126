"""The section "Corrections": each off, on or measured, the detector's offset found and shown before it is used."""

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import dependencies
from .request import Source
from .scan_node import isScan
from .section import Section

OFF, ON, MEASURED = "off", "on", "measured"
OFFSET = "detector-offset"


class CorrectionsSection(Section):
    """Chooses corrections of the scan in the scene and starts them."""

    uiFile = "CorrectionsSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        self._rows = {}
        self._run = None
        ui = self.ui
        self._findTip = ui.findOffsetButton.toolTip
        ui.correctionsButton.connect("contentsCollapsed(bool)", lambda collapsed: collapsed or self.update())
        ui.findOffsetButton.connect("clicked(bool)", lambda *_: self._begin(self._findOffset))
        ui.correctButton.connect("clicked(bool)", lambda *_: self._begin(self._correct))

    def update(self):
        ui = self.ui
        if ui.correctionsButton.collapsed:
            return
        missing = [] if self._rows else dependencies.missing()
        if not missing and not self._rows:
            self._makeRows()
        valid, reason = self._isValid(missing)
        for button, tip in (
            (ui.findOffsetButton, self._findTip),
            (ui.correctButton, _("Make a corrected scan beside this one.")),
        ):
            button.enabled = valid
            button.toolTip = tip if valid else reason
        ui.correctionsHintLabel.text = reason or _("{name} is corrected into a new scan; it stays as it is.").format(
            name=self.parameters.scanVolume.GetName()
        )

    def onRunChanged(self, run):
        if run is not self._run or run.active:
            return
        self._run = None
        if run.state is JobState.FAILED:
            slicer.util.errorDisplay(f"{run.error['message']} {run.error['next_step']}".strip())
        elif run.state is JobState.DONE and run.scanNode:
            self._take(run.scanNode)
        elif run.state is JobState.DONE:
            self._show(run.offset)
        if self.parameters:
            self.update()

    def chosen(self):
        """The corrections as a job takes them: {name: {"mode": ..., parameter: value}} of those that are not off."""
        found = {}
        for name, (modes, parameters) in self._rows.items():
            mode = (OFF, ON, MEASURED)[modes.currentIndex]
            if mode != OFF:
                found[name] = {"mode": mode} | _parsed(parameters.text, name)
        return found

    def choose(self, name, mode, parameters=""):
        """Set the row of a correction."""
        modes, text = self._rows[name]
        modes.setCurrentIndex((OFF, ON, MEASURED).index(mode))
        text.setText(parameters)
        text.setCursorPosition(0)  # its beginning shows where the field is narrow

    def _makeRows(self):
        from SparseCTReconLib.corrections.chain import ORDER

        form = qt.QFormLayout(self.ui.correctionRows)
        form.setContentsMargins(0, 0, 0, 0)
        for kind in ORDER:
            modes, parameters = qt.QComboBox(), qt.QLineEdit()
            modes.addItems([_("Off"), _("On")] + ([] if kind.unmeasurable else [_("Measured")]))
            modes.setObjectName(f"{kind.name}Mode")
            modes.setToolTip(kind.unmeasurable or (kind.__doc__ or ""))
            parameters.setObjectName(f"{kind.name}Parameters")
            parameters.placeholderText = _("name=value; name=value")
            parameters.setToolTip("\n".join(kind.parameters()))
            row = qt.QWidget()
            line = qt.QHBoxLayout(row)
            line.setContentsMargins(0, 0, 0, 0)
            line.addWidget(modes)
            line.addWidget(parameters)
            form.addRow(qt.QLabel(f"{kind.title}:"), row)
            self._rows[kind.name] = modes, parameters

    def _isValid(self, missing):
        """(True, "") or (False, why nothing can be corrected, in one sentence)."""
        if missing:
            return False, _("Python packages are missing ({names}): press Apply once, which installs them.").format(
                names=", ".join(missing)
            )
        if not isScan(self.parameters.scanVolume):
            return False, _("Choose a scan in the scene, simulate one, or load one.")
        if self._run:
            return False, _("A correction is at work.")
        return True, ""

    def _begin(self, start):
        try:
            self._run = start()
            self.update()
        except Exception as error:
            slicer.util.errorDisplay(str(error))

    def _findOffset(self):
        return self.panel.logic.startCalibration(self.parameters.scanVolume)

    def _correct(self):
        return self.panel.logic.startCorrection(self.parameters.scanVolume, self.chosen())

    def _take(self, node):
        """Reconstruct from the corrected scan from now on, with nothing left to correct."""
        for name in self._rows:
            self.choose(name, OFF)
        self.ui.foundOffsetLabel.setVisible(False)
        self.parameters.scanVolume = node
        self.parameters.source = Source.SCENE

    def _show(self, offset):
        """Say what was found, and have it applied by the next correction if the user wants that."""
        label = self.ui.foundOffsetLabel
        label.text = " ".join([offset.said, *(f"{_('Warning')}: {text}." for text in offset.found["warnings"])])
        label.setVisible(True)
        if self._rows:
            self.choose(OFFSET, ON, f"u_mm={offset.found['u_mm']:.3f}")


def _parsed(text, name):
    """Parameters of "name=value; name=value"."""
    values = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        key, found, value = part.partition("=")
        if not found:
            raise ValueError(_("{name}: {part}: write parameter=value.").format(name=name, part=part))
        values[key.strip()] = value.strip()
    return values
