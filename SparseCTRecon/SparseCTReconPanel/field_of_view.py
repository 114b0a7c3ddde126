"""The field of view marked in a result: an outline of the voxels that enough views see, where those are not all."""

import slicer
import vtk
from slicer.i18n import tr as _

from .nrrd import readNrrd
from .scene import PREFIX, RESULT_ROLE, fileBeside, removeNode

KIND = PREFIX + "field_of_view"
"""Attribute of these segmentations; its value is the part of the result's voxels that enough views see."""
FILE = "field-of-view.nrrd"
COLOR = (0.23, 0.65, 0.88)
ENOUGH = 1
"""Least label of a voxel that enough views see, as in SparseCTReconLib.operators.field_of_view, which brings more than numpy."""

_LINE_PIXELS = 2


def importFieldOfView(path, resultNode, seen):
    """Mark in the scene what enough views see of a result; a mark of the voxels that it had before goes.

    :param path: label map on the voxels of the result.
    :param seen: part of these voxels, 0 to 1, that enough views see; None where nobody knows.
    :return: segmentation node, the only such outline that is shown; None where all voxels are seen.
    """
    removeFieldOfView(resultNode)
    if seen is None or seen >= 1:
        return None
    labels, ijkToRas, _attributes = readNrrd(path)
    name = slicer.mrmlScene.GenerateUniqueName(_("{result} field of view").format(result=resultNode.GetName()))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAttribute(KIND, f"{seen:.6f}")
    node.SetNodeReferenceID(RESULT_ROLE, resultNode.GetID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(resultNode)
    node.AddSegmentFromBinaryLabelmapRepresentation(_image(labels >= ENOUGH, ijkToRas), _("Field of view"), COLOR)
    node.SetAndObserveTransformNodeID(resultNode.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility3D(False)
    display.SetSliceIntersectionThickness(_LINE_PIXELS)
    fileBeside(node, resultNode)
    show(resultNode)
    return node


def fieldOfViewOf(resultNode):
    """The segmentation node with what enough views see of a result; None where it has none."""
    return next((node for node in outlines() if resultNode and node.GetNodeReferenceID(RESULT_ROLE) == resultNode.GetID()), None)


def seenPart(node):
    """Part of the result's voxels that enough views see, 0 to 1."""
    return float(node.GetAttribute(KIND))


def show(resultNode, shown=True):
    """Show or hide the outline of a result. Those of others are hidden: they would lie over whatever is looked at."""
    own = fieldOfViewOf(resultNode)
    for node in outlines():
        if node.GetDisplayNode():
            node.GetDisplayNode().SetVisibility(shown and node is own)


def removeFieldOfView(resultNode):
    """Take the outline of a result out of the scene."""
    node = fieldOfViewOf(resultNode)
    if node:
        removeNode(node)


def outlines():
    """All outlines of the scene."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node.GetAttribute(KIND)]


def _image(mask, ijkToRas):
    """A mask [z, y, x] as segmentations hold it."""
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    image.SetDimensions(mask.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)[:] = mask
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
    return image
