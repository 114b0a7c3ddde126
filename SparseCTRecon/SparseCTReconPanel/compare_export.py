"""Volumes of the scene as files: NRRD, or DICOM series derived from the CT."""

import re
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .placement import exportInWorld, hasVoxels, ijkToRas, ijkToWorld

NRRD, DICOM = "NRRD", "DICOM"


def exportVolumes(volumeNodes, folder, kind=NRRD):
    """Write volumes into a folder, each to a file (NRRD) or a folder of its own (DICOM) that was not there before; return the paths.

    Patient and study of a DICOM series are those of the CT that the volume was made of, where that was loaded from DICOM.

    :raises ValueError: if a volume has no voxels or cannot be written, in one sentence.
    """
    folder = Path(folder)
    written = []
    for node in volumeNodes:
        if not hasVoxels(node):
            raise ValueError(_("{name} has no voxels.").format(name=node.GetName()))
        path = _unused(folder, fileName(node.GetName()), ".nrrd" if kind == NRRD else "")
        try:
            exportInWorld(node, path) if kind == NRRD else _exportDicom(node, path)
        except OSError as error:
            raise ValueError(_("{path} could not be written: {error}").format(path=path, error=error.strerror or error)) from None
        written.append(path)
    return written


def sentence(paths):
    """What was written, for the user."""
    return _("Written: {names} in {folder}.").format(names=", ".join(path.name for path in paths), folder=paths[0].parent)


def fileName(name):
    """A node's name as every file system takes it; letters of all alphabets stay."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", name).strip(" .")[:80] or "volume"


def _unused(folder, stem, suffix):
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem} {number}{suffix}"
    return path


def _exportDicom(node, folder):
    import numpy as np

    from SparseCTReconLib.formats import dicom_writing
    from SparseCTReconLib.grid import Grid, Volume

    from .scene import PREFIX

    source = node.GetNodeReference(PREFIX + "ct") or node
    like = _dicomFileOf(source)
    toDicom = ijkToRas(source) @ np.linalg.inv(ijkToWorld(source)) if like else np.eye(4)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ toDicom @ ijkToWorld(node)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    grid = Grid(node.GetImageData().GetDimensions(), tuple(spacing), tuple(matrix[:3, 3]), matrix[:3, :3] / spacing)
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames() if name.startswith(PREFIX)}
    volume = Volume(slicer.util.arrayFromVolume(node), grid, attributes, node.GetAttribute(PREFIX + "unit") or "HU")
    dicom_writing.write_series(volume, folder, like=like)


def _dicomFileOf(node):
    """A file of the DICOM series that the volume was loaded from; None where it was not."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    path = database.fileForInstance(uids[0]) if uids and database else ""
    return Path(path) if path else None
