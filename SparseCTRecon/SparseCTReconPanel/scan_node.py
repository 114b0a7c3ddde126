"""Scans in the scene: a volume node holds the projections [view, v, u], its attributes the geometry and where they came from."""

import hashlib
import json
import os
import zlib
from functools import lru_cache

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.scan import Scan

from .scene import PREFIX, fileBeside, removeNode

CLASS = "vtkMRMLScalarVolumeNode"
SCAN = PREFIX + "scan"
"""Only scans have this attribute; its value is the version of the others."""
VERSION = "1"
UNITS = "line integrals, mm, LPS"
SIMULATION = PREFIX + "simulation"
"""What a simulated scan was asked for, so that it is not simulated again."""
CT_ROLE = PREFIX + "ct"
"""Role of the node reference to the CT that the scan was simulated from."""
_SEALED = ("scan", "units", "geometry", "photons", "muWater", "provenance", "voxels")
_POSES = ("source", "detector", "u", "v")
_OF_A_FOLDER = ("scan.json", "geometry.xml", "projections.mha", "projections.nrrd", "meta_data.json")
"""Files that stand for the folder they lie in."""


def isScan(node):
    return bool(node and node.GetAttribute(SCAN))


def scanNodes():
    """All scans of the scene."""
    return [node for node in slicer.util.getNodesByClass(CLASS) if isScan(node)]


def createScanNode(scan, name):
    """Add a node for a SparseCTReconLib.Scan to the scene; row and column of its slices are those of the detector, k counts the views."""
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetAttribute(SCAN, VERSION)  # selectors look for it when the node is added
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    lowest, highest = _grayRange(scan.projections)
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(lowest, highest)
    slicer.util.updateVolumeFromArray(node, scan.projections)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_placement(scan)))
    texts = {
        "scan": VERSION,
        "units": UNITS,
        "geometry": _geometryText(scan.geometry),
        "photons": "" if scan.photons is None else repr(float(scan.photons)),
        "muWater": repr(float(scan.mu_water)),
        "provenance": json.dumps(scan.provenance, default=lambda value: value.tolist(), separators=(",", ":")),
        "voxels": _checksum(scan.projections),
    }
    for key, text in texts.items():
        node.SetAttribute(PREFIX + key, text)
    node.SetAttribute(PREFIX + "seal", _seal([texts[key] for key in _SEALED]))
    return node


def loadScan(path, name=""):
    """Read a scan folder, or any file that a reader of the library recognises, into a new scan node.

    :raises ValueError: where it cannot be read, in one sentence.
    """
    from SparseCTReconLib.formats import read_scan

    path = os.path.abspath(os.path.expanduser(path))
    try:
        scan = read_scan(path)
    except ImportError as error:
        raise ValueError(
            _("{path} needs the Python package {package}: press Apply once, which installs it, or reconstruct the file as it lies.").format(
                path=path, package=error.name
            )
        ) from error
    except MemoryError as error:
        raise ValueError(_("{path} does not fit into the memory that is free: close other data first.").format(path=path)) from error
    return createScanNode(scan, name or _nameOf(path) or _("Scan"))


def _nameOf(path):
    """The name of a scan: that of its folder, or of a file that is a scan by itself."""
    folder, file = os.path.split(path)
    if os.path.isdir(path):
        return file
    return os.path.basename(folder) if file in _OF_A_FOLDER else os.path.splitext(file)[0]


def saveScan(node, folder):
    """Write a scan node to a scan folder, which other programs read.

    :raises ValueError: where the node's attributes were edited, or the folder cannot be written, in one sentence.
    """
    from SparseCTReconLib.formats import write_scan

    write_scan(scanOf(node), folder)


def assumedOf(node):
    """What was assumed when the scan was read, since its files did not say it; empty for most."""
    return str(provenanceOf(node).get("assumed", ""))


def warningsOf(node):
    """What looked wrong when the scan was read, a list of texts."""
    said = provenanceOf(node).get("warnings", ())
    return [str(text) for text in said] if isinstance(said, (list, tuple)) else []


def geometryOf(node):
    """Geometry of a scan node.

    :raises ValueError: where the node is no scan, or its attributes were edited or do not fit its voxels, in one sentence.
    """
    return _partsOf(node)[0]


def provenanceOf(node):
    """How the scan of a scan node came about, a dict; raises as `geometryOf`."""
    return _partsOf(node)[3]


def scanOf(node):
    """The SparseCTReconLib.Scan of a node, whose provenance says so where the voxels were changed in the scene; raises as `geometryOf`."""
    geometry, photons, muWater, provenance = _partsOf(node)
    try:
        scan = Scan(slicer.util.arrayFromVolume(node), geometry, photons, muWater, dict(provenance))
    except ValueError as error:
        raise ValueError(f"{node.GetName()}: {error}") from error
    if _checksum(scan.projections) != node.GetAttribute(PREFIX + "voxels"):
        scan.provenance["edited"] = "the projections were changed after they were simulated or read"
    return scan


def ctOf(node):
    """The CT that the scan was simulated from, if it is still in the scene."""
    return node.GetNodeReference(CT_ROLE)


def gridOfScan(node):
    """The grid (a Grid as a dict) of the CT that the scan was simulated from; None for any other scan."""
    grid = provenanceOf(node).get("ct_grid")
    try:
        return Grid.from_dict(grid).to_dict() if grid else None
    except (KeyError, TypeError, ValueError):
        raise ValueError(_refusal(node, "provenance")) from None


