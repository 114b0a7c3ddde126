"""Linked slice views of a reference and its results, side by side; the user's own layout comes back afterwards."""

import math

import slicer

LAYOUT = 73100
"""Number of the layout in the layout node; far from Slicer's own and from the first user numbers, which other extensions take."""
VIEW_GROUP = 731
PLOT_VIEW = "SparseCTReconProfile"
ORIENTATIONS = ("Axial", "Coronal", "Sagittal")
COLORS = ("#9aa4ad", "#f0a83c", "#3aa6e0", "#6eb04b", "#c77dff", "#f06a5d", "#4fd1c5")
"""Of the reference and the results: their views and their curves."""


class CompareViews:
    """The layout with one slice view for the reference and each result, and, beneath each result, its difference.

    Without a layout manager (no main window) nothing is shown, and nothing fails.
    """

    def __init__(self):
        self._before = None
        self._views = []

    @property
    def shown(self):
        manager = slicer.app.layoutManager()
        return bool(self._views) and manager is not None and manager.layout == LAYOUT

    def show(self, referenceNode, resultNodes, differenceNodes=(), chartNode=None, orientation="Axial", fade=1.0):
        """Show the volumes; `fade` is how much of a result lies over the reference, 0 to 1. Return whether there are views.

        :param differenceNodes: one for each result, or none at all.
        :param chartNode: a chart to show below, if any.
        """
        manager = slicer.app.layoutManager()
        if manager is None:
            return False
        self._views = _views(referenceNode, resultNodes, differenceNodes)
        node = manager.layoutLogic().GetLayoutNode()
        description = layoutXml(self._rows(), chartNode is not None)
        if not node.AddLayoutDescription(LAYOUT, description):
            node.SetLayoutDescription(LAYOUT, description)
        if manager.layout != LAYOUT:
            self._before = manager.layout
        node.SetSaveWithScene(False)  # opened where nothing has described this layout, the scene would have no views at all
        manager.setLayout(LAYOUT)
        for view in self._views:
            view.fill()
        self.setOrientation(orientation)
        self.setFade(fade)
        self.showChart(chartNode)
        return True

    def restore(self):
        """Go back to the layout that was there before, unless the user has left this one already."""
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.layoutLogic().GetLayoutNode().SetSaveWithScene(True)
        if self.shown and self._before is not None:
            manager.setLayout(self._before)
        self._before, self._views = None, []

    def setFade(self, fade):
        """Show so much of the results over the reference: 0 the reference alone, 1 the results alone."""
        for view in self._views:
            view.setFade(fade)

    def setOrientation(self, orientation):
        """Turn all views; they are fitted to the reference so that they show the same field."""
        manager = slicer.app.layoutManager()
        for view in self._views:
            if view.sliceNode:
                view.sliceNode.SetOrientation(orientation)
                manager.sliceWidget(view.name).sliceLogic().FitSliceToBackground()

    def showChart(self, chartNode):
        plotView = slicer.mrmlScene.GetNodeByID(f"vtkMRMLPlotViewNode{PLOT_VIEW}")
        if chartNode and plotView:
            plotView.SetPlotChartNodeID(chartNode.GetID())

    def _rows(self):
        """The views in rows that are about as wide as they are high: results, and differences beneath their results."""
        volumes = [view for view in self._views if not view.isDifference]
        differences = {view.number: view for view in self._views if view.isDifference}
        columns = len(volumes) if len(volumes) <= 4 or not differences else math.ceil(len(volumes) / 2)
        if not differences and len(volumes) > 3:
            columns = math.ceil(math.sqrt(len(volumes)))
        rows = []
        for first in range(0, len(volumes), columns):
            row = volumes[first : first + columns]
            rows.append(row)
            beneath = [differences[view.number] for view in row if view.number in differences]
            if beneath:
                rows.append(beneath)
        return rows


class _View:
    """One slice view: the reference below, a result or a difference above it."""

    def __init__(self, number, label, background, foreground=None, isDifference=False):
        self.number, self.label, self.isDifference = number, label, isDifference
        self.name = f"SparseCTRecon{'Difference' if isDifference else 'Volume'}{number}"
        self.color = COLORS[number % len(COLORS)]
        self._background = background.GetID()
        self._foreground = foreground.GetID() if foreground else None

    @property
    def sliceNode(self):
        return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{self.name}")

    @property
    def compositeNode(self):
        return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{self.name}")

    def fill(self):
        composite = self.compositeNode
        if composite is None:
            return
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
        composite.SetDoPropagateVolumeSelection(False)  # a volume that is loaded meanwhile does not push these out
        composite.SetBackgroundVolumeID(self._background)
        composite.SetForegroundVolumeID(self._foreground)
        composite.SetForegroundOpacity(1.0)

    def setFade(self, fade):
        # Linked control is for the user's own moves: it does not pass on what is set here, so each view is set.
        if self.compositeNode and self._foreground and not self.isDifference:
            self.compositeNode.SetForegroundOpacity(fade)


def _views(referenceNode, resultNodes, differenceNodes):
    views = [_View(0, "Ref", referenceNode)]
    views += [_View(n, str(n), referenceNode, result) for n, result in enumerate(resultNodes, start=1)]
    views += [_View(n, f"{n} - Ref", referenceNode, one, True) for n, one in enumerate(differenceNodes, start=1)]
    return views


def layoutXml(rows, withChart=False):
    """The layout's description: a slice view for each view in `rows`, and a plot view below."""
    lines = [f'<item><layout type="horizontal">{"".join(map(_viewXml, row))}</layout></item>' for row in rows]
    if withChart:
        plot = (
            f'<view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}"><property name="viewlabel" action="default">P</property></view>'
        )
        lines.append(f"<item>{plot}</item>")
    return f'<layout type="vertical">{"".join(lines)}</layout>'


def _viewXml(view):
    properties = {"orientation": "Axial", "viewlabel": view.label, "viewcolor": view.color, "viewgroup": VIEW_GROUP}
    inner = "".join(f'<property name="{name}" action="default">{value}</property>' for name, value in properties.items())
    return f'<item><view class="vtkMRMLSliceNode" singletontag="{view.name}">{inner}</view></item>'


def fadeInSliceViews(referenceNode, resultNode, fade):
    """Put the result over the reference in the slice views that there are, `fade` of it (0 to 1)."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(referenceNode.GetID())
        composite.SetForegroundVolumeID(resultNode.GetID())
        composite.SetForegroundOpacity(fade)
