"""How a worker writes a volume: whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from .. import formats
from ..errors import InputError
from ..formats import ct, dicom_writing
from ..grid import Volume
from ..methods.reconstruct import PREFIX, Reconstruction
from .files import temporary_folder, written_beside


def write_whole(volume: Volume, path) -> None:
    """Write `volume` beside `path` and rename it; a path that ends with a slash gets a DICOM series.

    Raises
    ------
    InputError
        With the path that was asked for, where it cannot be written.
    """
    if dicom_writing.is_series(path):  # which comes whole by itself
        formats.write_volume(volume, path)
        return
    try:
        with written_beside(path) as beside:
            formats.write_volume(volume, beside)
    except InputError as error:
        raise InputError(str(error).replace(str(temporary_folder(path)), str(Path(path).parent)), error.code) from error


def write_field_of_view(job: Reconstruction, path) -> float:
    """Write how well the views see each voxel as a label map, whole or not at all; return the part that enough views see."""
    from ..operators.field_of_view import ENOUGH, LABELS

    attributes = {PREFIX + "labels": json.dumps(LABELS), PREFIX + "scan_sha256": job.scan_hash}
    with written_beside(path) as beside:
        ct.write_labels(job.field_of_view, job.grid, beside, attributes)
    return round(float((job.field_of_view >= ENOUGH).mean()), 6)