def findSimulated(request):
    """The scan of the scene that was simulated as `request` (a text) asks and has not been changed since; None if there is none."""
    for node in scanNodes():
        if node.GetAttribute(SIMULATION) == request:
            try:
                if "edited" not in scanOf(node).provenance:
                    return node
            except ValueError:
                continue
    return None


class OutputScan:
    """The scan node that a run makes from the folder that its worker writes, held by its ID.

    Parameters
    ----------
    folders : ScanFolders
        Gives the folder, and keeps it for the jobs that need this scan.
    inputNode : vtkMRMLScalarVolumeNode
        The CT: the scan is filed beside it and refers to it.
    name : str
        Name of the node.
    request : str
        What was asked for, for `findSimulated`.
    """

    def __init__(self, folders, inputNode, name, request):
        self.folder = folders.reserve()
        self._folders = folders
        self._inputID = inputNode.GetID()
        self.name = name
        self._request = request
        self._id = None

    @property
    def node(self):
        """The node; None before it is there and once it has been deleted."""
        return slicer.mrmlScene.GetNodeByID(self._id) if self._id else None

    def take(self):
        """Bring the scan that the worker has written into the scene."""
        from SparseCTReconLib.formats import read_scan

        node = createScanNode(read_scan(self.folder), self.name)
        self._id = node.GetID()
        node.SetAttribute(SIMULATION, self._request)
        inputNode = slicer.mrmlScene.GetNodeByID(self._inputID)
        if inputNode:
            node.SetNodeReferenceID(CT_ROLE, self._inputID)
            fileBeside(node, inputNode)
        self._folders.adopt(node, self.folder)

    def restore(self):
        """Leave the scene as it was before the run. The folder of a scan that was in the scene stays while jobs wait that read it."""
        if self.node:
            removeNode(self.node)
        if self._id is None:
            self._folders.release(self.folder)


def _partsOf(node):
    texts = [node.GetAttribute(PREFIX + key) for key in _SEALED]
    if texts[0] is None:
        raise ValueError(_("{name} is no scan: choose one, simulate one, or load one.").format(name=node.GetName()))
    if texts[0] != VERSION:
        raise ValueError(
            _("{name} is a scan of version {version}, known is {known}: install a newer SparseCTRecon.").format(
                name=node.GetName(), version=texts[0], known=VERSION
            )
        )
    for key, text in zip(_SEALED, texts):
        if text is None:
            raise ValueError(_refusal(node, key))
    try:
        parts = _parse(tuple(texts))
    except _Damaged as error:
        raise ValueError(_refusal(node, str(error))) from error
    if node.GetAttribute(PREFIX + "seal") != _seal(texts):
        raise ValueError(_refusal(node, "seal"))
    image = node.GetImageData()
    size = image.GetDimensions()[::-1] if image and image.GetNumberOfPoints() else (0, 0, 0)
    expected = (parts[0].views, *parts[0].detector_shape)
    if size != expected:
        raise ValueError(
            _("{name} has {size} pixels (views, rows, columns), its geometry is for {expected}: simulate or load the scan again.").format(
                name=node.GetName(), size=" x ".join(map(str, size)), expected=" x ".join(map(str, expected))
            )
        )
    return parts


def _refusal(node, key):
    return _("{name} cannot be used: its attribute {key} was edited or is damaged; simulate or load the scan again.").format(
        name=node.GetName(), key=PREFIX + key
    )


class _Damaged(Exception):
    """An attribute, named, that cannot be read."""


@lru_cache(maxsize=8)
def _parse(texts):
    """Geometry, photons, attenuation of water and provenance; asked for at each change of a parameter, hence kept."""
    readers = {
        "units": _units,
        "geometry": _geometry,
        "photons": lambda text: float(text) if text else None,
        "muWater": float,
        "provenance": _object,
    }
    values = {}
    for key, text in zip(_SEALED, texts):
        try:
            values[key] = readers.get(key, str)(text)
        except (ValueError, KeyError, TypeError) as error:
            raise _Damaged(key) from error
    return values["geometry"], values["photons"], values["muWater"], values["provenance"]


def _units(text):
    if text != UNITS:
        raise ValueError(text)
    return text


def _object(text):
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(text)
    return value


def _geometryText(geometry):
    values = {name: getattr(geometry, name).round(6 if name in ("source", "detector") else 9).tolist() for name in _POSES}
    values |= {"shape": geometry.detector_shape, "pixel": geometry.pixel_mm, "isocentre": geometry.isocentre_mm}
    return json.dumps(values, separators=(",", ":"))


def _geometry(text):
    values = _object(text)
    return Geometry(*(values[name] for name in _POSES), tuple(values["shape"]), tuple(values["pixel"]), tuple(values["isocentre"]))


def _seal(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _checksum(projections):
    return f"{zlib.crc32(projections.data):08x}"


def _placement(scan):
    """IJKToRAS about the origin: in an axial view u grows to the right and v upwards; in a coronal one the views follow downwards
    and fill a picture as high as the detector."""
    import numpy as np

    (nv, nu), (dv, du) = scan.geometry.detector_shape, scan.geometry.pixel_mm
    matrix = np.diag([-du, dv, -nv * dv / scan.views, 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array([nu, nv, scan.views]) - 1) / 2)
    return matrix


def _grayRange(projections):
    """From the darkest to nearly the brightest of some pixels."""
    import numpy as np

    some = projections.ravel()[:: max(1, projections.size // 100_000)]
    lowest, highest = float(some.min()), float(np.percentile(some, 99.8))
    return lowest, max(highest, lowest + 1e-3)
