"""Curves of a run: a table, a series and a chart for each figure, which grow while it runs."""

import slicer
import vtk
from slicer.i18n import tr as _

from .scene import PREFIX, removeNode

PSNR = "PSNR"
STEP = "step"
CHARTS = PREFIX + "charts"
"""Role of a result's references to its charts."""
FIGURE = PREFIX + "figure"
"""Attribute of a chart: the name of what it shows."""


class Curves:
    """Figures of a run over its steps.

    Parameters
    ----------
    name : str
        What the charts are about: the name of the result.
    """

    def __init__(self, name):
        self._name = name
        self._nodes = {}
        self._waiting = []

    @property
    def charts(self):
        """The chart of each figure by its name, as far as they are still in the scene; PSNR first."""
        found = {figure: slicer.mrmlScene.GetNodeByID(ids[2]) for figure, ids in self._nodes.items()}
        return {figure: found[figure] for figure in sorted(found, key=lambda one: one != PSNR) if found[figure]}

    def add(self, step, values):
        """Note figures of a step; `flush` shows them."""
        self._waiting += [(figure, step, value) for figure, value in values.items() if value is not None]

    def flush(self):
        """Put what was noted into the tables."""
        waiting, self._waiting = self._waiting, []
        for figure in dict.fromkeys(figure for figure, _step, _value in waiting):
            self._append(figure, [(step, value) for name, step, value in waiting if name == figure])

    def finish(self, volumeNode):
        """Show the last figures and let the result refer to its charts; what has one point only is no curve."""
        self.flush()
        for figure in [one for one, ids in self._nodes.items() if _length(ids[0]) < 2]:
            _remove(self._nodes.pop(figure))
        volumeNode.RemoveNodeReferenceIDs(CHARTS)
        for chart in self.charts.values():
            volumeNode.AddNodeReferenceID(CHARTS, chart.GetID())

    def remove(self):
        for ids in self._nodes.values():
            _remove(ids)
        self._nodes = {}

    def _append(self, figure, points):
        if figure not in self._nodes:
            self._nodes[figure] = self._create(figure)
        tableNode = slicer.mrmlScene.GetNodeByID(self._nodes[figure][0])
        if tableNode is None:
            return  # deleted by the user: the curve is not wanted
        table = tableNode.GetTable()
        for step, value in points:
            row = table.InsertNextBlankRow()
            table.SetValue(row, 0, vtk.vtkVariant(float(step)))
            table.SetValue(row, 1, vtk.vtkVariant(float(value)))
        table.Modified()
        tableNode.Modified()

    def _create(self, figure):
        scene, title = slicer.mrmlScene, f"{self._name} {figure}"
        tableNode = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(f"{title} table"))
        for column in (STEP, figure):
            array = vtk.vtkDoubleArray()
            array.SetName(column)
            tableNode.AddColumn(array)
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", scene.GenerateUniqueName(title))
        series.SetAndObserveTableNodeID(tableNode.GetID())
        series.SetXColumnName(STEP)
        series.SetYColumnName(figure)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(
            slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle if figure == PSNR else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        )
        series.SetColor(0.2, 0.5, 0.9)
        chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(f"{title} chart"))
        chart.SetAttribute(FIGURE, figure)
        chart.SetTitle(title)
        chart.SetXAxisTitle(STEP)
        chart.SetYAxisTitle(_("PSNR on a sample of the voxels, dB") if figure == PSNR else figure)
        chart.SetYAxisLogScale(figure != PSNR)
        chart.SetLegendVisibility(False)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        return tableNode.GetID(), series.GetID(), chart.GetID()


def _length(tableID):
    tableNode = slicer.mrmlScene.GetNodeByID(tableID)
    return tableNode.GetNumberOfRows() if tableNode else 0


def _remove(ids):
    for node in filter(None, map(slicer.mrmlScene.GetNodeByID, reversed(ids))):
        removeNode(node)


def chartsOf(volumeNode):
    """The charts of a result by the names of their figures; none for any other volume."""
    count = volumeNode.GetNumberOfNodeReferences(CHARTS) if volumeNode else 0
    charts = [volumeNode.GetNthNodeReference(CHARTS, n) for n in range(count)]
    return {chart.GetAttribute(FIGURE): chart for chart in charts if chart}


def show(chart):
    """Show a chart in a layout with a plot view; return the layout that there was, for `hide`, or None if there are no views."""
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    before = layout.GetViewArrangement() if layout else None
    slicer.modules.plots.logic().ShowChartInLayout(chart)
    return before


def hide(before):
    """Go back to the layout that `show` returned."""
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout and before is not None:
        layout.SetViewArrangement(before)
