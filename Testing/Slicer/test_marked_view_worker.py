"""The field of view of a truncated scan with a real worker: from a click on Apply to the outline, and to the figures within it."""

import numpy as np
import pytest

from SparseCTReconLib.grid import Grid
from SparseCTReconLib.jobs.client import JobState

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_workers")]


@pytest.fixture
def body(slicer):
    """A CT that is wider than what a small detector sees."""
    z, y, x = np.mgrid[:16, :40, :40]
    inside = ((y - 19.5) / 18) ** 2 + ((x - 19.5) / 15) ** 2 < 1
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Torso")
    slicer.util.updateVolumeFromArray(node, np.where(inside, 40, -1000).astype(np.int16))
    node.SetSpacing(8, 8, 8)
    node.SetOrigin(-156, -156, -60)
    return node


def test_a_truncated_scan_is_outlined_and_compared_within_its_field_of_view(slicer, panel, body, until, host):
    from SparseCTReconPanel.compare_section import CompareSection
    from SparseCTReconPanel.scan_node import geometryOf
    from SparseCTReconPanel.scene import gridOf

    from SparseCTReconLib.operators.field_of_view import ENOUGH, field_of_view

    panel.ui.inputSelector.setCurrentNode(body)
    parameters = panel.parameterNode
    parameters.views, parameters.ownDetector, parameters.columns, parameters.rows, parameters.pixelSize = 24, True, 36, 30, 8.0
    panel.ui.applyButton.click()
    until(lambda: not panel.run.active, 120)
    assert panel.run.state is JobState.DONE, panel.run.error
    result = panel.run.outputNode
    node = panel.logic.fieldOfView(result)
    (segment,) = node.GetSegmentation().GetSegmentIDs()
    marked = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, result) > 0
    expected = field_of_view(geometryOf(panel.run.scanNode), Grid.from_dict(gridOf(result))) >= ENOUGH
    assert 0.1 < expected.mean() < 0.6
    np.testing.assert_array_equal(marked, expected)

    section = panel.section(CompareSection)
    section.refresh()
    panel.ui.compareButton.click()
    until(lambda: section.comparison is not None and not section.comparison.active, 60)
    assert section.comparison.state is JobState.DONE and not host.errors, section.comparison.message
    table = section.comparison.tableNodes["image"]
    found = {name: slicer.util.arrayFromTableColumn(table, name)[0] for name in ("RMSE (HU)", "FOV RMSE (HU)", "FOV part")}
    error = (slicer.util.arrayFromVolume(result) - slicer.util.arrayFromVolume(body))[expected]
    assert found["FOV RMSE (HU)"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
    assert found["FOV RMSE (HU)"] < found["RMSE (HU)"] and found["FOV part"] == pytest.approx(expected.mean(), abs=1e-5)
    headings = [section.ui.compareTable.horizontalHeaderItem(n).text() for n in range(section.ui.compareTable.columnCount)]
    assert "FOV\nPSNR (dB)" in headings
