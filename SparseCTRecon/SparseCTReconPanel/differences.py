"""Difference volumes: a result minus its reference on the result's voxels, in colours that diverge from zero."""

import json

import slicer
import vtk
from slicer.i18n import tr as _

from .placement import hasVoxels, ijkToWorld
from .scene import PREFIX, SLAB_BYTES, fileBeside, removeNode

KIND = PREFIX + "difference"
MADE_AT = PREFIX + "difference_made_at"
"""Attribute of a difference volume: the result's voxel indices to the reference's when it was made."""
RANGE_HU = 300.0
COLORS = ("#d6f4ff", "#3aa6e0", "#1d4e79", "#101418", "#8a3b1c", "#f08a3c", "#fff0d6")
"""From far below the reference to far above it; dark where both agree."""

_COLOR_ENTRIES = 255
_OUTSIDE = -1e30


def isDifference(node):
    return node.GetAttribute(KIND) is not None


def difference(referenceNode, resultNode):
    """Make (or bring up to date) the volume node with `resultNode` minus `referenceNode`, and return it."""
    *_steps, node = differenceInSteps(referenceNode, resultNode)
    return node


def differenceInSteps(referenceNode, resultNode):
    """Do as `difference` in small steps: an iterator that yields None after each slab and at last the node.

    :raises ValueError: if one has no voxels, is not in HU, is bent by a transform, or is deleted meanwhile, or the two do not overlap.
    """
    import numpy as np

    for node in (referenceNode, resultNode):
        _check(node)
    voxels = slicer.util.arrayFromVolume(resultNode)
    image, values = _emptyFloatImage(voxels.shape)
    sampler = _Sampler(referenceNode, resultNode)
    planes = max(1, SLAB_BYTES // (4 * voxels[0].size))
    covered = 0
    for first in range(0, len(voxels), planes):
        slab = slice(first, first + planes)
        reference = sampler.slab(first, min(first + planes, len(voxels)))
        within = reference > _OUTSIDE / 2
        np.subtract(voxels[slab], reference, out=values[slab], dtype=np.float32, casting="unsafe")
        values[slab][~within] = 0
        covered += int(np.count_nonzero(within))
        yield None
    if not covered:
        raise ValueError(
            _("{reference} and {result} do not overlap: choose the CT that the scan was made of.").format(
                reference=referenceNode.GetName(), result=resultNode.GetName()
            )
        )
    for node in (referenceNode, resultNode):
        if not node.GetScene():
            raise ValueError(_("{name} was deleted: its difference was not made.").format(name=node.GetName()))
    yield _put(image, referenceNode, resultNode, sampler.toReference)


def setRange(node, rangeHU):
    """Let the colours end at plus and minus `rangeHU`."""
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(2 * rangeHU, 0)


def findDifference(referenceNode, resultNode):
    """The difference volume of these two that is in the scene already, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if isDifference(node) and _pair(node) == (referenceNode.GetID(), resultNode.GetID()):
            return node
    return None


def isUpToDate(referenceNode, resultNode):
    """Whether the difference volume of these two is in the scene and neither has got new voxels or been moved since."""
    node = findDifference(referenceNode, resultNode)
    if node is None or any(one.GetImageData().GetMTime() > node.GetImageData().GetMTime() for one in (referenceNode, resultNode)):
        return False
    made = json.loads(node.GetAttribute(MADE_AT) or "null")
    return made is not None and _same(made, _toReference(referenceNode, resultNode)) and _same(ijkToWorld(node), ijkToWorld(resultNode))


def removeDifferences():
    """Take all difference volumes out of the scene."""
    for node in filter(isDifference, slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")):
        removeNode(node)


def colorNode():
    """The scene's diverging colours, made where they are not there yet."""
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if isDifference(node):
            return node
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _("Difference (blue below, orange above)"))
    node.SetTypeToUser()
    node.SetNumberOfColors(_COLOR_ENTRIES)
    for entry in range(_COLOR_ENTRIES):
        node.SetColor(entry, *_mixed(entry / (_COLOR_ENTRIES - 1)), 1.0)
    node.SetNamesFromColors()
    node.SetAttribute(KIND, "colors")
    return node


