"""Lets Slicer open a scan: "Add data", drag and drop onto the window, slicer.util.loadNodeFromFile(path, "SparseCTReconScan")."""

from pathlib import Path

import vtk
from slicer.i18n import tr as _

from .scan_node import loadScan

FILE_TYPE = "SparseCTReconScan"
_DESCRIPTION, _GEOMETRY = "scan.json", "geometry.xml"
_HEAD_BYTES = 4096
_ENDINGS = (".json", ".xml", ".pickle", ".pkl", ".yaml", ".yml", ".csv", ".mat", ".npz")
"""Of files that Slicer asks about; what they are, their content says."""
_IN_FILES = ("rtk_scan", "naf", "r2_gaussian", "deepsparse", "tigre", "lab")
"""Formats of the library that such a file can be."""


class SparseCTReconFileReader:
    """Reader plugin; Slicer finds it by its name in the module's file and makes it with the qSlicerScriptedFileReader as its parent."""

    def __init__(self, parent):
        self.parent = parent

    def description(self):
        return _("Cone-beam CT scan")

    def fileType(self):
        return FILE_TYPE

    def extensions(self):
        return [_("Cone-beam CT scan") + " (" + " ".join("*" + ending for ending in _ENDINGS) + ")"]

    def canLoadFileConfidence(self, filePath):
        """High for the file that stands for a scan folder: its scan.json, or its RTK geometry where there is no scan.json; less, but more
        than for a text or a table, for what a reader of the library recognises."""
        path = Path(filePath)
        if path.name == _DESCRIPTION and _holds(path, b'"SparseCTRecon scan"'):
            return 0.9
        alone = path.name == _GEOMETRY and not (path.parent / _DESCRIPTION).exists()
        if alone and _holds(path, b"<RTKThreeDCircularGeometry"):
            return 0.9
        return 0.7 if path.suffix.lower() in _ENDINGS and _isForeignScan(path) else 0.0

    def load(self, properties):
        try:
            node = loadScan(properties["fileName"], properties.get("name", ""))
        except (ValueError, OSError) as error:
            self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, str(error))
            return False
        self.parent.loadedNodes = [node.GetID()]
        return True


def _isForeignScan(path):
    from SparseCTReconLib.formats import scan_format

    try:
        return scan_format(path) in _IN_FILES
    except (OSError, ImportError):
        return False


def _holds(path, text):
    try:
        with open(path, "rb") as file:
            return text in file.read(_HEAD_BYTES)
    except OSError:
        return False
