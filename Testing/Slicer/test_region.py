"""A region of interest: the box that is reconstructed, along its own axes, from the node to the job and the result."""

import numpy as np
import pytest

from SparseCTReconLib.grid import Grid
from SparseCTReconLib.jobs.spec import parse_spec


@pytest.fixture
def roi(slicer):
    """A box of 20 x 30 x 10 mm, turned, about a point in the oblique CT."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    a = np.radians(30)
    turned = np.array([[np.cos(a), -np.sin(a), 0, 12], [np.sin(a), np.cos(a), 0, -30], [0, 0, 1, 420], [0, 0, 0, 1.0]])
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(turned))
    node.SetSize(20, 30, 10)
    return node


def corners(grid):
    """RAS positions of the corners of a grid's box."""
    half = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    return (grid.centre_mm + half * grid.extent_mm @ grid.direction.T) * [-1, -1, 1]


def test_a_turned_region_is_the_grid_of_the_result_with_the_voxels_that_were_asked(acting_panel, actor, roi, slicer, until):
    panel = acting_panel
    panel.ui.regionSelector.setCurrentNode(roi)
    panel.ui.voxelSizeSpinBox.value = 2.5
    panel.ui.applyButton.click()
    until(lambda: not panel.run.active)
    grid = Grid.from_dict(parse_spec(actor.jobs[-1]).grid)
    assert (sorted(grid.size), grid.spacing_mm) == ([4, 8, 12], (2.5, 2.5, 2.5))
    box = np.array([[x, y, z, 1.0] for x in (-10, 10) for y in (-15, 15) for z in (-5, 5)]).T
    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    expected = (matrix @ box)[:3].T
    found = corners(grid)
    assert max(np.linalg.norm(found - corner, axis=1).min() for corner in expected) < 1e-6
    assert np.linalg.det(grid.direction) == pytest.approx(1)
    assert panel.run.outputNode.GetImageData().GetDimensions() == grid.size


def test_a_region_below_a_transform_is_carried_into_the_coordinates_of_the_ct(slicer, ct, roi):
    from SparseCTReconPanel.region import gridOfRegion

    alone = Grid.from_dict(gridOfRegion(roi, 2.5, ct))
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 5, 6, 7
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    ct.SetAndObserveTransformNodeID(moved.GetID())
    assert np.allclose(Grid.from_dict(gridOfRegion(roi, 2.5, ct)).centre_mm - alone.centre_mm, [5, 6, -7])
    roi.SetAndObserveTransformNodeID(moved.GetID())
    assert np.allclose(Grid.from_dict(gridOfRegion(roi, 2.5, ct)).centre_mm, alone.centre_mm)


def test_a_region_without_a_voxel_size_takes_the_finest_of_the_ct(slicer, ct, roi):
    from SparseCTReconPanel.request import Request
    from SparseCTReconPanel.target import gridOfResult

    assert gridOfResult(Request(), ct, None, roi)["spacing_mm"] == pytest.approx([1.9] * 3)


def test_a_region_that_is_made_in_the_panel_begins_in_the_middle_of_the_ct_along_its_axes(acting_panel, ct, slicer, until):
    panel = acting_panel
    panel.ui.regionSelector.addNode()
    node = panel.parameterNode.region
    bounds = np.zeros(6)
    ct.GetRASBounds(bounds)
    assert np.allclose(node.GetCenterWorld(), bounds.reshape(3, 2).mean(axis=1))
    assert np.allclose(node.GetSize(), np.multiply(ct.GetImageData().GetDimensions(), ct.GetSpacing()) / 2)
    axes = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())[:3, :3]
    directions = np.zeros((3, 3))
    ct.GetIJKToRASDirections(directions)
    assert np.allclose(np.abs(axes.T @ directions), np.eye(3))
    assert node.GetDisplayNode()


def test_what_follows_from_a_region_is_shown_as_soon_as_it_is_not_moved_any_more(acting_panel, roi, until):
    panel = acting_panel
    panel.ui.voxelSizeSpinBox.value = 2
    panel.ui.regionSelector.setCurrentNode(roi)
    assert panel.ui.estimateLabel.text.startswith("10 x 15 x 5 voxels")
    roi.SetSize(40, 30, 10)
    until(lambda: panel.ui.estimateLabel.text.startswith("20 x 15 x 5 voxels"))
    roi.SetSize(0, 0, 0)
    until(lambda: not panel.ui.applyButton.enabled)
    panel.ui.regionSelector.setCurrentNode(None)
    assert panel.ui.applyButton.enabled


def test_an_empty_region_and_one_that_iterating_methods_suffer_from_are_said(acting_panel, roi):
    panel = acting_panel
    panel.ui.regionSelector.setCurrentNode(roi)
    assert not panel.ui.adviceWidget.visible, "FDK does not mind"
    panel.parameterNode.method = "cgls"
    assert "bright rims" in panel.ui.adviceLabel.text
    roi.SetSize(0, 0, 0)
    panel.parameterNode.views = 51
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "The region Box is empty: give it a size, or choose none."
