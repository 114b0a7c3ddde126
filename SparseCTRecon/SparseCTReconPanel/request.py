"""What the user asks for, checked, and the job files that follow from it. No widgets, no nodes."""

import enum
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from slicer.i18n import tr as _

from SparseCTReconLib.geometry import PRESETS

from . import method_options
from .machine import machineDefaults, plannedGeometry
from .scan_node import geometryOf, isScan


class Source(enum.Enum):
    """Where the projections come from."""

    SIMULATE = "simulate"
    SCENE = "scene"
    FOLDER = "folder"

    def label(self):
        return {"simulate": _("Simulate from a CT"), "scene": _("A scan in the scene"), "folder": _("A scan on disk")}[self.value]


@dataclass(frozen=True)
class Request:
    """One reconstruction, as the panel or a script asks for it.

    Parameters
    ----------
    source : Source
        Projections simulated from a CT, those of a scan in the scene, or read from `scanFolder`.
    scanFolder : str
        Scan folder, or any file that a reader of the library recognises.
    preset : str
        Machine to simulate.
    views : int
        Number of projections; of a scan in the scene what it has.
    arc : float
        Length of the orbit in degrees; 0 = the preset's.
    photons : float
        Photons per detector pixel without an object; 0 = no noise.
    columns, rows : int
        Pixels of the simulated detector; 0 = the preset's.
    pixelSize : float
        Their edge in mm; 0 = the preset's.
    offset : float or None
        Lateral displacement of the detector in mm; None = the preset's.
    seed : int
        Seed of the noise in a simulated scan.
    method : str
        Name of a reconstruction method.
    methodPreset : str
        Name of one of the method's presets; empty = its first one.
    options : dict
        Options of the method that are not to be the preset's, by name.
    voxelSize : float
        Edge of the voxels in mm; 0 = the CT's own grid.
    device : str
        "auto", "cpu" or "cuda".
    budget : float
        Seconds after which the best volume so far is the result; 0 = no limit.
    keepSnapshots : bool
        Whether the previews stay in the scene as a sequence.
    """

    source: Source = Source.SIMULATE
    scanFolder: str = ""
    preset: str = "linac"
    views: int = 50
    arc: float = 0.0
    photons: float = 1e5
    columns: int = 0
    rows: int = 0
    pixelSize: float = 0.0
    offset: float | None = None
    seed: int = 0
    method: str = "fdk"
    methodPreset: str = ""
    options: dict = field(default_factory=dict)
    voxelSize: float = 0.0
    device: str = "auto"
    budget: float = 0.0
    keepSnapshots: bool = False

    @classmethod
    def fromParameterNode(cls, parameterNode):
        names = [one.name for one in fields(cls) if one.name != "options"]
        options = method_options.read(parameterNode.methodOptions, parameterNode.method)
        request = cls(**{name: getattr(parameterNode, name) for name in names}, options=options)
        if not parameterNode.ownDetector:
            request = replace(request, columns=0, rows=0, pixelSize=0.0, offset=None)
        if request.source is Source.SCENE and parameterNode.scanVolume:
            with suppress(ValueError):
                request = replace(request, views=geometryOf(parameterNode.scanVolume).views)
        return request

    def isValid(self, inputVolume, scanVolume=None):
        """Return (True, "") or (False, why not, in one sentence)."""
        try:
            if self.source is Source.SIMULATE:
                self._checkSimulation(inputVolume)
            elif self.source is Source.SCENE:
                _checkScan(scanVolume)
            else:
                _checkScanFolder(self.scanFolder)
        except ValueError as error:
            return False, str(error)
        return True, ""

    def _checkSimulation(self, inputVolume):
        if inputVolume is None:
            raise ValueError(_("Select a CT volume to simulate a scan from, or read a scan."))
        name = inputVolume.GetName()
        if isScan(inputVolume):
            raise ValueError(_("{name} is a scan: select the CT, or choose the scan as the source.").format(name=name))
        image = inputVolume.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            raise ValueError(_("{name} has no voxels: load it, or select another volume.").format(name=name))
        if min(image.GetDimensions()) < 2:
            raise ValueError(_("{name} is a single slice: select a volume.").format(name=name))
        plannedGeometry(self, inputVolume)

    def geometryChanges(self):
        """What differs from the preset's geometry, as a simulation job has it."""
        if self.preset not in PRESETS:
            return {}
        columns, rows, *_others = machineDefaults(self.preset)
        changes = {}
        if self.arc > 0:
            changes["arc_deg"] = self.arc
        if self.columns or self.rows:
            changes["detector_shape"] = [self.rows or rows, self.columns or columns]
        if self.pixelSize:
            changes["pixel_mm"] = [self.pixelSize] * 2
        if self.offset is not None:
            changes["offset_mm"] = [self.offset, 0.0]
        return changes

    def simulateJob(self, ct, output):
        """The job.json of the simulation; a relative `ct` or `output` begins at the job's folder."""
        job = {"task": "simulate", "ct": ct, "output": output, "views": self.views, "preset": self.preset, "seed": self.seed}
        job["photons"] = self.photons if self.photons > 0 else None
        return job | self.geometryChanges()

    @property
    def changedOptions(self):
        """Those of the options that are not what the preset has."""
        return method_options.changed(self.method, self.methodPreset, self.options)

    def reconstructJob(self, scan, output, grid):
        """The job.json of the reconstruction. `grid` is a Grid as a dict, or None: about the isocentre."""
        job = {
            "task": "reconstruct",
            "scan": scan,
            "output": output,
            "method": self.method,
            "grid": grid,
            "device": self.device,
            "budget_s": self.budget if self.budget > 0 else None,
            "previews": "previews",
            "previews_kept": 3,
        }
        job["options"] = ({"preset": self.methodPreset} if self.methodPreset else {}) | self.changedOptions
        if grid is None and self.voxelSize > 0:
            job["spacing_mm"] = [self.voxelSize] * 3
        return job


def _checkScan(scanVolume):
    if scanVolume is None:
        raise ValueError(_("Choose a scan of the scene, simulate one, or load one."))
    geometryOf(scanVolume)


def _checkScanFolder(path):
    if not path.strip():
        raise ValueError(_("Choose the folder of the scan."))
    if not os.path.exists(os.path.expanduser(path)):
        raise ValueError(_("There is no {path}: choose the folder of a scan.").format(path=path))


def writeJob(job, folder):
    """Write `job` as job.json into `folder` and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.json"
    path.write_text(json.dumps(job, indent=1), encoding="utf-8")
    return path


def coarserGrid(grid, voxelSize):
    """`grid` (a Grid as a dict) with cubic voxels of `voxelSize` mm in the same box; as it is for 0."""
    if voxelSize <= 0:
        return grid
    import numpy as np

    spacing = np.array(grid["spacing_mm"])
    extent = spacing * grid["size"]
    size = np.maximum(np.ceil(extent / voxelSize - 1e-6), 1).astype(int)
    axes = np.array(grid["direction"]).reshape(3, 3)
    face = np.array(grid["origin_mm"]) - axes @ (spacing / 2)
    origin = face + axes @ ((extent - (size - 1) * voxelSize) / 2)
    return {
        "size": size.tolist(),
        "spacing_mm": [voxelSize] * 3,
        "origin_mm": origin.tolist(),
        "direction": list(grid["direction"]),
    }
