"""A look at a scan: projections and sinograms on Slicer's own slice logics, the orbit as models, and nothing left of either."""

import numpy as np
import pytest
from acting_worker import small_scan

from SparseCTReconLib.geometry import Geometry

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def manager(host):
    yield host.show_views()
    host.hide_views()


@pytest.fixture
def scan_node(slicer):
    """A scan whose pixel (view 2, row 1, column 6) is the brightest, in a picture that is dark but for the view's number."""
    from SparseCTReconPanel.scan_node import createScanNode

    scan = small_scan()
    scan.projections[2, 1, 6] = 50
    node = createScanNode(scan, "Mine")
    node.GetDisplayNode().SetWindowLevelMinMax(0, 50)
    node.GetDisplayNode().SetInterpolate(False)
    return node


@pytest.fixture
def display(host):
    from SparseCTReconPanel.projection_view import ProjectionDisplay

    return ProjectionDisplay()


def nodes(slicer):
    return sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode"))


def centre_of_brightest(picture):
    """(to the right, upwards) in shares of the picture."""
    rows, columns = np.nonzero(picture[..., 0] > 200)
    return columns.mean() / picture.shape[1], rows.mean() / picture.shape[0]


def test_a_view_is_shown_with_u_to_the_right_and_v_upwards(manager, display, scan_node):
    display.show(scan_node)
    display.step(2, 1)
    right, up = centre_of_brightest(manager.shown("Red"))
    assert right == pytest.approx(6.5 / 8, abs=0.02)
    assert up == pytest.approx(1.5 / 6, abs=0.03)


def test_each_view_is_shown_in_its_turn(manager, display, scan_node):
    display.show(scan_node)
    seen = []
    for view in range(6):
        display.step(view, 3)
        seen.append(int(np.median(manager.shown("Red")[..., 0])))
    assert seen == pytest.approx([255 * view / 50 for view in range(6)], abs=2)


def test_the_sinogram_has_the_views_downwards(manager, display, scan_node):
    display.show(scan_node)
    display.step(0, 1)
    right, up = centre_of_brightest(manager.shown("Green"))
    assert right == pytest.approx(6.5 / 8, abs=0.02)
    assert up == pytest.approx(1 - 2.5 / 6, abs=0.03)
    display.step(0, 2)
    assert manager.shown("Green")[..., 0].max() < 200


def test_scrolling_in_a_slice_view_is_told(slicer, manager, scan_node):
    from SparseCTReconPanel.projection_view import ProjectionDisplay

    told = []
    display = ProjectionDisplay(lambda view, row: told.append((view, row)))
    display.show(scan_node)
    told.clear()
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    spacing = scan_node.GetSpacing()[2]
    red.SetSliceOffset(red.GetSliceOffset() - 3 * spacing)
    assert told[-1] == (3, 3)
    red.SetSliceOffset(red.GetSliceOffset() - 30 * spacing)
    assert told[-1] == (5, 3)


def test_what_was_shown_before_comes_back(slicer, manager, display, ct, scan_node):
    slicer.util.setSliceViewerLayers(background=ct)
    before = {name: manager.shown(name).copy() for name in ("Red", "Green", "Yellow")}
    display.show(scan_node)
    assert not np.array_equal(manager.shown("Red"), before["Red"])
    display.hide()
    for name, picture in before.items():
        assert np.array_equal(manager.shown(name), picture)


def test_what_the_user_has_put_in_their_place_stays(slicer, manager, display, ct, scan_node):
    display.show(scan_node)
    slicer.util.setSliceViewerLayers(background=ct)
    before = manager.shown("Red").copy()
    display.hide()
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() == ct.GetID()
    assert np.array_equal(manager.shown("Red"), before)


def test_a_scan_that_is_deleted_or_a_scene_that_is_closed_ends_the_display(slicer, manager, display, scan_node):
    display.show(scan_node)
    slicer.mrmlScene.RemoveNode(scan_node)
    display.step(1, 1)
    assert not display.shown
    display.hide()


def test_without_slice_views_nothing_is_shown_and_nothing_fails(slicer, host, display, scan_node):
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") + slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        slicer.mrmlScene.RemoveNode(node)
    display.show(scan_node)
    assert not display.shown
    display.step(1, 1)
    display.hide()


@pytest.fixture
def orbit(host):
    from SparseCTReconPanel.orbit import OrbitDisplay

    return OrbitDisplay()


