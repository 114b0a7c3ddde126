"""The volume as it sharpened: the previews of a run as a sequence, and a browser to step through them."""

import slicer

from .scene import RESULT_ROLE, removeNode


class Snapshots:
    """The previews of a run as a sequence over the iterations.

    Parameters
    ----------
    name : str
        Name of the sequence.
    """

    def __init__(self, name="Snapshots"):
        self._name = name
        self._id = self._browserID = None

    @property
    def sequenceNode(self):
        return slicer.mrmlScene.GetNodeByID(self._id) if self._id else None

    @property
    def browserNode(self):
        """None before the run has ended."""
        return slicer.mrmlScene.GetNodeByID(self._browserID) if self._browserID else None

    def add(self, volumeNode, step):
        """Append a copy of the volume as it is at `step`."""
        sequence = self.sequenceNode
        if sequence is None:
            name = slicer.mrmlScene.GenerateUniqueName(self._name)
            sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
            sequence.SetIndexName("iteration")
            sequence.SetIndexUnit("")
            sequence.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
            self._id = sequence.GetID()
        sequence.SetDataNodeAtValue(volumeNode, str(step))

    def finish(self, volumeNode):
        """Add a browser for the sequence and return it; None if there was no snapshot."""
        sequence = self.sequenceNode
        if sequence is None:
            return None
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence.GetName()} browser")
        browser.AddSynchronizedSequenceNode(sequence)
        browser.SetNodeReferenceID(RESULT_ROLE, volumeNode.GetID())
        browser.SetSelectedItemNumber(sequence.GetNumberOfDataNodes() - 1)
        self._browserID = browser.GetID()
        return browser

    def remove(self):
        for node in filter(None, (self.browserNode, self.sequenceNode)):
            removeNode(node)


def browserOf(volumeNode):
    """The browser of the snapshots that led to a volume; None if there is none."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode") if volumeNode else []
    return next((browser for browser in browsers if browser.GetNodeReferenceID(RESULT_ROLE) == volumeNode.GetID()), None)


def isSnapshot(node):
    """Whether a volume is what a browser of snapshots shows at the moment."""
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node)
    return browser is not None and browser.GetNodeReferenceID(RESULT_ROLE) is not None


def stepOf(browser, number):
    """The iteration of a browser's snapshot, a text."""
    return browser.GetMasterSequenceNode().GetNthIndexValue(number)


def showSnapshot(browser, number):
    """Show a snapshot in the slice views, with the window and level of the result; the last position is the result itself."""
    result = browser.GetNodeReference(RESULT_ROLE)
    if number >= browser.GetNumberOfItems():
        if result:
            slicer.util.setSliceViewerLayers(background=result)
        return
    browser.SetSelectedItemNumber(number)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(browser.GetMasterSequenceNode())
    if result and result.GetDisplayNode():
        proxy.SetAndObserveDisplayNodeID(result.GetDisplayNodeID())
    slicer.util.setSliceViewerLayers(background=proxy)
