"""Pictures of what is in the scene, for documentation: slices by Slicer's own slice logics, models and charts by plain VTK."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtGui
from vtk.util.numpy_support import vtk_to_numpy

BACKGROUND = ((0.757, 0.765, 0.910), (0.455, 0.471, 0.745))
"""Below and above, as in Slicer's 3D views."""


def slice_image(manager, name: str) -> QtGui.QImage:
    """What a slice view shows, as large as its slice node says."""
    return _image(manager.shown(name))


def models_image(size: tuple[int, int], azimuth: float = 30.0, elevation: float = 25.0, zoom: float = 1.8) -> QtGui.QImage:
    """The visible models, seen from in front of the patient and aside."""
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(*BACKGROUND[0])
    renderer.SetBackground2(*BACKGROUND[1])
    renderer.SetGradientBackground(True)
    for node in slicer.util.getNodesByClass("vtkMRMLModelNode"):
        display = node.GetDisplayNode()
        if display and display.GetVisibility() and node.GetPolyData():
            renderer.AddActor(_actor(node, display))
    renderer.ResetCamera()
    camera = renderer.GetActiveCamera()
    camera.SetPosition(*(here + there for here, there in zip(camera.GetFocalPoint(), (0, 1, 0))))
    camera.SetViewUp(0, 0, 1)
    camera.Azimuth(azimuth)
    camera.Elevation(elevation)
    renderer.ResetCamera()
    camera.Zoom(zoom)
    return _rendered(renderer, size)


def chart_image(chart, size: tuple[int, int]) -> QtGui.QImage:
    """The series of a chart node."""
    view = vtk.vtkContextView()
    drawn = vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    drawn.SetTitle(chart.GetTitle() or "")
    for axis, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        drawn.GetAxis(axis).SetTitle(title or "")
    for number in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(number)
        line = drawn.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.GetPen().SetColorF(*series.GetColor())
        line.SetWidth(series.GetLineWidth())
        line.SetMarkerStyle(series.GetMarkerStyle())
    return _rendered(view.GetRenderer(), size, view.GetRenderWindow())


def _actor(node, display):
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputData(node.GetPolyData())
    mapper.ScalarVisibilityOff()
    actor = vtk.vtkActor()
    actor.SetMapper(mapper)
    look = actor.GetProperty()
    look.SetColor(*display.GetColor())
    look.SetOpacity(display.GetOpacity())
    look.SetLineWidth(display.GetLineWidth())
    look.SetPointSize(display.GetPointSize())
    look.SetLighting(display.GetLighting())
    if display.GetTextureImageDataConnection():
        texture = vtk.vtkTexture()
        texture.SetInputConnection(display.GetTextureImageDataConnection())
        actor.SetTexture(texture)
        look.SetColor(1, 1, 1)
    return actor


def _rendered(renderer, size, window=None) -> QtGui.QImage:
    window = window or vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(8)
    window.SetSize(*size)
    if not window.HasRenderer(renderer):
        window.AddRenderer(renderer)
    window.Render()
    grabbed = vtk.vtkWindowToImageFilter()
    grabbed.SetInput(window)
    grabbed.Update()
    image = grabbed.GetOutput()
    columns, rows, _planes = image.GetDimensions()
    return _image(vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1))


def _image(pixels) -> QtGui.QImage:
    """From RGB or RGBA [row, column, channel] over black, the lowest row first."""
    import numpy as np

    covered = pixels[..., 3:] / 255 if pixels.shape[-1] == 4 else 1
    upright = np.ascontiguousarray((pixels[..., :3] * covered).astype(np.uint8)[::-1])
    rows, columns, _ = upright.shape
    return QtGui.QImage(upright.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888).copy()
