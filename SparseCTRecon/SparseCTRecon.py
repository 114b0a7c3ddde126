"""Sparse-view cone-beam CT reconstruction: the module as Slicer finds it; what it does is in SparseCTReconPanel and SparseCTReconLib."""

import importlib.util
import os
import sys
import tempfile
import time

# In the source tree the library lies beside this module's folder, where Slicer does not look.
if importlib.util.find_spec("SparseCTReconLib") is None:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest
from SparseCTReconPanel.logic import SparseCTReconLogic
from SparseCTReconPanel.parameters import SparseCTReconParameterNode
from SparseCTReconPanel.reader import SparseCTReconFileReader
from SparseCTReconPanel.sampledata import registerSampleData
from SparseCTReconPanel.widget import SparseCTReconWidget

__all__ = [
    "SparseCTRecon",
    "SparseCTReconFileReader",
    "SparseCTReconLogic",
    "SparseCTReconParameterNode",
    "SparseCTReconTest",
    "SparseCTReconWidget",
]


class SparseCTRecon(ScriptedLoadableModule):
    """Uses ScriptedLoadableModule base class, available at:
    https://github.com/Slicer/Slicer/blob/main/Base/Python/slicer/ScriptedLoadableModule.py
    """

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Sparse CT Reconstruction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.dependencies = []
        self.parent.contributors = ["SparseCTRecon developers"]
        self.parent.helpText = _("""
Reconstructs a CT volume from a few dozen cone-beam projections, simulated from an open CT or read from a scan folder, in a background
process. The volume appears early and sharpens while you watch.
<p>Research use only: generated detail may be false.</p>
<p>See the <a href="https://github.com/SparseCTRecon/SparseCTRecon">documentation</a>.</p>
""")
        self.parent.acknowledgementText = _("""
Sample CTs: Visible Human Female, courtesy of the U.S. National Library of Medicine (no endorsement implied).
""")
        slicer.app.connect("startupCompleted()", registerSampleData)


class SparseCTReconTest(ScriptedLoadableModuleTest):
    """
    This is the test case for your scripted module.
    Uses ScriptedLoadableModuleTest base class, available at:
    https://github.com/Slicer/Slicer/blob/main/Base/Python/slicer/ScriptedLoadableModule.py
    """

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = None

    def tearDown(self):
        if self.logic:
            self.logic.stopAll("The test is over.")

    def test_scanLivesInTheScene(self):
        """Projections as a volume node whose geometry cannot be edited unnoticed; needs no package that Slicer lacks."""
        import numpy as np
        from SparseCTReconPanel import scan_node

        from SparseCTReconLib.geometry import Geometry
        from SparseCTReconLib.scan import Scan

        self.delayDisplay("A scan in the scene")
        geometry = Geometry.preset("linac", 6, detector_shape=(8, 10))
        node = scan_node.createScanNode(Scan(np.ones((6, 8, 10), np.float32), geometry), "Scan")
        self.assertEqual(node.GetImageData().GetDimensions(), (10, 8, 6))
        self.assertEqual(scan_node.geometryOf(node).views, 6)
        node.SetAttribute("SparseCTRecon.photons", "1e9")
        with self.assertRaisesRegex(ValueError, "was edited"):
            scan_node.geometryOf(node)

    def test_simulate(self):
        """From the sample CT to projections beside it, which are not simulated twice."""
        logic, ct = self._logicAndSample()
        self.delayDisplay("Simulating 20 views")
        scan = logic.simulate(ct, views=20)
        self.assertEqual(slicer.util.arrayFromVolume(scan).shape[0], 20)
        self.assertGreater(slicer.util.arrayFromVolume(scan).max(), 1)
        self.assertIs(logic.simulate(ct, views=20), scan)

    def test_reconstruct(self):
        """From the sample CT to a volume node in its place, voxels in HU, with its provenance."""
        import numpy as np

        logic, ct = self._logicAndSample()
        self.delayDisplay("Reconstructing from 20 views")
        result = logic.process(ct, method="fdk", views=20, voxelSize=8.0)
        self.assertEqual(result.GetAttribute("SparseCTRecon.method"), "fdk")
        inputBounds, resultBounds = [0.0] * 6, [0.0] * 6
        ct.GetRASBounds(inputBounds)
        result.GetRASBounds(resultBounds)
        self.assertLess(np.abs(np.subtract(inputBounds, resultBounds)).max(), 8.0)
        voxels = slicer.util.arrayFromVolume(result)
        self.assertLess(voxels.min(), -500)
        self.assertGreater(voxels.max(), 300)

    def test_compare(self):
        """From a CT and a result to tables of figures and a report."""
        logic, ct = self._logicAndSample()
        result = logic.process(ct, method="fdk", views=20, voxelSize=8.0)
        self.delayDisplay("Comparing the result with the CT")
        tables = logic.compare(ct, [result])
        self.assertEqual(sorted(tables), ["image", "tissues"])
        psnr = tables["image"].GetTable().GetColumnByName("PSNR (dB)").GetValue(0)
        self.assertGreater(psnr, 10)
        with tempfile.TemporaryDirectory() as folder:
            report = logic.exportReport(os.path.join(folder, "report.html"))
            self.assertGreater(os.path.getsize(report), 10_000)

    def test_cancel(self):
        """A run that is cancelled while its volume sharpens leaves the scene as it was."""
        logic, ct = self._logicAndSample()
        self.delayDisplay("Cancelling a reconstruction")
        run = logic.start(ct, method="naf", views=20, voxelSize=4.0)
        self._wait(lambda: run.previews or not run.active)
        self.assertTrue(run.active, run.message)
        run.cancel()
        self._wait(lambda: not run.active)
        self.assertEqual(run.message, "Cancelled.")
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"), [ct])

    def _logicAndSample(self):
        """The logic and the knee; the test is skipped where the worker's packages are not installed."""
        import SampleData
        from SparseCTReconPanel import dependencies

        missing = dependencies.missing()
        if missing:
            self.skipTest(f"Python packages are missing: {', '.join(missing)}")
        self.delayDisplay("Loading the sample CT")
        registerSampleData()
        self.logic = SparseCTReconLogic()
        return self.logic, SampleData.downloadSample("SparseCTReconKnee")

    def _wait(self, condition, seconds=120):
        until = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), until, "It did not come about in time")
            slicer.app.processEvents()
            time.sleep(0.01)
