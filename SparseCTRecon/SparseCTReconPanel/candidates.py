"""Which volumes of the scene can be compared, and with which."""

import slicer

from .differences import isDifference
from .scan_node import CT_ROLE, isScan
from .scene import NAMED, PREFIX
from .snapshots import isSnapshot
from .trust_maps import isMap


def isResult(node):
    """Whether a reconstruction of this module has made the volume."""
    return node.GetAttribute(PREFIX + "method") is not None


def candidates():
    """Volumes that can be compared: no scans, label maps, differences, snapshots or maps of trust; results of this module first, the
    newest at the top."""
    nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if _canBeCompared(node)]
    results = [node for node in nodes if isResult(node)]
    return results[::-1] + [node for node in nodes if not isResult(node)]


def defaultReference(nodes, inputVolume=None):
    """The CT of the newest result's scan, or `inputVolume`, or the only volume that no method has made; None if there is none."""
    for node in filter(isResult, nodes):
        ct = node.GetNodeReference(CT_ROLE)
        if ct:
            return ct
    if inputVolume and not isResult(inputVolume) and _canBeCompared(inputVolume):
        return inputVolume
    others = [node for node in nodes if not isResult(node) and node.GetAttribute(NAMED) is None]
    return others[0] if len(others) == 1 else None


def _canBeCompared(node):
    foreign = node.GetHideFromEditors() or node.IsA("vtkMRMLLabelMapVolumeNode")
    return not (foreign or isScan(node) or isDifference(node) or isSnapshot(node) or isMap(node))
