"""The section "Compare": a reference, the results to look at beside it, and their figures."""

import qt
import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import compare_export, segmenter
from .about_section import AboutSection
from .candidates import candidates, defaultReference, isResult
from .compare_tables import title
from .compare_viewing import CompareViewing
from .comparison import MOST_RESULTS, Comparison
from .figures_table import showTable
from .run_section import timeLeft
from .section import Section

LINE_PIXELS = 16
"""Least height of a line in the list, also where it is empty."""


class CompareSection(Section):
    """Chooses volumes, starts comparisons and shows what came of them."""

    uiFile = "CompareSection.ui"

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self.comparison = None
        self._checked, self._seen, self._followed = set(), set(), ()
        self._filling = False
        self.viewing = CompareViewing(ui, self.chosen, self.say)
        for button, slot in (
            (ui.compareButton, lambda: self._compareOrCancel(organs=False)),
            (ui.compareOrgansButton, lambda: self._compareOrCancel(organs=True)),
            (ui.compareReportButton, self.onReportButton),
            (ui.installSegmenterButton, self.onInstallSegmenterButton),
        ):
            button.connect("clicked(bool)", lambda checked=False, slot=slot: slot())
        self._addVolumesMenu()
        ui.compareResultsList.connect("itemChanged(QListWidgetItem*)", self.onItemChanged)
        ui.compareTableSelector.connect("currentIndexChanged(int)", lambda index: self._showTable())
        ui.organsButton.connect("contentsCollapsed(bool)", lambda collapsed: self._showSegmenter())
        scene = slicer.mrmlScene
        self._sceneTags = [scene.AddObserver(scene.StartCloseEvent, lambda *_arguments: self._onSceneClose())]
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndCloseEvent)
        self._sceneTags += [scene.AddObserver(event, lambda *_arguments: self._sceneChanged()) for event in events]
        self._refreshing = qt.QTimer()
        self._refreshing.setSingleShot(True)
        self._refreshing.setInterval(0)
        self._refreshing.connect("timeout()", self.refresh)
        self._offerTables()
        self._showComparison()
        self._showSegmenter()
        self.refresh()

    @property
    def reference(self):
        return self.ui.compareReferenceSelector.currentNode()

    @property
    def checked(self):
        """The checked results that are still in the scene, in the list's order."""
        rows = self.ui.compareResultsList
        items = [rows.item(row) for row in range(rows.count)]
        ids = [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]
        return [node for node in map(slicer.mrmlScene.GetNodeByID, ids) if node]

    def chosen(self):
        """The reference (None if there is none) and the checked results."""
        reference = self.reference
        return reference, [node for node in self.checked if node is not reference]

    def say(self, sentence, details=""):
        """Show a sentence below the buttons; the details are its tool tip."""
        self.ui.compareStatusLabel.text = sentence
        self.ui.compareStatusLabel.toolTip = details
        self.ui.compareStatusLabel.setVisible(bool(sentence))

    def update(self):
        self.refresh()

    def onRunChanged(self, run):
        if run.state is JobState.DONE and run.outputNode:
            self._checked.add(run.outputNode.GetID())
            self._followed = ()  # a result that was there before has new voxels
            self.refresh()
        self._checkCanCompare()

    def cleanup(self):
        self._refreshing.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        self.viewing.close()

    def refresh(self):
        """List the volumes of the scene anew; what was checked stays checked, and new results of this module are checked."""
        nodes = candidates()
        if self.parameters and self.reference is None and nodes:
            self.parameters.compareReference = defaultReference(nodes, self.parameters.inputVolume)
        reference = self.reference
        nodes = [node for node in nodes if node is not reference]
        results = {node.GetID() for node in nodes if isResult(node)}
        self._checked |= results - self._seen
        self._seen |= results
        self._fill(nodes)
        self._follow()

    def onItemChanged(self, item):
        if self._filling:
            return
        nodes = self.checked
        if len(nodes) > MOST_RESULTS:
            self.say(_("Up to {most} volumes are compared at once.").format(most=MOST_RESULTS))
            item.setCheckState(qt.Qt.Unchecked)
            return
        self._checked = {node.GetID() for node in nodes}
        self._follow()

    def onReportButton(self):
        """Ask for a file and write the last comparison to it."""
        path = qt.QFileDialog.getSaveFileName(
            self.widget, _("Write the comparison"), "comparison.html", _("Report (*.html);;Figures (*.csv)")
        )
        if path:
            self._say(lambda: _("Written to {path}.").format(path=self.panel.logic.exportReport(path)))

    def onSaveVolumes(self, kind):
        """Ask for a folder and write the checked results."""
        nodes = self.chosen()[1]
        if not nodes:
            self.say(_("Check the volumes to write."))
            return
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("Folder for the volumes"))
        if folder:
            self.exportVolumes(nodes, folder, kind)

    def exportVolumes(self, nodes, folder, kind):
        """Write volumes to a folder; what happened is said in the panel."""
        self._say(lambda: compare_export.sentence(self.panel.logic.exportVolumes(nodes, folder, kind)))

    def onInstallSegmenterButton(self):
        """Install what organs need, after asking."""
        try:
            if not segmenter.install():
                self.say(_("Restart Slicer: after that, TotalSegmentator's Python packages are installed from here."))
        except Exception as error:
            self.say(str(error).splitlines()[0], str(error))
        self._showSegmenter()
        self._checkCanCompare()

    def _compareOrCancel(self, organs):
        if self.comparison and self.comparison.active:
            self.comparison.cancel()
            return
        reference, results = self.chosen()
        try:
            if not self.panel.logic.setupPythonRequirements():
                raise RuntimeError(_("The Python packages that the comparison needs were not installed."))
            self.comparison = None
            self.panel.logic.startComparison(reference, results, self._asked(organs), self.onComparisonChanged)
        except Exception as error:
            self.say(str(error))

    def _asked(self, organs):
        parameters = self.parameters
        return Comparison(organs=organs, quality=parameters.segmenterQuality, organNames=parameters.organNames, device=parameters.device)

    def onComparisonChanged(self, run):
        """Called by a comparison whenever there is something new."""
        self.comparison = run
        self._showComparison()
        self._checkCanCompare()
        self.panel.section(AboutSection).onRunChanged(run)
        if not run.active:
            self._offerTables()
        if run.state is JobState.DONE and run.comparison.organs and self.ui.keepSegmentationsCheckBox.checked:
            self._say(lambda: self.panel.logic.importSegmentations() and run.message)

    def _say(self, action):
        """Do something that returns a sentence and may take a moment, and show it, or show why it did not work."""
        try:
            with slicer.util.WaitCursor():
                self.say(action() or "")
        except Exception as error:
            self.say(str(error))

    def _addVolumesMenu(self):
        menu = qt.QMenu(self.ui.compareSaveVolumesButton)
        for text, kind in ((_("NRRD files..."), compare_export.NRRD), (_("DICOM series..."), compare_export.DICOM)):
            action = qt.QAction(text, menu)
            action.connect("triggered(bool)", lambda checked=False, kind=kind: self.onSaveVolumes(kind))
            menu.addAction(action)
        self.ui.compareSaveVolumesButton.setMenu(menu)

    def _sceneChanged(self):
        # Once for many nodes, and not while the scene is in the middle of a change.
        self._refreshing.start()

    def _onSceneClose(self):
        self.viewing.reset()
        self.comparison = self.comparison if self.comparison and self.comparison.active else None
        self._checked, self._seen, self._followed = set(), set(), ()
        self._offerTables()
        self._showComparison()

    def _fill(self, nodes):
        self._filling = True
        rows = self.ui.compareResultsList
        rows.clear()
        for node in nodes:
            item = qt.QListWidgetItem(node.GetName())
            item.setData(qt.Qt.UserRole, node.GetID())
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            chosen = node.GetID() in self._checked and len(self.checked) < MOST_RESULTS
            item.setCheckState(qt.Qt.Checked if chosen else qt.Qt.Unchecked)
            rows.addItem(item)
        shown = min(max(len(nodes), 2), MOST_RESULTS)
        rows.setFixedHeight(shown * max(rows.sizeHintForRow(0), LINE_PIXELS) + 2 * rows.frameWidth)
        self._filling = False

    def _follow(self):
        """Let the views show what is chosen now."""
        reference, results = self.chosen()
        ids = [node.GetID() for node in (reference, *results) if node]
        if ids != self._followed:
            self._followed = ids
            self.viewing.refresh()
        self._checkCanCompare()

    def _offerTables(self):
        """Let the last comparison's tables be chosen, organs first where they were asked for; hide all where there are none."""
        run, selector = self.comparison, self.ui.compareTableSelector
        blocked = selector.blockSignals(True)
        selector.clear()
        for kind in run.tableNodes if run else ():
            selector.addItem(title(kind), kind)
        selector.setCurrentIndex(selector.count - 1 if run and run.comparison.organs else 0)
        selector.blockSignals(blocked)
        self._showTable()

    def _showTable(self):
        run, kind = self.comparison, self.ui.compareTableSelector.currentData
        node = run.tableNodes.get(kind) if run and kind else None
        for widget in (self.ui.compareTableSelector, self.ui.compareTable):
            widget.setVisible(node is not None)
        showTable(self.ui.compareTable, node)

    def _showComparison(self):
        run, bar = self.comparison, self.ui.compareProgressBar
        active = bool(run and run.active)
        fraction, remaining = run.progress if active else (None, None)
        message = run.message if run else ""
        bar.setVisible(active)
        bar.setRange(0, 0 if fraction is None else 100)
        bar.setValue(round(100 * (fraction or 0)))
        self.say(message if remaining is None else f"{message} - {timeLeft(remaining)}", run.error["details"] if run and run.error else "")
        self.ui.compareReportButton.setEnabled(bool(run and run.reportFile))

    def _showSegmenter(self):
        ready, reason = segmenter.status()
        ui = self.ui
        ui.segmenterLabel.text = _("TotalSegmentator is ready. It sends no statistics from here.") if ready else reason
        ui.installSegmenterButton.setVisible(not ready)
        for widget in (ui.segmenterQualitySelector, ui.organNamesEdit, ui.keepSegmentationsCheckBox):
            widget.setEnabled(ready)

    def _checkCanCompare(self):
        ui, run = self.ui, self.comparison
        if run and run.active:
            cancelling = run.state is not JobState.RUNNING
            ui.compareButton.text = _("Cancelling...") if cancelling else _("Cancel")
            ui.compareButton.enabled, ui.compareOrgansButton.enabled = not cancelling, False
            ui.compareButton.toolTip = _("The worker is asked to stop; what it has found so far is given up.")
            return
        ui.compareButton.text = _("Compare")
        valid, reason = Comparison().isValid(*self.chosen())
        ui.compareButton.enabled = valid
        ui.compareButton.toolTip = _("Image figures, tissues and a report, in a background process.") if valid else reason
        ready, whyNot = segmenter.status()
        if ready and self.panel.logic and self.panel.logic.queue.running:
            ready, whyNot = False, _("A reconstruction is running: the organs can be compared when it has ended.")
        ui.compareOrgansButton.enabled = valid and ready
        ui.compareOrgansButton.toolTip = (
            _("The same, and each organ that TotalSegmentator finds; minutes on a GPU, much longer without.")
            if valid and ready
            else (whyNot if valid else reason)
        )
