"""The section "Projections": simulated from an open CT, a scan of the scene, or one from disk; what it sees, and a look at it."""

import os

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import machine
from .drop import DropTarget
from .request import Request, Source
from .scan_display import ScanDisplay
from .scan_node import CLASS, SCAN, assumedOf, ctOf, geometryOf, isScan, warningsOf
from .section import Section


class ScanSection(Section):
    """Where the projections come from."""

    uiFile = "ScanSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        ui.scanSelector.addAttribute(CLASS, SCAN)
        self._browseActions = [qt.QAction(_("Folder..."), ui.browseButton), qt.QAction(_("File..."), ui.browseButton)]
        for action, slot in zip(self._browseActions, (self.onBrowseFolder, self.onBrowseFile)):
            action.connect("triggered(bool)", slot)
            ui.browseButton.addAction(action)
        self._dropTarget = DropTarget(self.onDropped)
        self.widget.installEventFilter(self._dropTarget)
        ui.loadScanButton.connect("clicked(bool)", lambda *_: self.load(self.ui.scanFolderEdit.text))
        ui.scanFolderEdit.connect("returnPressed()", lambda: self.load(self.ui.scanFolderEdit.text))
        ui.simulateButton.connect("clicked(bool)", self.onSimulateButton)
        self.display = ScanDisplay(ui)
        self._simulation = self._hiddenFor = None

    def onBrowseFolder(self, checked=False):
        self._loadChosen(qt.QFileDialog.getExistingDirectory(self.widget, _("Scan folder"), self.ui.scanFolderEdit.text))

    def onBrowseFile(self, checked=False):
        self._loadChosen(qt.QFileDialog.getOpenFileName(self.widget, _("File of a scan"), self.ui.scanFolderEdit.text))

    def onDropped(self, paths):
        """Load what was dropped onto the section."""
        for path in paths:
            self.load(path)

    def load(self, path):
        """Bring a scan from disk into the scene and take it as the source; what is wrong with it is shown."""
        if not self.parameters:
            return
        try:
            with slicer.util.WaitCursor():
                node = self.panel.logic.loadScan(path.strip())
        except (ValueError, OSError) as error:
            slicer.util.errorDisplay(str(error))
            return
        self.parameters.scanFolder = path
        self._take(node, Source.SCENE)

    def onSimulateButton(self, checked=False):
        """Make the scan only; one that is there already is shown."""
        logic, parameters = self.panel.logic, self.parameters
        try:
            if not logic.setupPythonRequirements():
                raise RuntimeError(_("The Python packages that the simulation needs were not installed."))
            request = Request.fromParameterNode(parameters)
            found = logic.findScan(parameters.inputVolume, request)
            if found:
                self._take(found, Source.SIMULATE)
                return
            self._simulation = logic.startSimulation(parameters.inputVolume, request)
        except Exception as error:
            slicer.util.errorDisplay(str(error))

    def update(self):
        source = self.parameters.source
        ui = self.ui
        for shownFor, widgets in (
            (Source.SIMULATE, (ui.inputLabel, ui.inputSelector, ui.simulationButton)),
            (Source.SCENE, (ui.scanLabel, ui.scanSelector)),
            (Source.FOLDER, (ui.scanFolderLabel, ui.scanFolderEdit, ui.browseButton, ui.loadScanButton)),
        ):
            for widget in widgets:
                widget.setVisible(source is shownFor)
        self._showMachine()
        geometry, said = self._seen()
        ui.sightLabel.text = said
        ui.sightLabel.setVisible(bool(said))
        self.display.follow(geometry, self._scanOf(geometry), self._transformNodeID())

    def onRunChanged(self, run):
        if run.active and run is not self._simulation and run is not self._hiddenFor:
            # The views are for the volume that is about to appear in them.
            self._hiddenFor = run
            self.ui.showProjectionsCheckBox.checked = False
        if run.state is JobState.DONE and run.scanNode and self.parameters:
            self.parameters.scanVolume = run.scanNode
            if run is self._simulation:
                self._take(run.scanNode, Source.SIMULATE)
        if run is self._simulation and not run.active:
            self._simulation = None

    def cleanup(self):
        self.display.hide()

    def _loadChosen(self, path):
        if path:
            self.load(path)

    def _take(self, node, source):
        """Choose a scan and show it."""
        self.parameters.scanVolume = node
        self.parameters.source = source
        self.ui.showProjectionsCheckBox.checked = True

    def _showMachine(self):
        """The numbers of the machine where they are not the user's own, what the dose is, and whether there is something to simulate."""
        parameters, ui = self.parameters, self.ui
        own = (ui.columnsSpinBox, ui.rowsSpinBox, ui.pixelSizeSpinBox, ui.offsetSpinBox)
        columns, rows, pixelSize, offset, arc = machine.machineDefaults(parameters.preset)
        if not parameters.ownDetector:
            for name, value in zip(("columns", "rows", "pixelSize", "offset"), (columns, rows, pixelSize, offset)):
                if getattr(parameters, name) != value:
                    setattr(parameters, name, value)
        for widget in own:
            widget.enabled = parameters.ownDetector
        ui.arcSpinBox.specialValueText = _("as the machine, {arc:.0f} deg").format(arc=arc)
        ui.doseLabel.text = machine.dose(parameters.photons, parameters.views)
        valid, reason = Request.fromParameterNode(parameters).isValid(parameters.inputVolume, parameters.scanVolume)
        ui.simulateButton.enabled = valid
        ui.simulateButton.toolTip = _("Make the scan only, to look at it before it is reconstructed.") if valid else reason
        self.ui.inputSelector.sortFilterProxyModel().hiddenNodeIDs = [
            node.GetID() for node in slicer.util.getNodesByClass(CLASS) if isScan(node)
        ]

    def _seen(self):
        """(geometry of the scan or None, what the machine sees or why there is nothing to see)."""
        parameters = self.parameters
        try:
            if parameters.source is Source.SIMULATE:
                return self._planned()
            if parameters.source is Source.SCENE:
                return _ofScan(parameters.scanVolume)
        except ValueError as error:
            return None, str(error)
        return None, _ofFolder(parameters.scanFolder)

    def _planned(self):
        parameters = self.parameters
        request = Request.fromParameterNode(parameters)
        valid, reason = request.isValid(parameters.inputVolume)
        if not valid:
            return None, reason if parameters.inputVolume else ""
        geometry = machine.plannedGeometry(request, parameters.inputVolume)
        return geometry, machine.sight(geometry, parameters.inputVolume)

    def _scanOf(self, geometry):
        """The scan node with just these poses, if there is one to show."""
        node = self.parameters.scanVolume
        if geometry is None or not node:
            return None
        try:
            return node if machine.sameGeometry(geometryOf(node), geometry) else None
        except ValueError:
            return None

    def _transformNodeID(self):
        parameters = self.parameters
        ct = parameters.inputVolume
        if parameters.source is Source.SCENE and parameters.scanVolume:
            ct = ctOf(parameters.scanVolume)
        return ct.GetTransformNodeID() if ct else None


def _ofScan(node):
    if node is None:
        return None, ""
    geometry = geometryOf(node)
    (rows, columns), (pixel, _du) = geometry.detector_shape, geometry.pixel_mm
    said = _("{views} views of {columns} x {rows} pixels of {pixel:.3g} mm.").format(
        views=geometry.views, columns=columns, rows=rows, pixel=pixel
    )
    ct = ctOf(node)
    if ct and ct.GetImageData():
        said += " " + machine.sight(geometry, ct)
    if assumedOf(node):
        said += " " + _("Assumed: {assumed}.").format(assumed=assumedOf(node))
    if warningsOf(node):
        said += " " + _("Look at this: {warnings}.").format(warnings="; ".join(warningsOf(node)))
    return geometry, said


def _ofFolder(path):
    folder = os.path.expanduser(path.strip())
    if (
        os.path.isdir(folder)
        and os.path.exists(os.path.join(folder, "geometry.xml"))
        and not os.path.exists(os.path.join(folder, "scan.json"))
    ):
        return _("The folder has no scan.json: it is taken as line integrals with the isocentre at LPS 0.")
    return ""
