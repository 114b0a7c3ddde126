"""`slicer.app.coreIOManager()` for volumes: the reading and writing is that of Slicer's own module logic and storage nodes."""

from __future__ import annotations

from pathlib import Path

import slicer

VOLUME = "VolumeFile"


class CoreIOManager:
    """The part of qSlicerCoreIOManager that slicer.util.loadVolume and saveNode ask for."""

    def fileType(self, path):
        return VOLUME

    def fileWriterFileType(self, node):
        return VOLUME

    def loadNodes(self, kind, properties, nodes, messages) -> bool:
        """As qSlicerVolumesReader, without showing the volume."""
        _volumes_only(kind, properties, {"fileName", "name", "singleFile", "show"})
        path = properties["fileName"]
        name = properties.get("name", Path(path).name.partition(".")[0])
        options = 4 if properties.get("singleFile") else 0
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
        if node is not None:
            nodes.AddItem(node)
        return node is not None

    def saveNodes(self, kind, properties, messages) -> bool:
        _volumes_only(kind, properties, {"fileName", "nodeID"})
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if not node.GetStorageNode():
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(properties["fileName"])
        return bool(storage.WriteData(node))


def _volumes_only(kind, properties, known) -> None:
    if kind != VOLUME or not set(properties) <= known:
        raise NotImplementedError(f"the test host reads and writes volumes only, not {kind} with {set(properties) - known}")
