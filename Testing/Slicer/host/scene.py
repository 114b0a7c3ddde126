"""The real MRML scene of slicer-core, wired as Slicer's application does it."""

from __future__ import annotations

import types

import slicer

# Module: class of its logic
_LOGICS = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class Scene:
    """A scene with its application logic, data IO and module logics.

    Parameters
    ----------
    folder : path
        Where the scene's cache and temporary files go.
    """

    def __init__(self, folder):
        self.mrml = slicer.vtkMRMLScene()
        slicer.mrmlScene = self.mrml
        self._add_data_io(folder)
        self._add_logics(folder)
        self._add_views()
        self._items = {}
        # What Slicer's subject hierarchy plugins (Qt) do: every node that shows up in the data tree has an item.
        self.mrml.AddObserver(self.mrml.NodeAddedEvent, lambda *_: self._file_new_nodes())
        self.mrml.AddObserver(self.mrml.NodeRemovedEvent, lambda *_: self._unfile_removed_nodes())
        self.mrml.AddObserver(self.mrml.EndCloseEvent, lambda *_: self._begin_again())

    def _add_data_io(self, folder):
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(folder))
        self._cache.SetMRMLScene(self.mrml)
        self.mrml.SetCacheManager(self._cache)
        self._data_io = slicer.vtkDataIOManager()
        self._data_io.SetCacheManager(self._cache)
        self.mrml.SetDataIOManager(self._data_io)
        self._data_io_logic = slicer.vtkDataIOManagerLogic()
        self._data_io_logic.SetMRMLScene(self.mrml)

    def _add_logics(self, folder):
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.application_logic.SetTemporaryPath(str(folder))
        self.application_logic.SetMRMLScene(self.mrml)
        # The colours that need no file of Slicer's installation.
        colors = slicer.vtkSlicerColorLogic()
        colors.SetMRMLScene(self.mrml)
        colors.AddDefaultColorNodes()
        self.application_logic.SetModuleLogic("Colors", colors)
        self._logics = {"Colors": colors}
        for name, class_name in _LOGICS.items():
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(self.application_logic)
            logic.SetMRMLScene(self.mrml)
            self.application_logic.SetModuleLogic(name, logic)
            self._logics[name] = logic
            setattr(slicer.modules, name.lower(), types.SimpleNamespace(logic=lambda logic=logic: logic))

    def _begin_again(self):
        self._items.clear()
        self._add_views()
        self._logics["Colors"].AddDefaultColorNodes()

    def _add_views(self):
        for name in ("Red", "Green", "Yellow"):
            if not self.mrml.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}"):
                node = slicer.vtkMRMLSliceCompositeNode()
                node.SetSingletonTag(name)
                node.SetLayoutName(name)
                self.mrml.AddNode(node)

    def _file_new_nodes(self):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.mrml)
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode", self.mrml):
            if not node.GetHideFromEditors() and not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
            self._items[node.GetID()] = hierarchy.GetItemByDataNode(node)

    def _unfile_removed_nodes(self):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.mrml)
        for node_id in [one for one in self._items if not self.mrml.GetNodeByID(one)]:
            item = self._items.pop(node_id)
            if item and not self.mrml.IsClosing():
                hierarchy.RemoveItem(item, False, False)

    def close(self):
        self.mrml.Clear(True)
