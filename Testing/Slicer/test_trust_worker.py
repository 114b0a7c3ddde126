"""Trust with a real worker, from the click to the maps: a lesion that is painted into a result is what stands out."""

import numpy as np
import pytest
from small_scans import small_head

from SparseCTReconLib import formats
from SparseCTReconLib.jobs.client import JobState

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")
pytestmark = pytest.mark.slow


def test_a_painted_lesion_stands_out_on_a_map_over_the_result(slicer, panel, until, host, tmp_path):
    from SparseCTReconPanel.trust_section import TrustSection

    scan, _grid, _truth = small_head()
    formats.write_scan(scan, tmp_path / "scan")
    result = panel.logic.process(scanFolder=str(tmp_path / "scan"), method="cgls", voxelSize=6.0)
    voxels = slicer.util.arrayFromVolume(result)
    away = np.indices(voxels.shape).T - (np.array(voxels.shape) // 2 + (0, 4, -3))
    lesion = ((away**2).sum(axis=-1) <= 6).T
    voxels[lesion] += 400
    slicer.util.arrayFromVolumeModified(result)

    panel.ui.trustSectionButton.collapsed = False
    section = panel.section(TrustSection)
    section.refresh()
    section.ui.trustSizeSpinBox.value = 25
    section.ui.trustButton.click()
    until(lambda: section.examination is not None and not section.examination.active, 120)
    assert section.examination.state is JobState.DONE and not host.errors, section.examination.message
    maps = section.examination.mapNodes
    assert list(maps) == ["contradiction", "determined", "prior"]
    contradiction = slicer.util.arrayFromVolume(maps["contradiction"])
    assert lesion.flat[contradiction.argmin()] and contradiction.min() < -3, "the measurements ask for less there"
    share = slicer.util.arrayFromVolume(maps["determined"])
    body = share >= 0
    assert (share[~body] == -1).all() and share[body].max() <= 100.001 and body[lesion].all() and 0.05 < body.mean() < 0.95
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert composite.GetForegroundVolumeID() == maps["contradiction"].GetID()
    assert "stand out" in section.ui.trustStatusLabel.text and "not what is true" in section.ui.trustStatusLabel.text
