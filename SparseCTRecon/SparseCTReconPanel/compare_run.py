"""A comparison in a worker: the volumes out, the figures as tables into the scene."""

import itertools
import json

import slicer
from slicer.i18n import tr as _

from .compare_tables import makeTables
from .volumes_run import VolumesRun


class ComparisonRun(VolumesRun):
    """Handle of a running comparison.

    Parameters
    ----------
    folder : str
        The run's own folder; what was found stays there until `discard`.
    comparison : Comparison
        What is asked.
    referenceNode, resultNodes : vtkMRMLScalarVolumeNode, list of them
        Held by their IDs.
    transport : Transport
        Runs the worker.
    onChanged : callable, optional
        Called with this run whenever there is something new.
    scans : list of dict, optional
        Of each result its scan's path and its voxels there, as the job takes them: there are figures within the field of view of each,
        and organs that it cuts are marked. Empty where there is no scan.

    Attributes
    ----------
    figures : dict or None
        The content of comparison.json.
    tables : dict of str to str
        IDs of the table nodes by their kind.
    """

    resultFolder = "comparison"

    def __init__(self, folder, comparison, referenceNode, resultNodes, transport, onChanged=None, scans=()):
        self._referenceName = referenceNode.GetName()
        self._names = _uniqueNames([node.GetName() for node in resultNodes], self._referenceName)
        volumes = [(referenceNode, self._referenceName), *zip(resultNodes, self._names)]
        super().__init__(folder, volumes, transport, onChanged)
        self.comparison = comparison
        self.figures = None
        self.tables = {}
        self._referenceID = referenceNode.GetID()
        self._resultIDs = [node.GetID() for node in resultNodes]
        self._scans = scans
        self._warnings = []

    @property
    def tableNodes(self):
        """The tables that are still in the scene, by their kind."""
        found = {kind: slicer.mrmlScene.GetNodeByID(nodeID) for kind, nodeID in self.tables.items()}
        return {kind: node for kind, node in found.items() if node}

    @property
    def reportFile(self):
        return self.resultFile("report.html")

    @property
    def csvFile(self):
        return self.resultFile("comparison.csv")

    def labelFiles(self):
        """Files of labels that the segmenter has made, by the name of the volume."""
        found = {result["name"]: result.get("labels") for result in (self.figures or {}).get("results", [])}
        reference = self.resultFile("labels/reference.nii.gz")
        paths = {name: self.folder / self.resultFolder / path for name, path in found.items() if path}
        if reference and paths:
            paths = {self._referenceName: reference, **paths}
        return {name: path for name, path in paths.items() if path.exists()}

    def nodeOf(self, name):
        """The volume node that the comparison calls `name`; None once it has been deleted."""
        ids = dict(zip(self._names, self._resultIDs))
        return slicer.mrmlScene.GetNodeByID(ids.get(name) or self._referenceID)

    def jobOf(self, files):
        reference, *results = files
        job = self.comparison.job((self._referenceName, reference), dict(zip(self._names, results)), f"../{self.resultFolder}")
        for result, scan in zip(job["results"], self._scans):
            result.update(scan)
        return job

    def working(self, stage):
        return _("Comparing: {stage}").format(stage=stage)

    def deleted(self, name):
        return _("{name} was deleted: the comparison was stopped.").format(name=name)

    def closed(self):
        return _("The scene was closed: the comparison was stopped.")

    def warn(self, message):
        self._warnings.append(message)

    def sentences(self):
        """The warnings as sentences; one that several results share is said once."""
        yield _("Compared.")
        shared = {}
        for message in self._warnings:
            name = next((name for name in self._names if message.startswith(f"{name}: ")), None)
            shared.setdefault(message[len(name) + 2 :] if name else message, []).append(name)
        for message, names in shared.items():
            about = ", ".join(filter(None, names))
            yield _("Warning: {message}.").format(message=f"{about}: {message}" if about else message)

    def take(self):
        file = self.folder / self.resultFolder / "comparison.json"
        self.figures = json.loads(file.read_text(encoding="utf-8"))
        tables = makeTables(self.figures, slicer.mrmlScene.GetNodeByID(self._referenceID))
        self.tables = {kind: node.GetID() for kind, node in tables.items()}


def _uniqueNames(names, taken):
    """The names, numbered where a volume before has the same, or `taken` is it."""
    found = [taken]
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        found.append(next(one for one in itertools.chain([name], numbered) if one not in found))
    return found[1:]
