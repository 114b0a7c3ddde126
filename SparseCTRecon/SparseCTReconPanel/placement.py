"""Where a volume's voxels are in the world, and which other volume's voxels lie at the same places."""

import slicer
import vtk
from slicer.i18n import tr as _

from .scene import exportVolume

SHEAR = 1e-3
"""How far the cosine between two axes of voxels may be from 0."""


def ijkToRas(volumeNode):
    """Voxel index (i, j, k) to RAS in mm [4, 4], below the transforms above the node."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def ijkToWorld(volumeNode):
    """Voxel index (i, j, k) to world RAS in mm [4, 4], through the transforms above the node.

    :raises ValueError: if one of these is not linear, in one sentence.
    """
    matrix, toWorld = ijkToRas(volumeNode), vtk.vtkMatrix4x4()
    transformNode = volumeNode.GetParentTransformNode()
    if transformNode:
        if not transformNode.IsTransformToWorldLinear():
            raise ValueError(
                _("{name} is under a transform that bends it: harden the transform, or take the volume out of it.").format(
                    name=volumeNode.GetName()
                )
            )
        transformNode.GetMatrixTransformToWorld(toWorld)
        matrix = slicer.util.arrayFromVTKMatrix(toWorld) @ matrix
    return matrix


def hasVoxels(volumeNode):
    image = volumeNode.GetImageData() if volumeNode else None
    return image is not None and image.GetNumberOfPoints() > 0


def exportInWorld(volumeNode, path):
    """Write the node's voxels at their place in the world, with its attributes, to an NRRD file; the scene does not change."""
    if not volumeNode.GetParentTransformNode():
        exportVolume(volumeNode, path)
        return
    import numpy as np

    matrix = ijkToWorld(volumeNode)
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR:
        raise ValueError(
            _("{name} is sheared by its transform: harden the transform, or take the volume out of it.").format(name=volumeNode.GetName())
        )
    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.SetName(volumeNode.GetName())
    copy.SetAndObserveImageData(volumeNode.GetImageData())
    copy.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    for name in volumeNode.GetAttributeNames():
        copy.SetAttribute(name, volumeNode.GetAttribute(name))
    exportVolume(copy, path)
