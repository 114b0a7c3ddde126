"""Projections in the slice views: one view at a time in the red one, the sinogram of a detector row in the green one."""

import slicer
import vtk

PROJECTION, SINOGRAM = "Red", "Green"
_AXES = {
    PROJECTION: ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    SINOGRAM: ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
}
"""RAS directions to the right, upwards and out of the picture: those of Slicer's axial and coronal views."""


class ProjectionDisplay:
    """Shows a scan node in the slice views that there are; without any nothing is shown, and nothing fails.

    Parameters
    ----------
    onScrolled : callable, optional
        Called with (view, row) when the user has scrolled in one of the two.
    """

    def __init__(self, onScrolled=None):
        self._onScrolled = onScrolled or (lambda view, row: None)
        self._nodeID = None
        self._slices = {}

    @property
    def node(self):
        return slicer.mrmlScene.GetNodeByID(self._nodeID) if self._nodeID else None

    @property
    def shown(self):
        return bool(self.node and self._slices)

    def show(self, node):
        """Show the first view and the middle row of a scan node."""
        self.hide()
        self._nodeID = node.GetID()
        for name in (PROJECTION, SINOGRAM):
            if _sliceNode(name) and _compositeNode(name):
                self._slices[name] = _SliceView(name, node, self._scrolled)
        self.step(0, node.GetImageData().GetDimensions()[1] // 2)

    def step(self, view, row):
        """Show another view and the sinogram of another detector row."""
        if self.shown:
            for name, index in ((PROJECTION, view), (SINOGRAM, row)):
                if name in self._slices:
                    self._slices[name].goTo(self.node, index)

    def hide(self):
        """Put back what the slice views showed, where they still show the scan."""
        for view in self._slices.values():
            view.putBack(self._nodeID)
        self._slices, self._nodeID = {}, None

    def _scrolled(self):
        if self.shown:
            places = {name: view.index(self.node) for name, view in self._slices.items()}
            self._onScrolled(places.get(PROJECTION), places.get(SINOGRAM))


class _SliceView:
    """One slice view, and what it showed before."""

    def __init__(self, name, node, onScrolled):
        self._name = name
        self._axis = {PROJECTION: 2, SINOGRAM: 1}[name]
        sliceNode, composite = _sliceNode(name), _compositeNode(name)
        self._layers = [get() for get in (composite.GetBackgroundVolumeID, composite.GetForegroundVolumeID, composite.GetLabelVolumeID)]
        self._matrix = vtk.vtkMatrix4x4()
        self._matrix.DeepCopy(sliceNode.GetSliceToRAS())
        self._field = sliceNode.GetFieldOfView()
        _setLayers(composite, node.GetID(), None, None)
        self._place(sliceNode, node)
        self._onScrolled, self._moving = onScrolled, False
        self._tag = sliceNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._modified)

    def goTo(self, node, index):
        sliceNode = _sliceNode(self._name)
        offset = _toRas(node)[self._axis][0] * index + _toRas(node)[self._axis][1]
        if sliceNode and abs(sliceNode.GetSliceOffset() - offset) > 1e-6:
            self._moving = True
            sliceNode.SetSliceOffset(offset)
            self._moving = False

    def index(self, node):
        """The view or row that is shown, the nearest."""
        step, first = _toRas(node)[self._axis]
        last = node.GetImageData().GetDimensions()[self._axis] - 1
        sliceNode = _sliceNode(self._name)
        return min(max(round((sliceNode.GetSliceOffset() - first) / step), 0), last) if sliceNode else 0

    def putBack(self, nodeID):
        sliceNode, composite = _sliceNode(self._name), _compositeNode(self._name)
        if sliceNode:
            sliceNode.RemoveObserver(self._tag)
        if not (sliceNode and composite) or composite.GetBackgroundVolumeID() != nodeID:
            return
        _setLayers(composite, *(one if one and slicer.mrmlScene.GetNodeByID(one) else None for one in self._layers))
        sliceNode.GetSliceToRAS().DeepCopy(self._matrix)
        sliceNode.UpdateMatrices()
        sliceNode.SetFieldOfView(*self._field)

    def _place(self, sliceNode, node):
        """Turn the view to the pixels and fit them into it."""
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        across, up, out = _AXES[self._name]
        matrix = sliceNode.GetSliceToRAS()
        for column, axis in enumerate((across, up, out)):
            for row in range(3):
                matrix.SetElement(row, column, axis[row])
        for row in range(3):
            matrix.SetElement(row, 3, (bounds[2 * row] + bounds[2 * row + 1]) / 2)
        sliceNode.UpdateMatrices()
        width, height = (bounds[2 * k + 1] - bounds[2 * k] for k in (0, {PROJECTION: 1, SINOGRAM: 2}[self._name]))
        columns, rows, _planes = sliceNode.GetDimensions()
        shape = columns / max(rows, 1)
        across = max(width, height * shape)
        sliceNode.SetFieldOfView(across, across / shape, self._field[2])

    def _modified(self, caller, event):
        if not self._moving:
            self._onScrolled()


def _setLayers(composite, background, foreground, label):
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(background)
        composite.SetForegroundVolumeID(foreground)
        composite.SetLabelVolumeID(label)


def _sliceNode(name):
    return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")


def _compositeNode(name):
    return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")


def _toRas(node):
    """(step, first) along each axis of a scan node, whose voxels stand upright."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [(matrix.GetElement(axis, axis), matrix.GetElement(axis, 3)) for axis in range(3)]
