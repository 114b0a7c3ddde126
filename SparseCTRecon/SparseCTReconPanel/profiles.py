"""Values along a line through several volumes: a markups line to drag, and a plot with one curve for each volume."""

from contextlib import suppress

import slicer
from slicer.i18n import tr as _

from .compare_views import COLORS
from .placement import hasVoxels, ijkToWorld
from .scene import PREFIX, removeNode

KIND = PREFIX + "profile"
DISTANCE = "mm"
MOST_SAMPLES = 1000


class LineProfile:
    """A line node and the chart of the volumes' values along it; the curves follow the line.

    Parameters
    ----------
    volumeNodes : list of vtkMRMLScalarVolumeNode
        One curve each; the first one is drawn dashed: it is the reference.
    lineNode : vtkMRMLMarkupsLineNode, optional
        The line; a new one from left to right through the middle of the first volume if not given.

    Attributes
    ----------
    chartNode : vtkMRMLPlotChartNode or None
        None once it has been deleted.
    ownsLine : bool
        Whether the line goes when the profile is removed.

    Raises
    ------
    ValueError
        If a volume is bent by a transform, in one sentence; no nodes are made then.
    """

    def __init__(self, volumeNodes, lineNode=None):
        for node in volumeNodes:
            ijkToWorld(node)  # raises for what cannot be sampled, before there are nodes
        self._volumeIDs = [node.GetID() for node in volumeNodes]
        self.ownsLine = lineNode is None
        line = lineNode or _lineThrough(volumeNodes[0])
        self._lineID = line.GetID()
        table = _add("vtkMRMLTableNode", _("Line profile table"))
        self._tableID = table.GetID()
        self._series = {node.GetID(): self._newSeries(node, n) for n, node in enumerate(volumeNodes)}
        self._chartID = self._newChart().GetID()
        self._line = line
        self._tag = line.AddObserver(slicer.vtkMRMLMarkupsNode.PointModifiedEvent, lambda *_arguments: self.update())
        self.update()

    @property
    def lineNode(self):
        return slicer.mrmlScene.GetNodeByID(self._lineID)

    @property
    def tableNode(self):
        return slicer.mrmlScene.GetNodeByID(self._tableID)

    @property
    def chartNode(self):
        return slicer.mrmlScene.GetNodeByID(self._chartID)

    def update(self):
        """Sample the volumes anew; volumes that were deleted lose their curves."""
        import numpy as np

        line, table, chart = self.lineNode, self.tableNode, self.chartNode
        if not (line and table and chart):
            self.close()
            return
        if line.GetNumberOfDefinedControlPoints() < 2:
            return
        ends = np.array([line.GetNthControlPointPositionWorld(n) for n in (0, 1)], dtype=float)
        volumes = [node for node in map(slicer.mrmlScene.GetNodeByID, self._volumeIDs) if hasVoxels(node)]
        for gone in set(self._series) - {node.GetID() for node in volumes}:
            chart.RemovePlotSeriesNodeID(self._series[gone])
            _remove(self._series.pop(gone))
        points, distances = _samples(ends, volumes)
        columns = [distances, *(valuesAt(node, points) for node in volumes)]
        slicer.util.updateTableFromArray(table, columns, [DISTANCE, *(node.GetID() for node in volumes)])
        table.Modified()

    def close(self):
        """Stop following the line; the nodes stay."""
        if self._tag is not None:
            self._line.RemoveObserver(self._tag)
            self._tag = None

    def remove(self, keepLine=False):
        """Stop following the line and take the nodes that were made for it out of the scene."""
        self.close()
        line = [self._lineID] if self.ownsLine and not keepLine else []
        for nodeID in [self._chartID, *self._series.values(), self._tableID, *line]:
            _remove(nodeID)

    def _newSeries(self, volumeNode, number):
        series = _add("vtkMRMLPlotSeriesNode", volumeNode.GetName())
        series.SetName(volumeNode.GetName())  # the legend's text, which the scene would have numbered
        series.SetAndObserveTableNodeID(self._tableID)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetXColumnName(DISTANCE)
        series.SetYColumnName(volumeNode.GetID())
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        dash = slicer.vtkMRMLPlotSeriesNode.LineStyleDash
        series.SetLineStyle(dash if number == 0 else slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        series.SetLineWidth(2)
        color = COLORS[number % len(COLORS)]
        series.SetColor(*(int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)))
        return series.GetID()

    def _newChart(self):
        chart = _add("vtkMRMLPlotChartNode", _("Line profile"))
        for seriesID in self._series.values():
            chart.AddAndObservePlotSeriesNodeID(seriesID)
        chart.SetTitle(_("Along the line"))
        chart.SetXAxisTitle(_("Distance (mm)"))
        chart.SetYAxisTitle(_("HU"))
        return chart


def valuesAt(volumeNode, points):
    """Values of the volume at world points [n, 3] (RAS, mm), linearly interpolated; NaN outside."""
    import numpy as np
    from scipy.ndimage import map_coordinates

    ijk = np.linalg.inv(ijkToWorld(volumeNode)) @ np.column_stack([points, np.ones(len(points))]).T
    voxels = slicer.util.arrayFromVolume(volumeNode)
    # The voxels that the line runs through, not the whole volume: it would be copied for another type of number.
    low = np.clip(np.floor(ijk[2::-1].min(axis=1)).astype(int), 0, np.array(voxels.shape) - 1)
    high = np.clip(np.ceil(ijk[2::-1].max(axis=1)).astype(int) + 1, low + 1, voxels.shape)
    part = voxels[tuple(slice(a, b) for a, b in zip(low, high))].astype(np.float64)
    inside = np.all((ijk[2::-1] >= -1e-6) & (ijk[2::-1] <= np.array(voxels.shape)[:, None] - 1 + 1e-6), axis=0)
    values = map_coordinates(part, ijk[2::-1] - low[:, None], order=1, mode="nearest")
    return np.where(inside, values, np.nan)


def _samples(ends, volumes):
    """Points from end to end, half a voxel apart where that is not too many, and their distances from the first end."""
    import numpy as np

    length = float(np.linalg.norm(ends[1] - ends[0]))
    step = min((min(node.GetSpacing()) for node in volumes), default=1.0) / 2
    places = np.linspace(0, 1, int(np.clip(length / step, 2, MOST_SAMPLES)))
    return ends[0] + places[:, None] * (ends[1] - ends[0]), places * length


def _lineThrough(volumeNode):
    """A line from the right to the left through the middle of the volume, over the middle half of its width."""
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    middle = [(bounds[2 * n] + bounds[2 * n + 1]) / 2 for n in range(3)]
    line = _add("vtkMRMLMarkupsLineNode", _("Line profile"))
    line.CreateDefaultDisplayNodes()
    for place in (0.2, 0.8):
        line.AddControlPointWorld(bounds[0] + place * (bounds[1] - bounds[0]), middle[1], middle[2])
    return line


def _add(className, name):
    node = slicer.mrmlScene.AddNewNodeByClass(className, name)
    node.SetAttribute(KIND, "1")
    return node


def _remove(nodeID):
    node = slicer.mrmlScene.GetNodeByID(nodeID)
    if node:
        with suppress(AttributeError):  # a node that cannot be shown or stored has no display or storage nodes
            removeNode(node)
            return
        slicer.mrmlScene.RemoveNode(node)
