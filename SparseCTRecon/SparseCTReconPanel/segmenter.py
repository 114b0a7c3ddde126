"""TotalSegmentator as Slicer has it: whether it is there, how it gets there, and its labels as segments."""

import colorsys
import importlib.metadata
import os
import shutil

import slicer
from slicer.i18n import tr as _

from .scene import PREFIX, fileBeside, removeNode

EXTENSION = "TotalSegmentator"
KIND = PREFIX + "segmentation"
PROGRAM_VARIABLE = "SPARSECTRECON_TOTALSEGMENTATOR"


def hasExtension():
    """Whether Slicer's TotalSegmentator extension is loaded."""
    return hasattr(slicer.modules, "totalsegmentator")


def hasPackage():
    """Whether TotalSegmentator's Python package is installed; it is not imported."""
    try:
        importlib.metadata.version("TotalSegmentator")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def hasProgram():
    """Whether TotalSegmentator can be run from elsewhere: on the path, or named in the environment, as the worker looks for it."""
    return bool(os.environ.get(PROGRAM_VARIABLE) or shutil.which("TotalSegmentator"))


def status():
    """Return (True, "") where organs can be segmented, or (False, why not and what to do, in one sentence)."""
    if hasPackage() or hasProgram():
        return True, ""
    if hasExtension():
        return False, _("The TotalSegmentator extension is here, its Python packages are not: install them, several gigabytes.")
    return False, _("Organs need the TotalSegmentator extension, which is not installed; tissues are compared without it.")


def install():
    """Install what is missing, after asking; return whether organs can be segmented now (an extension needs a restart first).

    :raises RuntimeError: if it could not be installed, with the last lines of what was said.
    """
    if not hasExtension():
        model = slicer.app.extensionsManagerModel()
        if model is None or not model.installExtensionFromServer(EXTENSION):
            raise RuntimeError(
                _("The {name} extension was not installed: is there a network? It is also in the Extensions Manager.").format(
                    name=EXTENSION
                )
            )
        return False
    from TotalSegmentator import TotalSegmentatorLogic

    try:
        TotalSegmentatorLogic().setupPythonRequirements()
    except Exception as error:
        last = "\n".join(str(error).splitlines()[-10:])
        raise RuntimeError(_("TotalSegmentator's packages were not installed: {last}").format(last=last)) from error
    return hasPackage()


def importLabels(file, task, names, volumeName, volumeNode=None):
    """Put a file of labels into the scene as a segmentation node, hidden, beside the volume it was made of.

    Parameters
    ----------
    file : path
        NIfTI file of labels.
    task : str
        TotalSegmentator's task, for its names and colours where the extension is there.
    names : dict of int to str
        Names of the labels otherwise.
    volumeName : str
        What the node is called after.
    volumeNode : vtkMRMLScalarVolumeNode, optional
        Its geometry and place in the subject hierarchy are taken.
    """
    _removeEarlier(volumeName)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", _("{name} organs").format(name=volumeName))
    node.SetAttribute(KIND, volumeName)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    try:
        if hasExtension():
            from TotalSegmentator import TotalSegmentatorLogic

            TotalSegmentatorLogic().readSegmentation(node, str(file), task)
        else:
            _readLabels(node, str(file), names)
    except Exception as error:
        removeNode(node)
        raise RuntimeError(_("The organs of {name} could not be read: {error}").format(name=volumeName, error=error)) from error
    if node.GetStorageNode():
        slicer.mrmlScene.RemoveNode(node.GetStorageNode())  # names a file that goes: the scene makes its own when it is saved
    if volumeNode:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        fileBeside(node, volumeNode)
    return node


def _removeEarlier(volumeName):
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(KIND) == volumeName:
            removeNode(node)


def _readLabels(node, file, names):
    """Read labels with our own names, where TotalSegmentator's extension is not there to tell its own."""
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "SparseCTRecon labels")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(max(names, default=0) + 1)
    for label, name in names.items():
        hue = label * 0.618034 % 1.0  # golden ratio: neighbours far apart
        colors.SetColor(label, *colorsys.hsv_to_rgb(hue, 0.6, 0.95), 1.0)
        colors.SetColorName(label, name)
    try:
        node.SetLabelmapConversionColorTableNodeID(colors.GetID())
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(file)
        if not storage.ReadData(node):
            raise OSError(_("{file} is no file of labels").format(file=file))
    finally:
        slicer.mrmlScene.RemoveNode(colors)
