"""Corrections with a real worker, from the click to the corrected scan: planted rings go, a planted offset is found and applied."""

import numpy as np
import pytest
from degraded_scans import WIDE, clean, scan_of

from SparseCTReconLib import formats
from SparseCTReconLib.corrections.base import HISTORY
from SparseCTReconLib.geometry import Geometry

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")
pytestmark = pytest.mark.slow


@pytest.fixture
def correct(panel, until, tmp_path, host):
    """Load a scan, choose corrections, click, wait; returns the node that is then chosen."""
    from SparseCTReconPanel.corrections_section import CorrectionsSection

    section = panel.section(CorrectionsSection)

    def click(scan, button="correctButton", **modes):
        if scan is not None:
            formats.write_scan(scan, tmp_path / "scan")
            panel.parameterNode.scanVolume = panel.logic.loadScan(str(tmp_path / "scan"))
        panel.ui.correctionsButton.collapsed = False
        for name, mode in modes.items():
            section.choose(name, mode)
        getattr(panel.ui, button).click()
        until(lambda: section._run is None, 120)
        assert not host.errors
        return panel.parameterNode.scanVolume

    return click


def test_rings_that_were_planted_go_with_a_click(correct, slicer):
    from SparseCTReconPanel.scan_node import provenanceOf, scanOf

    columns, planted = [9, 31, 55], (0.08, 0.1, -0.08)  # beside the body, and where it is flat
    stripes = np.zeros(64)
    stripes[columns] = planted
    striped = scan_of(clean() * np.exp(-stripes), photons=1e5, mu_water=0.02)
    node = correct(striped, rings="measured")
    assert node.GetName() == "scan corrected" and slicer.util.getNode("scan")
    (entry,) = provenanceOf(node)[HISTORY]
    assert entry["name"] == "rings" and entry["mode"] == "measured"
    taken = (striped.projections - scanOf(node).projections).mean(axis=(0, 1))[columns]
    assert taken == pytest.approx(planted, abs=0.03)
    assert np.array_equal(scanOf(slicer.util.getNode("scan")).projections, striped.projections), "the scan before stays as it is"


def test_an_offset_that_is_found_is_shown_and_the_next_click_puts_it_into_the_geometry(correct, panel):
    from SparseCTReconPanel.scan_node import geometryOf

    off_mm = 9.6
    displaced = Geometry.preset("linac", 24, detector_shape=(24, 64), pixel_mm=(8.0, 6.4), offset_mm=(off_mm, 0.0))
    before = correct(scan_of(clean(displaced), WIDE, photons=1e5), "findOffsetButton")
    assert before.GetName() == "scan" and "lies +9." in panel.ui.foundOffsetLabel.text
    moved = geometryOf(correct(None)).principal_point_mm - WIDE.principal_point_mm
    assert np.abs(moved[:, 0]).mean() == pytest.approx(off_mm, abs=0.5 * 6.4)
