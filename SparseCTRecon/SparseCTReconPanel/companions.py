"""What is told of a result in nodes of their own, the outline of its field of view and maps of trust: these are where it is, and go with
it."""

import qt
import slicer

from . import field_of_view, trust_maps
from .scene import removeNode


class Companions:
    """Puts the companions of the scene's results under their transforms, and takes them out of the scene with them, until `leave`."""

    def __init__(self):
        self._results = []
        self._refreshing = qt.QTimer()  # a node is added before it says whose it is
        self._refreshing.setSingleShot(True)
        self._refreshing.setInterval(0)
        self._refreshing.connect("timeout()", self._followResults)
        scene = slicer.mrmlScene
        later = (scene.NodeAddedEvent, scene.EndImportEvent, scene.EndCloseEvent)
        self._sceneTags = [scene.AddObserver(event, lambda *_arguments: self._refreshing.start()) for event in later]
        self._sceneTags.append(scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved))
        self._refreshing.start()

    def leave(self):
        """Follow the scene no longer."""
        self._refreshing.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        self._release()

    def _onNodeRemoved(self, caller=None, event=None):
        self._refreshing.start()
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting():
            return
        for node, result in _companions():
            if result is None and slicer.mrmlScene.GetNodeByID(node.GetID()):
                removeNode(node)

    def _followResults(self):
        self._release()
        for result in {result.GetID(): result for _node, result in _companions() if result}.values():
            self._results.append((result, result.AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, _placeCompanions)))
            _placeCompanions(result)

    def _release(self):
        for result, tag in self._results:
            result.RemoveObserver(tag)
        self._results = []


def _companions():
    """Each companion of the scene with its result, None where that is no longer there."""
    found = [(node, node.GetNodeReference(field_of_view.RESULT_ROLE)) for node in field_of_view.outlines()]
    return found + [(node, node.GetNodeReference(trust_maps.RESULT_ROLE)) for node in trust_maps.maps()]


def _placeCompanions(result, event=None):
    """Put the companions of a result under its transform."""
    for node, itsResult in _companions():
        if itsResult is result and node.GetTransformNodeID() != result.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
