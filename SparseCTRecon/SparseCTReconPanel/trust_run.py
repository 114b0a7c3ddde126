"""The trust of a result in a worker: the volume out, the maps of what the measurements support into the scene."""

import json

import slicer
from slicer.i18n import tr as _

from . import trust_maps
from .scene import exportVolume
from .volumes_run import VolumesRun


class TrustRun(VolumesRun):
    """Handle of an examination that runs.

    Parameters
    ----------
    folder : str
        The run's own folder; what was found stays there until `discard`.
    resultNode : vtkMRMLScalarVolumeNode
        Held by its ID.
    scan : str
        Path of the scan that it was made from.
    transport : Transport
        Runs the worker.
    onChanged : callable, optional
        Called with this run whenever there is something new.
    sizeMm : float
        Diameter of the detail that matters.

    Attributes
    ----------
    figures : dict or None
        The content of trust.json.
    maps : dict of str to str
        IDs of the map's volume nodes by the maps' names.
    """

    resultFolder = "trust"

    def __init__(self, folder, resultNode, scan, transport, onChanged=None, sizeMm=10.0):
        super().__init__(folder, [(resultNode, resultNode.GetName())], transport, onChanged)
        self.figures = None
        self.maps = {}
        self._scan, self._sizeMm = scan, sizeMm
        self._warnings = []

    @property
    def resultNode(self):
        """The volume that is examined; None once it has been deleted."""
        return slicer.mrmlScene.GetNodeByID(self._volumes[0][0])

    @property
    def mapNodes(self):
        """The maps that are still in the scene, by their names."""
        found = {name: slicer.mrmlScene.GetNodeByID(nodeID) for name, nodeID in self.maps.items()}
        return {name: node for name, node in found.items() if node}

    @property
    def reportFile(self):
        return self.resultFile("trust.html")

    def jobOf(self, files):
        return {"task": "trust", "volume": files[0], "scan": self._scan, "size_mm": self._sizeMm}

    def export(self, node, path):
        """Where the scan has it: a result follows its CT's transform, of which the scan knows nothing."""
        exportVolume(node, path)

    def working(self, stage):
        return _("Examining: {stage}").format(stage=stage)

    def deleted(self, name):
        return _("{name} was deleted: its examination was stopped.").format(name=name)

    def closed(self):
        return _("The scene was closed: the examination was stopped.")

    def warn(self, message):
        self._warnings.append(message)

    def take(self):
        folder = self.folder / self.resultFolder
        self.figures = json.loads((folder / "trust.json").read_text(encoding="utf-8"))
        node = self.resultNode
        if node is None:
            raise ValueError(self.deleted(self._volumes[0][1]))
        self.maps = {name: one.GetID() for name, one in trust_maps.importMaps(folder, node).items()}

    def sentences(self):
        found = self.figures
        yield _(
            "The residual is {ratio:.1f} times what the noise allows; the views determine {share:.0f} % of a {size:g} mm mean in the body."
        ).format(ratio=found["residual"]["noise_ratio"] or 0, share=found["determined_percent"] or 0, size=found["size_mm"])
        places = found["stand_out"]
        if places:
            position = ", ".join(f"{value:.0f}" for value in trust_maps.toRas(places[0]["position_mm"]))
            where = _("in the body") if places[0]["where"] == "body" else _("in the air beside the body")
            yield _("{count} places stand out; the first, {where} at ({position}) mm RAS, by {z:+.1f}.").format(
                count=len(places), where=where, position=position, z=places[0]["z"]
            )
        else:
            yield _("No place stands out.")
        yield _("This is what the measurements support, not what is true.")
        for message in [*found["warnings"], *self._warnings]:
            yield _("Warning: {message}.").format(message=message)
