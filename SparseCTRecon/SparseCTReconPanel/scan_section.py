"""The section "Projections": simulated from an open CT, or read."""

import qt
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from .request import Source
from .section import Section


class ScanSection(Section):
    """Where the projections come from."""

    uiFile = "ScanSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        self.ui.browseButton.connect("clicked(bool)", self.onBrowseButton)

    def onBrowseButton(self):
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("Scan folder"), self.ui.scanFolderEdit.text)
        if folder:
            self.ui.scanFolderEdit.text = folder

    def update(self):
        simulated = self.parameters.source is Source.SIMULATE
        for widget in (self.ui.inputLabel, self.ui.inputSelector, self.ui.simulationButton):
            widget.setVisible(simulated)
        for widget in (self.ui.scanFolderLabel, self.ui.scanFolderEdit, self.ui.browseButton):
            widget.setVisible(not simulated)

    def onRunChanged(self, run):
        if run.state is JobState.DONE and run.scanNode and self.parameters:
            self.parameters.scanVolume = run.scanNode
