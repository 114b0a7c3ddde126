"""The grid of a region of interest: its box, along its own axes, in the coordinates of the input."""

import slicer
import vtk
from slicer.i18n import tr as _


def gridOfRegion(roiNode, voxelSize, inputNode=None):
    """Voxels that fill the box of a markups ROI, as the library's Grid.to_dict (patient LPS).

    :param roiNode: vtkMRMLMarkupsROINode; its axes are the grid's.
    :param voxelSize: edge of the cubic voxels in mm.
    :param inputNode: volume whose parent transform the result will have; the grid is in the coordinates below that.
    :raises ValueError: if the region is empty or transformed in a way that a grid cannot follow, in one sentence.
    """
    import numpy as np

    size = np.array(roiNode.GetSize())
    boxToRas = _toInput(inputNode) @ slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    scale = np.linalg.norm(boxToRas[:3, :3], axis=0)
    if not (size > 0).all() or not (scale > 0).all():
        raise ValueError(_("The region {name} is empty: give it a size, or choose none.").format(name=roiNode.GetName()))
    axes = boxToRas[:3, :3] / scale
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        raise ValueError(_("The region {name} is sheared by its transform: choose another one.").format(name=roiNode.GetName()))
    toLps = np.diag([-1.0, -1.0, 1.0])
    # A box is symmetric: with x and y turned round, one along the patient's axes has those of a CT.
    return boxGrid(size * scale, toLps @ boxToRas[:3, 3], _rightHanded(toLps @ axes @ toLps), voxelSize)


def place(roiNode, grid, inputNode=None):
    """Put a new ROI into the middle of a grid (a Grid as a dict), along its axes and half as long; moved with the input."""
    import numpy as np

    toLps = np.diag([-1.0, -1.0, 1.0])
    size, spacing = np.array(grid["size"]), np.array(grid["spacing_mm"])
    axes = np.array(grid["direction"]).reshape(3, 3)
    boxToRas = np.eye(4)
    boxToRas[:3, :3] = toLps @ axes @ toLps
    boxToRas[:3, 3] = toLps @ (np.array(grid["origin_mm"]) + axes @ (spacing * (size - 1) / 2))
    roiNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(boxToRas))
    roiNode.SetSize(*(size * spacing / 2))
    roiNode.CreateDefaultDisplayNodes()
    if inputNode:
        roiNode.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())


def boxGrid(extent, centre, axes, voxelSize):
    """Cubic voxels that fill a box: edges in mm along the columns of `axes` about `centre` (LPS)."""
    import numpy as np

    count = np.maximum(np.ceil(np.asarray(extent) / voxelSize - 1e-6), 1).astype(int)
    origin = np.asarray(centre) - axes @ ((count - 1) * voxelSize / 2)
    return {
        "size": count.tolist(),
        "spacing_mm": [float(voxelSize)] * 3,
        "origin_mm": origin.tolist(),
        "direction": axes.ravel().tolist(),
    }


def _rightHanded(axes):
    """The same box with axes that a volume node has without mirroring; the box is symmetric about its centre."""
    import numpy as np

    return axes if np.linalg.det(axes) > 0 else axes * [1, 1, -1]


def _toInput(inputNode):
    """Matrix from world RAS to the RAS below the input's parent transform."""
    import numpy as np

    transform = inputNode.GetParentTransformNode() if inputNode else None
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise ValueError(_("{name} lies under a warp: a region cannot be carried into it.").format(name=inputNode.GetName()))
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformFromWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
