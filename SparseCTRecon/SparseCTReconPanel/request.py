"""What the user asks for, checked, and the job files that follow from it. No widgets, no nodes."""

import enum
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from slicer.i18n import tr as _


class Source(enum.Enum):
    """Where the projections come from."""

    SIMULATE = "simulate"
    FOLDER = "folder"

    def label(self):
        return {"simulate": _("Simulate from a CT"), "folder": _("Read a scan")}[self.value]


@dataclass(frozen=True)
class Request:
    """One reconstruction, as the panel or a script asks for it.

    Parameters
    ----------
    source : Source
        Projections simulated from a CT, or read from `scanFolder`.
    scanFolder : str
        Scan folder, or any file that a reader of the library recognises.
    preset : str
        Machine to simulate.
    views : int
        Number of projections.
    arc : float
        Length of the orbit in degrees; 0 = the preset's.
    photons : float
        Photons per detector pixel without an object; 0 = no noise.
    seed : int
        Seed of the noise in a simulated scan.
    method : str
        Name of a reconstruction method.
    methodPreset : str
        Name of one of the method's presets; empty = its first one.
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
    seed: int = 0
    method: str = "fdk"
    methodPreset: str = ""
    voxelSize: float = 0.0
    device: str = "auto"
    budget: float = 0.0
    keepSnapshots: bool = False

    @classmethod
    def fromParameterNode(cls, parameterNode):
        return cls(**{field.name: getattr(parameterNode, field.name) for field in fields(cls)})

    def isValid(self, inputVolume):
        """Return (True, "") or (False, why not, in one sentence)."""
        if self.source is Source.FOLDER:
            return _scanFolderIsValid(self.scanFolder)
        if inputVolume is None:
            return False, _("Select a CT volume to simulate a scan from, or read a scan.")
        image = inputVolume.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            return False, _("{name} has no voxels: load it, or select another volume.").format(name=inputVolume.GetName())
        if min(image.GetDimensions()) < 2:
            return False, _("{name} is a single slice: select a volume.").format(name=inputVolume.GetName())
        return True, ""

    def simulateJob(self, ct, output):
        """The job.json of the simulation; `ct` and `output` are relative to the job's folder."""
        job = {"task": "simulate", "ct": ct, "output": output, "views": self.views, "preset": self.preset, "seed": self.seed}
        job["photons"] = self.photons if self.photons > 0 else None
        if self.arc > 0:
            job["arc_deg"] = self.arc
        return job

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
        if self.methodPreset:
            job["options"] = {"preset": self.methodPreset}
        if grid is None and self.voxelSize > 0:
            job["spacing_mm"] = [self.voxelSize] * 3
        return job


def _scanFolderIsValid(path):
    if not path.strip():
        return False, _("Choose the folder of the scan.")
    if not os.path.exists(path):
        return False, _("There is no {path}: choose the folder of a scan.").format(path=path)
    return True, ""


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
