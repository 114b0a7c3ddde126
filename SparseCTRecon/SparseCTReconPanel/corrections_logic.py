"""The part of the logic that corrects scans."""

import shutil

from slicer.i18n import tr as _

from . import dependencies
from .corrections_run import CorrectedScan, FoundOffset
from .run import Run
from .scan_node import geometryOf


class CorrectionsLogic:
    """Starts corrections and calibrations in the background; expects the runs and scan folders of the module's logic."""

    def startCorrection(self, scanVolume, corrections, onChanged=None):
        """Correct a scan node in the background and return the run's handle, whose scanNode is the new one.

        :param corrections: {"rings": "measured", "scatter": {"fraction": 0.2}}; see SparseCTReconLib.corrections.chain.parse.
        :raises ValueError: if something that is needed is missing or wrong, in one sentence.
        """
        self._checkScan(scanVolume)
        from SparseCTReconLib.corrections.chain import parse

        if not any(each.mode != "off" for each in parse(corrections)):
            raise ValueError(_("All corrections are off: switch one on."))

        def newRun(folder):
            output = CorrectedScan(self.scanFolders, scanVolume)
            values = {"task": "correct", "output": str(output.folder), "corrections": corrections}
            return self._runOn(folder, scanVolume, (_("Correcting the scan"), values), output, onChanged)

        return self._start(newRun)

    def startCalibration(self, scanVolume, onChanged=None):
        """Find the detector's offset of a scan node in the background; the run's `offset.found` has it, nothing is changed."""
        self._checkScan(scanVolume)

        def newRun(folder):
            offset = FoundOffset(folder, scanVolume)
            run = self._runOn(
                folder, scanVolume, (_("Finding the offset"), {"task": "calibrate", "output": offset.file}), offset, onChanged
            )
            run.offset = offset
            return run

        return self._start(newRun)

    def correct(self, scanVolume, corrections):
        """Correct a scan node, wait for it, and return the new one; None if it was cancelled.

        :raises RuntimeError: if the correction failed.
        """
        return self._wait(self.startCorrection(scanVolume, corrections)).scanNode

    def _checkScan(self, scanVolume):
        if scanVolume is None:
            raise ValueError(_("Choose a scan in the scene, simulate one, or load one."))
        geometryOf(scanVolume)
        missing = dependencies.missing()
        if missing:
            raise ValueError(_("Python packages are missing ({names}): press Apply in the panel once.").format(names=", ".join(missing)))

    def _runOn(self, folder, scanVolume, job, output, onChanged):
        title, values = job
        try:
            values["scan"] = str(self.scanFolders.folderOf(scanVolume))
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Run(folder, [(title, values)], None, self.newTransport, onChanged, output)
