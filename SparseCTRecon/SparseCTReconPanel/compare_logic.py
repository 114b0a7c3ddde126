"""What the module's logic does for comparisons; nodes in, nodes out, with or without the panel."""

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.jobs.client import JobState

from . import compare_export, dependencies, segmenter
from .compare_run import ComparisonRun
from .comparison import Comparison
from .previous import REQUEST, ROLES
from .request import Request, Source
from .scene import gridOf


class CompareLogic:
    """The part of the logic that compares volumes with a reference; mixed into SparseCTReconLogic.

    Example::

      tables = logic.compare(ctNode, [nafNode, fdkNode])
      logic.exportReport("/data/report.html")
    """

    comparisonRun = None
    """The last comparison: its figures and its report, until the next one or until the logic is let go."""

    def compare(self, reference, results, comparison=None, onChanged=None, **changes):
        """Compare volumes with a reference, wait for it, and return the table nodes by kind; None if it was cancelled.

        :param reference: the CT that the scan was made of, or the best volume there is.
        :param results: up to six volume nodes; each is compared on its own voxels, onto which the reference is resampled.
        :param changes: fields of the Comparison to change, such as organs=True, quality="normal", organNames="liver, spleen".
        :raises ValueError: if something that is needed is missing or wrong, in one sentence.
        :raises RuntimeError: if the comparison failed.
        """
        run = self.startComparison(reference, results, comparison, onChanged, **changes)
        while run.active:
            slicer.app.processEvents()
            run.poll()
            time.sleep(0.01)
        if run.state is JobState.FAILED:
            raise RuntimeError(run.message)
        return run.tableNodes if run.state is JobState.DONE else None

    def startComparison(self, reference, results, comparison=None, onChanged=None, **changes):
        """Start a comparison in the background and return its handle at once. For the arguments see `compare`."""
        comparison = replace(comparison or Comparison(), **changes)
        valid, reason = comparison.isValid(reference, results)
        if not valid:
            raise ValueError(reason)
        self._checkNothingIsInTheWay(comparison)
        folder = slicer.util.tempDirectory(key="SparseCTRecon-compare-")
        try:
            scans = [self._scannedAs(node) for node in results]
            run = ComparisonRun(folder, comparison, reference, results, self.newTransport(), onChanged, scans)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.comparisonRun:
            self.comparisonRun.discard()
        self.comparisonRun = run
        return run.start()

    def stopComparison(self, message):
        """Stop a running comparison and delete the files of the last one."""
        if self.comparisonRun:
            self.comparisonRun.stop(message)
            self.comparisonRun.discard()
            self.comparisonRun = None

    def exportReport(self, path):
        """Write the last comparison to a file: .html is the self-contained report, .csv the figures. Return the path.

        :raises ValueError: if there is nothing to write or the suffix is another one, in one sentence.
        """
        path = Path(path)
        run = self.comparisonRun
        files = {".html": run and run.reportFile, ".htm": run and run.reportFile, ".csv": run and run.csvFile}
        if path.suffix.lower() not in files:
            raise ValueError(_("{name} is neither a report (.html) nor a table (.csv): change its ending.").format(name=path.name))
        source = files[path.suffix.lower()]
        if not source:
            raise ValueError(_("There is no comparison to write: press Compare first."))
        try:
            shutil.copyfile(source, path)
        except OSError as error:
            raise ValueError(_("{path} could not be written: {error}").format(path=path, error=error.strerror or error)) from None
        return path

    def exportVolumes(self, volumeNodes, folder, kind=compare_export.NRRD):
        """Write volumes into a folder as "NRRD" or "DICOM" (a series derived from each volume's own CT); return the paths."""
        return compare_export.exportVolumes(volumeNodes, folder, kind)

    def importSegmentations(self):
        """Put what the segmenter found in the last comparison into the scene; return the segmentation nodes by the volume's name."""
        run = self.comparisonRun
        if not run:
            return {}
        names = {one["label"]: one["name"] for result in run.figures["results"] for one in result.get("organs") or []}
        task = run.comparison.segmenterTask
        return {name: segmenter.importLabels(file, task, names, name, run.nodeOf(name)) for name, file in run.labelFiles().items()}

    def _scannedAs(self, node):
        """The scan of a result as a job takes it, with the voxels where the scan had them: volumes are compared at their places in the
        world, and the scan knows nothing of transforms."""
        path = self._scanOf(node)
        return {"scan": path, "scanned": gridOf(node)} if path else {}

    def _scanOf(self, node):
        """Path of the scan that a result was made from; None where it is not there any more."""
        path = self._scanPath(node)
        return path if path and os.path.exists(path) else None

    def _scanPath(self, node):
        with suppress(ValueError, TypeError, KeyError, AttributeError, OSError):  # what it was made from is gone, or it does not say
            values = json.loads(node.GetAttribute(REQUEST))
            source = Source[values["source"]]
            if source is Source.FOLDER:
                return os.path.abspath(values["scanFolder"])
            scanNode = node.GetNodeReference(ROLES["scanVolume"])
            if source is Source.SIMULATE:
                scanNode = self.findScan(node.GetNodeReference(ROLES["inputVolume"]), Request(**values | {"source": source}))
            return str(self.scanFolders.folderOf(scanNode))
        return None

    def _checkNothingIsInTheWay(self, comparison):
        if self.comparisonRun and self.comparisonRun.active:
            raise ValueError(_("A comparison is running: wait for it, or cancel it."))
        missing = dependencies.missing()
        if missing:
            raise ValueError(_("Python packages are missing ({names}): press Compare in the panel.").format(names=", ".join(missing)))
        if comparison.organs:
            ready, reason = segmenter.status()
            if not ready:
                raise ValueError(reason)
            if self.queue.running:
                raise ValueError(_("A reconstruction is running: the organs can be compared when it has ended."))
