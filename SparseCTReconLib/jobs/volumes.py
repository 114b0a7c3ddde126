"""How a worker writes a volume: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from .. import formats
from ..errors import InputError
from ..formats import dicom_writing
from ..grid import Volume
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
