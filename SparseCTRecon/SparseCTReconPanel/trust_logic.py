"""What the module's logic does to examine results; nodes in, nodes out, with or without the panel."""

import shutil
import time

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import dependencies, trust_maps
from .candidates import isResult
from .placement import hasVoxels
from .trust_run import TrustRun


class TrustLogic:
    """The part of the logic that asks what the measurements support of a result; mixed into SparseCTReconLogic.

    Example::

      maps = logic.examine(volumeNode)
      slicer.util.setSliceViewerLayers(background=volumeNode, foreground=maps["contradiction"], foregroundOpacity=0.7)
    """

    trustRun = None
    """The last examination: its figures and its report, until the next one or until the logic is let go."""

    def examine(self, resultNode, onChanged=None, sizeMm=10.0):
        """Examine a result of this module by its scan, wait for it, and return the maps' nodes by name; None if it was cancelled.

        :param resultNode: volume that this module has made and whose scan is still there.
        :param sizeMm: diameter of the detail that matters.
        :raises ValueError: if something that is needed is missing or wrong, in one sentence.
        :raises RuntimeError: if it failed.
        """
        run = self.startExamination(resultNode, onChanged, sizeMm)
        while run.active:
            slicer.app.processEvents()
            run.poll()
            time.sleep(0.01)
        if run.state is JobState.FAILED:
            raise RuntimeError(run.message)
        return run.mapNodes if run.state is JobState.DONE else None

    def startExamination(self, resultNode, onChanged=None, sizeMm=10.0):
        """Start it in the background and return its handle at once. For the arguments see `examine`."""
        valid, reason = self.canBeExamined(resultNode)
        if not valid:
            raise ValueError(reason)
        if self.trustRun and self.trustRun.active:
            raise ValueError(_("A result is being examined: wait for it, or cancel it."))
        missing = dependencies.missing()
        if missing:
            raise ValueError(_("Python packages are missing ({names}).").format(names=", ".join(missing)))
        folder = slicer.util.tempDirectory(key="SparseCTRecon-trust-")
        try:
            run = TrustRun(folder, resultNode, self._scanOf(resultNode), self.newTransport(), onChanged, sizeMm)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.trustRun:
            self.trustRun.discard()
        self.trustRun = run
        return run.start()

    def canBeExamined(self, resultNode):
        """(True, "") or (False, why not, in one sentence)."""
        if resultNode is None:
            return False, _("Choose a result.")
        if not hasVoxels(resultNode):
            return False, _("{name} has no voxels.").format(name=resultNode.GetName())
        if trust_maps.isMap(resultNode) or not isResult(resultNode):
            return False, _("{name} is no result of this module: its scan is not known.").format(name=resultNode.GetName())
        if not self._scanOf(resultNode):
            return False, _("The scan that {name} was made from is not there any more.").format(name=resultNode.GetName())
        return True, ""

    def stopExamination(self, message):
        """Stop a running examination and delete the files of the last one."""
        if self.trustRun:
            self.trustRun.stop(message)
            self.trustRun.discard()
            self.trustRun = None