def _check(node):
    if not hasVoxels(node):
        raise ValueError(_("{name} has no voxels.").format(name=node.GetName()))
    unit = node.GetAttribute(PREFIX + "unit") or "HU"
    if unit != "HU":
        raise ValueError(_("{name} holds values in {unit}: only volumes in HU are subtracted.").format(name=node.GetName(), unit=unit))


def _mixed(position):
    """Colour (red, green, blue) at a position from 0 to 1 along COLORS."""
    place = position * (len(COLORS) - 1)
    low = min(int(place), len(COLORS) - 2)
    a, b = ([int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)] for color in COLORS[low : low + 2])
    return [x + (place - low) * (y - x) for x, y in zip(a, b)]


def _pair(node):
    return node.GetNodeReferenceID(PREFIX + "reference"), node.GetNodeReferenceID(PREFIX + "result")


def _toReference(referenceNode, resultNode):
    """The result's voxel indices to the reference's [4, 4]."""
    import numpy as np

    return np.linalg.inv(ijkToWorld(referenceNode)) @ ijkToWorld(resultNode)


def _same(a, b):
    import numpy as np

    return np.abs(np.subtract(a, b)).max() < 1e-6


def _put(image, referenceNode, resultNode, toReference):
    node = findDifference(referenceNode, resultNode)
    matrix = vtk.vtkMatrix4x4()
    resultNode.GetIJKToRASMatrix(matrix)
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(
            _("{result} minus {reference}").format(result=resultNode.GetName(), reference=referenceNode.GetName())
        )
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetAttribute(KIND, "volume")
        node.SetNodeReferenceID(PREFIX + "reference", referenceNode.GetID())
        node.SetNodeReferenceID(PREFIX + "result", resultNode.GetID())
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAndObserveColorNodeID(colorNode().GetID())
        setRange(node, RANGE_HU)
        _addLegend(node)
        fileBeside(node, resultNode)
    with slicer.util.NodeModify(node):
        node.SetAndObserveImageData(image)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(resultNode.GetTransformNodeID())
        node.SetAttribute(MADE_AT, json.dumps(toReference.tolist()))
    return node


def _addLegend(node):
    """A bar beside the pictures that says which colour is how many HU."""
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node.GetDisplayNode())
    legend.SetTitleText(_("Difference, HU"))
    legend.SetLabelFormat("%.0f")


def _emptyFloatImage(shape):
    from vtk.util.numpy_support import vtk_to_numpy

    image = vtk.vtkImageData()
    image.SetDimensions(shape[::-1])
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    return image, vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


class _Sampler:
    """The reference's values at the voxels of a result, slab by slab."""

    def __init__(self, referenceNode, resultNode):
        import numpy as np

        self.toReference = toReference = _toReference(referenceNode, resultNode)
        self._shape = slicer.util.arrayFromVolume(resultNode).shape
        same = np.abs(toReference - np.eye(4)).max() < 1e-3 and slicer.util.arrayFromVolume(referenceNode).shape == self._shape
        self._voxels = slicer.util.arrayFromVolume(referenceNode) if same else None
        self._reslice = reslice = vtk.vtkImageReslice()
        reslice.SetInputData(referenceNode.GetImageData())
        reslice.SetResliceAxes(slicer.util.vtkMatrixFromArray(toReference))
        reslice.SetOutputOrigin(0, 0, 0)
        reslice.SetOutputSpacing(1, 1, 1)
        reslice.SetOutputScalarType(vtk.VTK_FLOAT)
        reslice.SetBackgroundLevel(_OUTSIDE)
        reslice.SetInterpolationModeToLinear()

    def slab(self, first, stop):
        """Planes `first` to `stop` [z, y, x]; far below any HU outside the reference."""
        if self._voxels is not None:
            return self._voxels[first:stop]
        from vtk.util.numpy_support import vtk_to_numpy

        _z, rows, columns = self._shape
        self._reslice.SetOutputExtent(0, columns - 1, 0, rows - 1, first, stop - 1)
        self._reslice.Update()
        return vtk_to_numpy(self._reslice.GetOutput().GetPointData().GetScalars()).reshape(stop - first, rows, columns)
