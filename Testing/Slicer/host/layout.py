"""A layout manager over Slicer's own layout logic and slice logics: real view nodes, real slicing, no window."""

from __future__ import annotations

import types

import slicer
import vtk


class LayoutManager:
    """The part of qSlicerLayoutManager that a module touches; what a slice view shows can be asked for as an array."""

    def __init__(self, scene, application_logic):
        self._scene = scene
        self._application_logic = application_logic
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._slices: dict[str, object] = {}
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def layoutLogic(self):
        return self._logic

    @property
    def layout(self) -> int:
        return self._logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(layout)
        for name in self.sliceViewNames():
            if name not in self._slices:
                self._slices[name] = self._new_slice_logic()
            node = self._scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
            if self._slices[name].GetSliceNode() is not node:
                self._slices[name].SetSliceNode(node)
                self._slices[name].ResizeSliceNode(200, 200)

    def sliceViewNames(self) -> list[str]:
        """Names of the slice views in the present layout."""
        nodes = self._logic.GetViewNodes()
        found = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
        return [node.GetLayoutName() for node in found if node.IsA("vtkMRMLSliceNode")]

    def sliceWidget(self, name: str):
        logic = self._slices[name]
        return types.SimpleNamespace(sliceLogic=lambda: logic, mrmlSliceNode=logic.GetSliceNode)

    def mrmlSliceLogics(self):
        logics = vtk.vtkCollection()
        for name in self.sliceViewNames():
            logics.AddItem(self._slices[name])
        return logics

    def resetThreeDViews(self) -> None:
        """There are no cameras here to be moved."""

    def shown(self, name: str):
        """What the slice view `name` shows, as RGBA [row, column, 4]."""
        from vtk.util.numpy_support import vtk_to_numpy

        logic = self._slices[name]
        logic.UpdatePipeline()
        port = logic.GetImageDataConnection()
        port.GetProducer().Update()
        image = port.GetProducer().GetOutputDataObject(port.GetIndex())
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)

    def close(self) -> None:
        """Let go of the view nodes, which the scene is about to forget."""
        for logic in self._slices.values():
            logic.SetSliceNode(None)
            logic.SetMRMLScene(None)
        self._slices.clear()
        self._logic.SetMRMLScene(None)

    def _new_slice_logic(self):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(self._scene)
        return logic
