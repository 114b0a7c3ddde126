"""Sparse-view cone-beam CT reconstruction: the module as Slicer finds it; what it does is in SparseCTReconPanel and SparseCTReconLib."""

import importlib.util
import os
import sys

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

    def runTest(self):
        self.setUp()
        self.test_sampleIsSimulatedAndReconstructedInItsPlace()

    def test_sampleIsSimulatedAndReconstructedInItsPlace(self):
        """From the sample CT to a volume node with the input's geometry, voxels in HU and its provenance."""
        import numpy as np
        import SampleData

        logic = SparseCTReconLogic()
        try:
            from SparseCTReconPanel import dependencies

            missing = dependencies.missing()
        except ImportError as error:
            missing = [str(error)]
        if missing:
            self.skipTest(f"Python packages are missing: {', '.join(missing)}")
        self.delayDisplay("Loading the sample CT")
        registerSampleData()
        ct = SampleData.downloadSample("SparseCTReconKnee")

        self.delayDisplay("Simulating 20 views and reconstructing them")
        result = logic.process(ct, method="fdk", views=20, voxelSize=8.0)
        self.assertIsNotNone(result)
        self.assertEqual(result.GetAttribute("SparseCTRecon.method"), "fdk")
        inputBounds, resultBounds = [0.0] * 6, [0.0] * 6
        ct.GetRASBounds(inputBounds)
        result.GetRASBounds(resultBounds)
        self.assertLess(np.abs(np.subtract(inputBounds, resultBounds)).max(), 8.0)
        voxels = slicer.util.arrayFromVolume(result)
        self.assertLess(voxels.min(), -500)
        self.assertGreater(voxels.max(), 300)
        self.delayDisplay("Test passed")
