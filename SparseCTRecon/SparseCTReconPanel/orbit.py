"""The orbit in 3D: the source's positions, its beam onto the detector in one view, and the field of view, as models in RAS."""

import slicer
import vtk
from slicer.i18n import tr as _

from .scene import removeNode

PATH, BEAM, DETECTOR, FIELD = "path", "beam", "detector", "field of view"
_TITLES = {PATH: _("Source positions"), BEAM: _("Beam"), DETECTOR: _("Detector"), FIELD: _("Field of view")}
_COLORS = {PATH: (0.95, 0.66, 0.24), BEAM: (0.95, 0.85, 0.45), DETECTOR: (0.55, 0.65, 0.75), FIELD: (0.23, 0.65, 0.88)}
_SIDES = 64


class OrbitDisplay:
    """Models that are not saved with the scene and not listed in it; they are gone after `hide`."""

    def __init__(self):
        self._ids = {}
        self._geometry = None
        self._texture = vtk.vtkTrivialProducer()

    @property
    def shown(self):
        return any(self._node(part) for part in _TITLES)

    def node(self, part):
        """The model node of PATH, BEAM, DETECTOR or FIELD; None while it is not shown."""
        return self._node(part)

    def show(self, geometry, transformNodeID=None):
        """Show the orbit of a Geometry; what is in LPS there is in the coordinates of the transform node, where there is one."""
        self._geometry = geometry
        parts = {PATH: _path(geometry), FIELD: _cylinder(geometry)}
        for part in _TITLES:
            node = self._node(part) or self._create(part)
            node.SetAndObserveTransformNodeID(transformNodeID)
            if part in parts:
                node.SetAndObservePolyData(parts[part])
        self.setView(0)

    def setView(self, view, pixels=None):
        """Put beam and detector where they are in a view; `pixels` [v, u], 0 to 1, are shown on the detector."""
        if not self.shown:
            return
        corners = _corners(self._geometry, view)
        for part, data in ((BEAM, _beam(_ras(self._geometry.source[view]), corners)), (DETECTOR, _rectangle(corners))):
            if self._node(part):
                self._node(part).SetAndObservePolyData(data)
        if self._node(DETECTOR):
            self._paint(self._node(DETECTOR).GetDisplayNode(), pixels)

    def hide(self):
        for part in _TITLES:
            if self._node(part):
                removeNode(self._node(part))
        self._ids, self._geometry = {}, None

    def _node(self, part):
        return slicer.mrmlScene.GetNodeByID(self._ids[part]) if part in self._ids else None

    def _create(self, part):
        node = slicer.vtkMRMLModelNode()
        node.SetName(_TITLES[part])
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetSelectable(False)
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetColor(*_COLORS[part])
        display.SetLighting(part == FIELD)
        display.SetBackfaceCulling(False)
        display.SetVisibility2D(part == FIELD)
        display.SetOpacity({FIELD: 0.15, DETECTOR: 0.9}.get(part, 1.0))
        display.SetLineWidth(2)
        display.SetPointSize(7)
        self._ids[part] = node.GetID()
        return node

    def _paint(self, display, pixels):
        if pixels is None:
            display.SetTextureImageDataConnection(None)
            return
        self._texture.SetOutput(_grayImage(pixels))
        display.SetTextureImageDataConnection(self._texture.GetOutputPort())
        display.Modified()


def _ras(points):
    return points * (-1.0, -1.0, 1.0)


def _corners(geometry, view):
    """RAS positions (4, 3) of the detector's corners: first row and column, then around."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    u, v = geometry.u[view] * (nu * du / 2), geometry.v[view] * (nv * dv / 2)
    return [_ras(geometry.detector[view] + a * u + b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def _polyData(points, vertices=(), lines=(), polygons=()):
    data = vtk.vtkPolyData()
    held = vtk.vtkPoints()
    for point in points:
        held.InsertNextPoint(*point)
    data.SetPoints(held)
    for cells, put in ((vertices, data.SetVerts), (lines, data.SetLines), (polygons, data.SetPolys)):
        array = vtk.vtkCellArray()
        for cell in cells:
            array.InsertNextCell(len(cell))
            for index in cell:
                array.InsertCellPoint(index)
        put(array)
    return data


def _path(geometry):
    """The sources as points, joined in the order in which they stand about the isocentre."""
    views = range(geometry.views)
    order = sorted(views, key=geometry.gantry_angles_rad.tolist().__getitem__)
    line = [*order, order[0]] if geometry.is_full_circle() else _fromTheGap(order, geometry.gantry_angles_rad)
    return _polyData(_ras(geometry.source), vertices=[[view] for view in views], lines=[line] if len(line) > 1 else [])


def _fromTheGap(order, angles):
    """The views in `order` (by angle), beginning behind the widest gap."""
    import numpy as np

    sorted_ = angles[order]
    gaps = np.diff(sorted_, prepend=sorted_[-1] - 2 * np.pi)
    first = int(np.argmax(gaps))
    return order[first:] + order[:first]


def _beam(source, corners):
    return _polyData([source, *corners], lines=[[0, 1], [0, 2], [0, 3], [0, 4], [1, 2, 3, 4, 1]])


def _rectangle(corners):
    data = _polyData(corners, polygons=[[0, 1, 2, 3]])
    places = vtk.vtkFloatArray()
    places.SetNumberOfComponents(2)
    places.SetName("TextureCoordinates")
    for place in ((0, 0), (1, 0), (1, 1), (0, 1)):
        places.InsertNextTuple2(*place)
    data.GetPointData().SetTCoords(places)
    return data


def _cylinder(geometry):
    """The field of view: closed, about the patient's long axis through the isocentre."""
    radius, halfHeight = geometry.field_of_view()
    source = vtk.vtkCylinderSource()
    source.SetRadius(max(radius, 1e-3))
    source.SetHeight(max(2 * halfHeight, 1e-3))
    source.SetResolution(_SIDES)
    place = vtk.vtkTransform()
    x, y, z = geometry.isocentre_mm
    place.Translate(-x, -y, z)
    place.RotateX(90)
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetTransform(place)
    moved.SetInputConnection(source.GetOutputPort())
    moved.Update()
    return moved.GetOutput()


def _grayImage(pixels):
    import numpy as np
    from vtk.util.numpy_support import vtk_to_numpy

    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    values = (np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = values.reshape(-1, 1)
    return image