def points(node):
    data = node.GetPolyData()
    return np.array([data.GetPoint(n) for n in range(data.GetNumberOfPoints())])


def geometry_of(**changes):
    return Geometry.preset("linac", 12, isocentre_mm=(10.0, -20.0, 300.0), **changes)


def test_source_detector_and_field_of_view_stand_in_ras(orbit):
    from SparseCTReconPanel.orbit import BEAM, DETECTOR, FIELD, PATH

    geometry = geometry_of(offset_mm=(40.0, 0.0))
    orbit.show(geometry)
    orbit.setView(3)
    to_ras = np.array([-1, -1, 1])
    assert np.allclose(points(orbit.node(PATH)), geometry.source * to_ras, atol=1e-3)
    assert np.allclose(points(orbit.node(BEAM))[0], geometry.source[3] * to_ras, atol=1e-3)
    corners = points(orbit.node(DETECTOR))
    assert np.allclose(corners.mean(axis=0), geometry.detector[3] * to_ras, atol=1e-3)
    assert np.allclose(corners[1] - corners[0], geometry.u[3] * to_ras * 256 * 1.6, atol=1e-3)
    assert np.allclose(corners[3] - corners[0], geometry.v[3] * to_ras * 256 * 1.6, atol=1e-3)
    radius, half_height = geometry.field_of_view()
    cylinder = points(orbit.node(FIELD)) - (-10, 20, 300)
    assert np.hypot(cylinder[:, 0], cylinder[:, 1]).max() == pytest.approx(radius, rel=1e-3)
    assert np.abs(cylinder[:, 2]).max() == pytest.approx(half_height, rel=1e-3)


def test_the_orbit_is_closed_where_it_is_a_circle_and_open_at_its_gap(orbit):
    from SparseCTReconPanel.orbit import PATH

    orbit.show(geometry_of())
    assert orbit.node(PATH).GetPolyData().GetLines().GetNumberOfConnectivityIds() == 13
    orbit.show(geometry_of(arc_rad=np.radians(200), start_rad=np.radians(300)))
    data = orbit.node(PATH).GetPolyData()
    assert data.GetLines().GetNumberOfConnectivityIds() == 12
    line = [data.GetCell(data.GetNumberOfCells() - 1).GetPointId(n) for n in range(12)]
    assert line == list(range(12))


def test_the_detector_shows_the_projection(orbit, slicer):
    from SparseCTReconPanel.orbit import DETECTOR
    from vtk.util.numpy_support import vtk_to_numpy

    orbit.show(geometry_of())
    pixels = np.linspace(0, 1, 12).reshape(3, 4)
    orbit.setView(1, pixels)
    port = orbit.node(DETECTOR).GetDisplayNode().GetTextureImageDataConnection()
    port.GetProducer().Update()
    image = port.GetProducer().GetOutputDataObject(0)
    assert image.GetDimensions() == (4, 3, 1)
    shown = vtk_to_numpy(image.GetPointData().GetScalars())[:, 0]
    assert np.abs(shown - 255 * pixels.ravel()).max() <= 1
    orbit.setView(1)
    assert orbit.node(DETECTOR).GetDisplayNode().GetTextureImageDataConnection() is None


def test_nothing_of_the_orbit_is_left_saved_or_listed(slicer, orbit, tmp_path):
    before = nodes(slicer)
    orbit.show(geometry_of())
    assert len(nodes(slicer)) == len(before) + 8
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()
    saved = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert "<Model" not in saved
    orbit.hide()
    assert nodes(slicer) == before


def test_an_orbit_of_which_the_user_has_deleted_a_part_goes_on(slicer, orbit):
    from SparseCTReconPanel.orbit import BEAM

    before = nodes(slicer)
    orbit.show(geometry_of())
    display = orbit.node(BEAM).GetDisplayNode()
    slicer.mrmlScene.RemoveNode(orbit.node(BEAM))
    slicer.mrmlScene.RemoveNode(display)
    orbit.setView(2)
    orbit.hide()
    assert nodes(slicer) == before


def test_the_orbit_moves_with_the_transform_of_the_ct(slicer, orbit):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    orbit.show(geometry_of(), transform.GetID())
    assert {orbit.node(part).GetTransformNodeID() for part in ("path", "beam", "detector", "field of view")} == {transform.GetID()}
