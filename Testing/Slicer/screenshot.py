"""Renders the panel at work on the sample head: `python Testing/Slicer/screenshot.py Resources/Screenshots/panel.png`."""

import sys
import tempfile
import time
from pathlib import Path

import host
from conftest import ROOT, put_on_path


def main(file: str) -> None:
    """Open the panel, reconstruct with a real worker, and keep the picture after the third preview."""
    session = host.start()
    put_on_path(Path(tempfile.mkdtemp()), "PythonSlicer")
    session.load(ROOT / "SparseCTRecon" / "SparseCTRecon.py")
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "SparseCTReconHead")
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(ROOT / "Resources" / "SampleData" / "head_vhp_female_2mm.nrrd"))
    storage.ReadData(node)
    panel = session.open("SparseCTRecon")
    panel.parent.resize(430, 900)
    panel.ui.logButton.collapsed = False
    parameters = panel.logic.getParameterNode()
    parameters.method, parameters.preset, parameters.voxelSize = "naf", "linac-half-fan", 3.0
    panel.ui.applyButton.click()
    while panel.run.active and panel.run.previews < 3:
        session.process_events()
        time.sleep(0.01)
    session.process_events()
    panel.parent.grab().save(file)
    panel.cleanup()


if __name__ == "__main__":
    main(sys.argv[1])
