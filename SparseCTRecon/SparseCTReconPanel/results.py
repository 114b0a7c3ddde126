"""What can be done with a result in the panel: take its settings over, step through its snapshots, show its curves."""

import slicer
from slicer.i18n import tr as _

from . import curves, field_of_view, previous
from .candidates import candidates, isResult
from .snapshots import browserOf, showSnapshot, stepOf


class ResultBrowser:
    """The widgets under "Results".

    Parameters
    ----------
    ui : object
        The widgets of the section by their names.
    panel : SparseCTReconWidget
    """

    def __init__(self, ui, panel):
        self.ui, self.panel = ui, panel
        self._charts = {}  # name of a figure: ID of its chart
        self._layoutBefore = None
        self._browserID = None
        self._marked = None
        ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", previous.METHOD)
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.update())
        ui.useSettingsButton.connect("clicked(bool)", lambda checked=False: self.onUseSettings())
        ui.snapshotSlider.connect("valueChanged(int)", self.onSnapshot)
        ui.plotComboBox.connect("currentIndexChanged(int)", lambda index: self._showChart())
        ui.plotButton.connect("toggled(bool)", self.onPlot)
        self.update()

    def cleanup(self):
        """Give the user's layout back."""
        self._hideChart()

    def show(self, run):
        """Show the result of a run that has ended well."""
        if run.outputNode:
            # The volume has become a result just now: the selector looks at attributes only when a node is added.
            self.ui.resultSelector.sortFilterProxyModel().invalidate()
            self.ui.resultSelector.setCurrentNode(run.outputNode)
            self._marked = None
        self.update()

    def follow(self):
        """Show the curves of the run that goes on as soon as there are some."""
        self._listCharts(self.ui.resultSelector.currentNode())

    def onUseSettings(self):
        """Set the panel to what the selected result was made with."""
        node = self.ui.resultSelector.currentNode()
        if node and self.panel.parameterNode:
            previous.use(node, self.panel.parameterNode)

    def onSnapshot(self, number):
        browser = browserOf(self.ui.resultSelector.currentNode())
        if browser:
            showSnapshot(browser, number)
            self._nameSnapshot(browser, number)

    def onPlot(self, shown):
        if shown:
            self._showChart()
        else:
            self._hideChart()

    def update(self):
        """Show what there is of the selected result, and of the run that goes on."""
        node, ui = self.ui.resultSelector.currentNode(), self.ui
        ui.useSettingsButton.enabled = node is not None and self.panel.parameterNode is not None
        browser = browserOf(node)
        for widget in (ui.snapshotTitleLabel, ui.snapshotSlider, ui.snapshotLabel):
            widget.setVisible(browser is not None)
        if browser:
            self._listSnapshots(browser)
        self._listCharts(node)
        self._markFieldOfView(node)

    def _markFieldOfView(self, node):
        """Outline what enough views see of the result `node`, if that is wanted; what was done by other means since then stays."""
        marked, box = field_of_view.fieldOfViewOf(node), self.ui.fieldOfViewCheckBox
        box.setVisible(marked is not None)
        if marked:
            box.text = _("Outline the field of view, {percent:.0f} % of the voxels").format(percent=100 * field_of_view.seenPart(marked))
        wanted = node and self.panel.parameterNode and (node.GetID(), marked and marked.GetID(), self.panel.parameterNode.showFieldOfView)
        if wanted and wanted != self._marked:
            self._marked = wanted
            field_of_view.show(node, wanted[-1])

    def _listSnapshots(self, browser):
        """Let the slider step through a browser's snapshots; of one that it did not show before it shows the end, the result."""
        slider, last = self.ui.snapshotSlider, browser.GetNumberOfItems()
        blocked = slider.blockSignals(True)
        slider.setRange(0, last)
        if browser.GetID() != self._browserID:
            slider.setValue(last)
        slider.blockSignals(blocked)
        self._browserID = browser.GetID()
        self._nameSnapshot(browser, slider.value)

    def _nameSnapshot(self, browser, number):
        isResult = number >= browser.GetNumberOfItems()
        self.ui.snapshotLabel.text = _("result") if isResult else _("step {n}").format(n=stepOf(browser, number))

    def _listCharts(self, node):
        """Offer the curves of the run that goes on, or else those of the result `node`."""
        run, combo = self.panel.logic and self.panel.logic.queue.running, self.ui.plotComboBox
        shown = (run.charts if run else {}) or curves.chartsOf(node)
        charts = {figure: chart.GetID() for figure, chart in shown.items()}
        if charts != self._charts:
            names, chosen = list(charts), combo.currentText
            isChoice = chosen in names and names[0] in self._charts  # PSNR comes after the first loss, and is what most want to see
            self._charts = charts
            blocked = combo.blockSignals(True)
            combo.clear()
            combo.addItems(names)
            combo.setCurrentIndex(names.index(chosen) if isChoice else 0)
            combo.blockSignals(blocked)
            self._showChart()
        for widget in (self.ui.plotLabel, combo, self.ui.plotButton):
            widget.setVisible(bool(charts))
        self.ui.lookSectionButton.setVisible(bool(charts) or any(map(isResult, candidates())))

    def _showChart(self):
        """Show the chosen curve, if curves are to be shown."""
        chart = slicer.mrmlScene.GetNodeByID(self._charts.get(self.ui.plotComboBox.currentText, ""))
        if chart and self.ui.plotButton.checked:
            before = curves.show(chart)
            self._layoutBefore = before if self._layoutBefore is None else self._layoutBefore

    def _hideChart(self):
        curves.hide(self._layoutBefore)
        self._layoutBefore = None
