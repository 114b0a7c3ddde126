"""Scans of the scene as folders that a worker can read."""

import shutil
from pathlib import Path

import slicer

from .scan_node import scanOf


class ScanFolders:
    """Writes a scan node to a folder when a job needs it, once for as long as the node stays as it is."""

    def __init__(self):
        self._of = {}
        self._all = []

    def reserve(self):
        """Path of a scan folder that is not there yet."""
        folder = Path(slicer.util.tempDirectory(key="SparseCTRecon-scan-"))
        self._all.append(folder)
        return folder / "scan"

    def adopt(self, node, folder):
        """Take `folder` for what `node` holds now."""
        self._of[node.GetID()] = _state(node), folder

    def folderOf(self, node):
        """A folder with the scan of `node` as it is now.

        :raises ValueError: where the node's attributes were edited, or the folder cannot be written, in one sentence.
        """
        from SparseCTReconLib.formats import write_scan

        state, folder = self._of.get(node.GetID(), (None, None))
        if state != _state(node) or not folder.is_dir():
            folder = self.reserve()
            write_scan(scanOf(node), folder)
            self.adopt(node, folder)
        return folder

    def release(self, folder):
        """Delete a folder that `reserve` gave."""
        self._all = [one for one in self._all if one != folder.parent]
        self._of = {nodeID: kept for nodeID, kept in self._of.items() if kept[1] != folder}
        shutil.rmtree(folder.parent, ignore_errors=True)

    def discard(self):
        """Delete all folders."""
        for folder in self._all:
            shutil.rmtree(folder, ignore_errors=True)
        self._of, self._all = {}, []

    def discardUnused(self):
        """Delete the folders of scans that are no longer in the scene, or have changed; only while no job runs."""
        used = [folder for nodeID, (_before, folder) in self._of.items() if slicer.mrmlScene.GetNodeByID(nodeID)]
        for folder in [one / "scan" for one in self._all]:
            if folder not in used:
                self.release(folder)


def _state(node):
    """What changes whenever the voxels or what says how they were measured do."""
    image, names = node.GetImageData(), sorted(node.GetAttributeNames())
    return image.GetMTime() if image else 0, tuple((name, node.GetAttribute(name)) for name in names)
