"""What the stored values of an X-ray image are worth: intensities that grow with the beam (DICOM PS3.3 C.8.7.1.1.2, C.11.1, C.8.19.6.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dicom_files import floats_of, value_of, whole

log = logging.getLogger(__name__)


def converter(dataset, groups: Callable[[int, str], object], path: Path) -> tuple[Callable[[np.ndarray, int], np.ndarray], str]:
    """A function of a frame and its number that returns intensities, and what it does in words.

    Parameters
    ----------
    dataset : pydicom.Dataset
    groups : callable
        Of a frame's number and the keyword of a functional group, its item or None.
    path : Path
        For messages.

    Raises
    ------
    InputError
        Where values are logarithms and nothing says of what scale.
    """
    properties = groups(0, "FramePixelDataPropertiesSequence") or dataset
    relation = str(value_of(properties, "PixelIntensityRelationship") or "").upper()
    table = _table(dataset, groups, path)
    if relation == "LOG" and table is None:
        raise InputError(
            f"{path} holds logarithms of intensities and no table that says of what scale: export the projections as linear intensities",
            "bad-intensity",
        )
    if relation in ("DISP", "OTHER"):
        log.warning("%s was prepared for display (%s): its values may not be proportional to intensities", path, relation)
    slope, intercept = (floats_of(dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    slope, intercept = 1.0 if slope is None else slope[0], 0.0 if intercept is None else intercept[0]
    highest = 2.0 ** whole(dataset, "BitsStored", path, default=16, most=32) - 1
    turned = table is None and _is_turned(dataset, properties)

    def convert(frame: np.ndarray, _: int) -> np.ndarray:
        if table is not None:
            return table(frame)
        values = slope * frame.astype(np.float32) + intercept
        return (slope * highest + intercept) - values if turned else values

    said = [
        *(["looked up in the file's table"] if table is not None else []),
        *([f"rescaled by {slope:g} and {intercept:g}"] if table is None and (slope, intercept) != (1.0, 0.0) else []),
        *(["turned about, since dark is much of the beam"] if turned else []),
        *([f"taken as proportional to the beam, since the relation is {relation or 'not said'}"] if relation not in ("LIN", "LOG") else []),
    ]
    return convert, ", ".join(said) or "proportional to the beam"


def _is_turned(dataset, properties) -> bool:
    """Whether larger values stand for less of the beam."""
    sign = floats_of(properties, "PixelIntensityRelationshipSign")
    if sign is not None:
        return bool(sign[0] < 0)
    return value_of(dataset, "PhotometricInterpretation") == "MONOCHROME1"


def _table(dataset, groups, path: Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """The table to linear values of the file, if it has one."""
    item = groups(0, "PixelIntensityRelationshipLUTSequence")
    if item is not None and value_of(item, "LUTFunction") != "TO_LINEAR":
        item = None
    if item is None:
        sequence = value_of(dataset, "ModalityLUTSequence")
        item = sequence[0] if sequence else None
    return None if item is None else _lookup(item, path)


def _lookup(item, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    descriptor, data = floats_of(item, "LUTDescriptor"), value_of(item, "LUTData")
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.asarray(data if data is not None else [], float))
    count = None if descriptor is None or len(descriptor) != 3 else int(descriptor[0]) or 1 << 16
    if count is None or count != len(values):
        raise InputError(f"{path}: its table of values is damaged: copy the file again", "unreadable")
    values = values.astype(np.float32)
    return lambda frame: values[np.clip(frame.astype(np.int64) - int(descriptor[1]), 0, count - 1)]
