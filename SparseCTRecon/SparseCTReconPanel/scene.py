"""Between the scene and the library: volumes out and in, and the scene as it was when a run does not end well."""

import os
from contextlib import suppress

import slicer
import vtk

PREFIX = "SparseCTRecon."
NAMED = PREFIX + "named_preview"
"""Attribute of a volume that a method shows beside its result, as the worker writes it: the volume's name."""
RESULT_ROLE = PREFIX + "result"
"""Role of the reference to a result from what came about on the way to it."""
SLAB_BYTES = 8 << 20


def gridOf(volumeNode):
    """The node's voxels as the library's Grid.to_dict (patient LPS)."""
    import numpy as np

    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    toLps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(toLps[:3, :3], axis=0)
    return {
        "size": list(volumeNode.GetImageData().GetDimensions()),
        "spacing_mm": spacing.tolist(),
        "origin_mm": toLps[:3, 3].tolist(),
        "direction": (toLps[:3, :3] / spacing).ravel().tolist(),
    }


def exportVolume(volumeNode, path):
    """Write the node's voxels with their place to an NRRD file; the scene does not change."""
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(volumeNode) or not os.path.isfile(path):
        raise OSError(f"{volumeNode.GetName()} could not be written to {path}: is the disk full, or the folder read-only?")


def _emptyImage(array):
    """A vtkImageData for voxels like those of `array` [z, y, x], and a view of its memory as an array."""
    from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(array.dtype.newbyteorder("=")), 1)
    return image, vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)


def _node(nodeID):
    return slicer.mrmlScene.GetNodeByID(nodeID) if nodeID else None


