"""Label maps in files: NIfTI as segmenters write it, with the names of the labels in the header's extension (Connectome Workbench's)."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..formats.ct import read_image
from ..formats.files import existing, image_suffix, named
from ..grid import Grid
from .organs import LabelMap

_HEADER_BYTES, _LONGEST_EXTENSION = 348, 1 << 20
_LABEL = re.compile(r'<Label\s[^>]*?Key="(\d+)"[^>]*>\s*(?:<!\[CDATA\[)?([^\]<]+)')


def read_labels(path, names: dict[int, str] | None = None) -> LabelMap:
    """A label map from any file that SimpleITK reads; `names` go before those in the file.

    Raises
    ------
    InputError
        Where the file is missing, damaged or holds no whole numbers.
    """
    import SimpleITK

    path = existing(path)
    image = read_image(path)
    array = SimpleITK.GetArrayFromImage(image)
    if array.ndim != 3:
        raise InputError(f"{path} has {array.ndim} dimensions: a label map has three", "not-labels")
    if not np.issubdtype(array.dtype, np.integer):
        whole = array.astype(np.int32)
        if not np.array_equal(whole, array):
            raise InputError(f"{path} holds values that are no whole numbers: give a label map", "not-labels")
        array = whole
    with named(path):
        grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
        return LabelMap(array, grid, label_names(path) | (names or {}))


def label_names(path) -> dict[int, str]:
    """What the labels in a NIfTI file are called; empty where the file does not say."""
    path = Path(path)
    if image_suffix(path) not in (".nii", ".nii.gz"):
        return {}
    return {int(key): name.strip() for key, name in _LABEL.findall(_extensions(path))}


def _extensions(path: Path) -> str:
    """The text of a NIfTI-1 header's extensions: after the header a flag, then (size, code, content) each."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES + 4)
        if len(head) < _HEADER_BYTES + 4 or not head[_HEADER_BYTES]:
            return ""
        order = "<" if struct.unpack_from("<i", head)[0] == _HEADER_BYTES else ">"
        length = int(struct.unpack_from(order + "f", head, 108)[0]) - len(head)
        return stream.read(min(max(length, 0), _LONGEST_EXTENSION)).decode("utf-8", errors="replace")
