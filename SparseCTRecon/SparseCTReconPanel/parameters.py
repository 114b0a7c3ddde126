"""The panel's parameters, saved with the scene."""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from SparseCTReconLib import methods
from SparseCTReconLib.geometry import PRESETS

from .comparison import QUALITIES
from .request import Source

DEVICES = ["auto", "cpu", "cuda"]


@parameterNodeWrapper
class SparseCTReconParameterNode:
    """
    inputVolume - The CT that a scan is simulated from.
    source, scanVolume, scanFolder - Where the projections come from: simulated, a scan in the scene, or one on disk.
    preset, views, arc, photons, seed - The simulated scan; arc in degrees.
    ownDetector, columns, rows, pixelSize, offset - Its detector where it is not the machine's; lengths in mm.
    method, methodPreset - The method and one of its presets; none = its first one.
    methodOptions - What was set of the methods' options, JSON: {method: {option: value}}.
    region - The box to reconstruct; none = the whole volume.
    voxelSize, device, budget - The reconstruction; voxel size in mm, budget in seconds, 0 = the default.
    outputVolume - The volume that will hold the result; none = a new one.
    keepSnapshots - Whether the previews stay in the scene as a sequence.
    showFieldOfView - Whether what enough views see is outlined in the chosen result.
    compareReference - What results are compared with.
    segmenterQuality, organNames - TotalSegmentator's; names separated by commas, none = all organs.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    source: Source = Source.SIMULATE
    scanVolume: vtkMRMLScalarVolumeNode
    scanFolder: str = ""
    preset: Annotated[str, Choice(list(PRESETS))] = "linac"
    views: Annotated[int, WithinRange(1, 2000)] = 50
    arc: Annotated[float, WithinRange(0, 360)] = 0.0
    photons: Annotated[float, WithinRange(0, 1e9)] = 1e5
    ownDetector: bool = False
    columns: Annotated[int, WithinRange(1, 4096)] = 256
    rows: Annotated[int, WithinRange(1, 4096)] = 256
    pixelSize: Annotated[float, WithinRange(0.01, 20)] = 1.6
    offset: Annotated[float, WithinRange(-1000, 1000)] = 0.0
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    method: Annotated[str, Choice(methods.names())] = "fdk"
    methodPreset: str = ""
    methodOptions: str = "{}"
    region: vtkMRMLMarkupsROINode
    voxelSize: Annotated[float, WithinRange(0, 20)] = 0.0
    device: Annotated[str, Choice(DEVICES)] = "auto"
    budget: Annotated[float, WithinRange(0, 86400)] = 0.0
    outputVolume: vtkMRMLScalarVolumeNode
    keepSnapshots: bool = False
    showFieldOfView: bool = True
    compareReference: vtkMRMLScalarVolumeNode
    segmenterQuality: Annotated[str, Choice(list(QUALITIES))] = "fast"
    organNames: str = ""