class OutputVolume:
    """The one volume node that a run writes to, held by its ID, and what it was before.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or None
        The node to write to; None for a new one, made when the first voxels arrive.
    inputNode : vtkMRMLScalarVolumeNode or None
        The CT: the result is shown and filed like it.
    name : str
        Name of a new node.
    shown : bool
        Whether the slice views show it as soon as there are voxels.
    """

    def __init__(self, node=None, inputNode=None, name="Reconstruction", shown=True):
        self._id = node.GetID() if node else None
        self._inputID = inputNode.GetID() if inputNode else None
        self.name = node.GetName() if node else name
        self._before = None
        self._begun = False
        self._layers = None
        self._shown = shown

    def beside(self, name):
        """Where the voxels go of a volume that the method shows, by `name`, beside this one: to a node that is not put in front, the
        same one as in an earlier run that made this volume."""
        made = OutputVolume(_companion(self.node, name), name=f"{self.node.GetName() if self.node else self.name} {name}", shown=False)
        made._inputID = self._inputID
        made.begin()
        return made

    def begin(self):
        """Remember what the node holds: from now on it may be written to."""
        self._begun = True
        self._before = _Before(self.node) if self.node else None

    @property
    def node(self):
        """The node, looked up again; None before the first voxels and once it has been deleted."""
        return _node(self._id)

    @property
    def deleted(self):
        return self._id is not None and self.node is None

    def update(self, array, ijkToRas):
        """Put voxels [z, y, x] into the node and show it the first time; the user's window and level stay."""
        for _slab in self.handOver(array, ijkToRas):
            pass
        return self.node

    def handOver(self, array, ijkToRas):
        """Do as `update` in small steps: an iterator that copies a slab each time and puts the whole into the node at its end."""
        image, voxels = _emptyImage(array)
        planes = max(1, SLAB_BYTES // array[0].nbytes)
        for first in range(0, len(array), planes):
            voxels[first : first + planes] = array[first : first + planes]
            yield
        first = self._layers is None
        node = self.node or self._create()
        if first:
            self._prepareDisplay(node)
        with slicer.util.NodeModify(node):
            node.SetAndObserveImageData(image)
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
            inputNode = _node(self._inputID)
            if first and (inputNode or not self._inputID):
                node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID() if inputNode else None)
        if first:
            self._layers = _show(node) if self._shown else []

    def finish(self, array, ijkToRas, attributes):
        """Put the final voxels and how they were made into the node, and file it under the input's study."""
        self.update(array, ijkToRas)
        return self.describe(attributes)

    def describe(self, attributes):
        """Let the node say how its voxels were made, and file it under the input's study."""
        node = self.node
        for name in [n for n in node.GetAttributeNames() if n.startswith(PREFIX)]:
            node.RemoveAttribute(name)
        for name, value in attributes.items():
            node.SetAttribute(name if name.startswith(PREFIX) else PREFIX + name, value)
        inputNode = _node(self._inputID)
        if inputNode:
            node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
            node.SetNodeReferenceID(PREFIX + "ct", inputNode.GetID())
            fileBeside(node, inputNode)
        elif not self._inputID:
            node.SetNodeReferenceID(PREFIX + "ct", None)
        return node

    def keep(self):
        """Let go of what the node held before: the run has ended well."""
        self._before = None

    def restore(self):
        """Leave the scene as it was before the run."""
        if not self._begun:
            return
        for compositeID, backgroundID in self._layers or []:
            with suppress(AttributeError):
                _node(compositeID).SetBackgroundVolumeID(backgroundID)
        node = self.node
        if node and self._before:
            if self._layers is not None:
                self._before.putBack(node)
        elif node:
            removeNode(node)
        self._layers = None

    def _create(self):
        name = slicer.mrmlScene.GenerateUniqueName(self.name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        self._id = node.GetID()
        return node

    def _prepareDisplay(self, node):
        """Fix window and level before there are voxels: Slicer would look for them in the histogram, 0.3 s at 256^3."""
        if node.GetDisplayNode():
            return
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        inputNode = _node(self._inputID)
        model = inputNode.GetDisplayNode() if inputNode else None
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(*((model.GetWindow(), model.GetLevel()) if model else (1500, 200)))


def _companion(resultNode, name):
    """The volume that a method has shown by `name` when it made `resultNode`; None if there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if resultNode else ():
        if node.GetAttribute(NAMED) == name and node.GetNodeReferenceID(RESULT_ROLE) == resultNode.GetID():
            return node
    return None


class _Before:
    """What a node held before a run wrote to it."""

    def __init__(self, node):
        self._image = node.GetImageData()
        self._matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(self._matrix)
        self._transformID = node.GetTransformNodeID()
        self._displayID = node.GetDisplayNodeID()
        self._ctID = node.GetNodeReferenceID(PREFIX + "ct")
        self._attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}

    def putBack(self, node):
        with slicer.util.NodeModify(node):
            node.SetAndObserveImageData(self._image)
            node.SetIJKToRASMatrix(self._matrix)
            node.SetAndObserveTransformNodeID(self._transformID)
            node.SetNodeReferenceID(PREFIX + "ct", self._ctID)
            for name in set(node.GetAttributeNames()) - set(self._attributes):
                node.RemoveAttribute(name)
            for name, value in self._attributes.items():
                node.SetAttribute(name, value)
        if not self._displayID and node.GetDisplayNode():
            slicer.mrmlScene.RemoveNode(node.GetDisplayNode())


def _show(node):
    """Show the node in the slice views; return what they showed, as (ID of the view's composite node, ID of the volume)."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    layers = [(composite.GetID(), composite.GetBackgroundVolumeID()) for composite in composites]
    nothingShown = not any(volumeID for _compositeID, volumeID in layers)
    slicer.util.setSliceViewerLayers(background=node, fit=nothingShown)
    return layers


def removeNode(node):
    """Remove a node with the display and storage nodes that came with it; the subject hierarchy follows by itself."""
    displays = [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())] if node.IsA("vtkMRMLDisplayableNode") else []
    storages = [node.GetNthStorageNode(i) for i in range(node.GetNumberOfStorageNodes())] if node.IsA("vtkMRMLStorableNode") else []
    slicer.mrmlScene.RemoveNode(node)
    for companion in filter(None, displays + storages):
        if companion.GetScene():
            slicer.mrmlScene.RemoveNode(companion)


def fileBeside(node, inputNode):
    """Put the node under the input's study in the subject hierarchy, or beside the input where there is no study."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    inputItem = hierarchy.GetItemByDataNode(inputNode)
    if not inputItem:
        return
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    parent = hierarchy.GetItemAncestorAtLevel(inputItem, level) or hierarchy.GetItemParent(inputItem)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
