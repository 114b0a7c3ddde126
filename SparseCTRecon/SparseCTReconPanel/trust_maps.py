"""Maps of what the measurements support, as volumes of the scene that lie over the result in the slice views."""

import slicer
from slicer.i18n import tr as _

from .differences import COLORS
from .nrrd import readNrrd
from .scene import PREFIX, OutputVolume, removeNode

KIND = PREFIX + "trust"
RESULT_ROLE = PREFIX + "trust_of"
OVERLAY_OPACITY = 0.7

_ENTRIES = 255
_RANGES = {"contradiction": (-9.0, 9.0), "determined": (0.0, 100.0), "prior": (-90.0, 90.0)}
"""Values at both ends of the colours of the maps that become nodes."""

_CLEAR = 1 / 3
"""Share of a signed map's range about nothing that is clear: z below 3, 30 HU. Slice views know no half-clear colours."""

_DETERMINED = 0.5
"""Share that the views determine from which on the map is clear."""

_EXAMINED = 0.0
"""Least percent of the map of what is determined where there is anything to determine: it holds less where there is no body."""


def title(name):
    """A map's name for people."""
    titles = {
        "contradiction": _("Contradicts the measurements (z over 3)"),
        "determined": _("Less than half determined by the views"),
        "prior": _("Left to the prior (over 30 HU)"),
    }
    return titles[name]


def importMaps(folder, resultNode):
    """Read the maps of a finished examination beside `resultNode`; return their nodes by name. Those of an earlier one go."""
    removeMaps(resultNode)
    found = {}
    for name, ends in _RANGES.items():
        array, ijkToRas, attributes = readNrrd(folder / f"{name}.nrrd")
        output = OutputVolume(None, resultNode, f"{resultNode.GetName()} {name}", shown=False)
        output.begin()
        node = output.finish(array, ijkToRas, attributes)
        node.SetAttribute(KIND, name)
        node.SetNodeReferenceID(RESULT_ROLE, resultNode.GetID())
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(colorNode(name).GetID())
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(ends[1] - ends[0], (ends[0] + ends[1]) / 2)
        if name == "determined":
            display.SetInterpolate(False)  # between -1 and a share that is clear lie shares that are not
            display.SetAutoThreshold(False)
            display.SetThreshold(_EXAMINED, 2 * ends[1])
            display.SetApplyThreshold(True)
        found[name] = node
    return found


def isMap(node):
    return node.GetAttribute(KIND) in _RANGES


def maps():
    """All maps of the scene."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isMap(node)]


def removeMaps(resultNode):
    """Take the maps of a result out of the scene."""
    for node in maps():
        if node.GetNodeReferenceID(RESULT_ROLE) == resultNode.GetID():
            removeNode(node)


def show(resultNode, mapNode):
    """Lay a map over the result in all slice views; None takes what lies over it away."""
    if mapNode is None:
        slicer.util.setSliceViewerLayers(background=resultNode, foreground=None)
    else:
        slicer.util.setSliceViewerLayers(background=resultNode, foreground=mapNode, foregroundOpacity=OVERLAY_OPACITY)


def colorNode(name):
    """The scene's colours of a map, clear where there is nothing to see, made where they are not there yet."""
    signed = name != "determined"
    kind = "signed colors" if signed else "share colors"
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(KIND) == kind:
            return node
    said = _("Trust (blue: less, orange: more)") if signed else _("Trust (orange: not determined)")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", said)
    node.SetTypeToUser()
    node.SetNumberOfColors(_ENTRIES)
    for entry in range(_ENTRIES):
        share = entry / (_ENTRIES - 1)
        color = _signed(2 * share - 1) if signed else _between(4, 5, 1 - share / _DETERMINED)
        node.SetColor(entry, *(color or (0.0, 0.0, 0.0)), 1.0 if color else 0.0)
    node.SetNamesFromColors()
    node.SetAttribute(KIND, kind)
    return node


def toRas(position):
    """An LPS position in RAS."""
    x, y, z = position
    return -x, -y, z


def _signed(value):
    """Colour from far below nothing (-1) to far above it (1); None in the middle."""
    return _between(*((2, 1) if value < 0 else (4, 5)), (abs(value) - _CLEAR) / (1 - _CLEAR))


def _between(dark, bright, place):
    """The colour at a place from 0 to 1 between two of COLORS; None below 0."""
    ends = ([int(COLORS[number][n : n + 2], 16) / 255 for n in (1, 3, 5)] for number in (dark, bright))
    return [a + place * (b - a) for a, b in zip(*ends)] if place >= 0 else None
