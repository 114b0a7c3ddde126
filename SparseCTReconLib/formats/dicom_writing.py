"""A volume as a DICOM series: a derived CT, one file a slice, that says how it was made and that it is for research. pydicom encodes it."""

from __future__ import annotations

import datetime
import logging
import uuid
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import InputError
from ..grid import Grid, Volume
from .dicom import is_dicom_file
from .dicom_files import floats_of, header_of, quiet
from .dicom_files import pydicom as library
from .files import existing, options_without_folders, remove, unwritable, written_beside

RESEARCH = "RESEARCH USE ONLY, not for diagnosis or treatment: generated detail may be false"
_OURS, _PREFIX = "SparseCTRecon", "SparseCTRecon."
_BEHIND_TITLE = f" ({_OURS}, research use only)"
_LOWEST, _HIGHEST = -32768, 32767
_LONGEST_LO, _LONGEST_ST, _LONGEST_LT = 64, 1024, 10240
_SERIES_BEHIND_THE_SOURCE = 1000

_NEEDED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
)
_OPTIONAL = ("IssuerOfPatientID", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethod", "StudyDescription")
"""What all series of a patient and a study have in common; what is needed may be empty."""

_SAID = ("preset", "steps", "options", "weights", "geometry", "mu_water_per_mm", "reprojection_residual", "warnings", "versions", "date")

log = logging.getLogger(__name__)


def is_series(path) -> bool:
    """Whether the name of an output asks for a DICOM series: a folder, written "name/" or "name.dcm"."""
    text = str(path)
    return text.endswith(("/", "\\")) or text.lower().endswith(".dcm")


def write_series(volume: Volume, folder, like=None, description: str | None = None) -> None:
    """Write `volume` as a series of CT images, which appears under its name whole or not at all.

    Parameters
    ----------
    volume : Volume
        In HU, rounded to whole numbers; what does not fit into 16 bits is clipped, which the log says.
    folder : str or Path
        New or empty.
    like : str or Path, optional
        A DICOM series, or a file of it, in whose coordinates the volume lies: patient, study and frame of reference are taken from it.
        Without it the series is anonymous, in a study and a frame of its own.
    description : str, optional
        SeriesDescription; names the method where not given.

    Raises
    ------
    InputError
        Where pydicom is missing, the values are no finite HU, `like` is no DICOM, or the folder is in use or cannot be written.
    """
    pydicom = library()
    check_unit(volume.unit)
    if not np.isfinite(volume.array).all():
        raise InputError("the volume has voxels that are not finite numbers: DICOM cannot hold them; fill them with air", "not-finite")
    folder = Path(folder).expanduser().resolve()
    check_folder(folder)
    moment = datetime.datetime.now()
    shared = _anonymous(moment) if like is None else _taken_from(like)
    shared |= _series(volume.attributes, moment, description) | _image(volume.grid) | _plane(volume.grid)
    dataset = _dataset(pydicom, shared)
    with written_beside(folder) as beside:
        remove(beside)
        beside.mkdir()
        for k, values in enumerate(_stored(volume)):
            _set(dataset, _slice(volume.grid, values, k))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            pydicom.dcmwrite(beside / f"slice-{k + 1:04d}.dcm", dataset, enforce_file_format=True)
        if folder.exists():
            folder.rmdir()


def check_folder(folder) -> None:
    """Refuse a folder that is no place for a series: a file, or one that holds something."""
    library()
    folder = Path(folder).expanduser()
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: a DICOM series is a folder; choose another name", "unwritable")
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: a DICOM series goes into a new or empty folder; choose another name", "unwritable")
    except OSError as error:
        raise unwritable(folder, error) from error


def check_unit(unit: str) -> None:
    """Refuse values that are not HU, which is what a CT series holds."""
    if unit != "HU":
        raise InputError(f"values in {unit} have no place in a DICOM CT series: write HU, or choose .nrrd", "bad-unit")


def _uid() -> str:
    """A UID that nobody else has, below the root for UUIDs (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _anonymous(moment: datetime.datetime) -> dict:
    return {
        "PatientName": "Anonymous",
        "PatientID": f"{_OURS}-{uuid.uuid4().hex[:12]}",  # one each, since archives make one patient of equal ones
        "PatientBirthDate": "",
        "PatientSex": "",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "Written without any data of the patient",
        "StudyInstanceUID": _uid(),
        "StudyDate": f"{moment:%Y%m%d}",
        "StudyTime": f"{moment:%H%M%S}",
        "StudyID": "1",
        "StudyDescription": f"{_OURS}, research use only",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "FrameOfReferenceUID": _uid(),
        "PositionReferenceIndicator": "",
        "PatientPosition": "",
        "SeriesNumber": 1,
    }


def _taken_from(like) -> dict:
    """Patient, study and frame of reference of the series `like`."""
    path = existing(like)
    file = next((each for each in sorted(path.iterdir()) if is_dicom_file(each)), path) if path.is_dir() else path
    source = header_of(file)
    with quiet():
        values = dict.fromkeys(_NEEDED, "") | {name: _plain(source[name]) for name in _NEEDED + _OPTIONAL if name in source}
    number = floats_of(source, "SeriesNumber")
    if not values["StudyInstanceUID"]:
        raise InputError(f"{like} says nothing of its study (StudyInstanceUID): give another series, or none", "bad-series")
    values["FrameOfReferenceUID"] = values["FrameOfReferenceUID"] or _uid()
    return values | {"SeriesNumber": _SERIES_BEHIND_THE_SOURCE + int(0 if number is None else number[0])}


def _plain(element) -> str | list[str]:
    """The value of an attribute of another file, whatever the characters there are encoded in."""
    if element.VM > 1:
        return [str(value) for value in element.value]
    return "" if element.value is None else str(element.value)


def _series(said: dict[str, str], moment: datetime.datetime, description: str | None) -> dict:
    title = said.get(_PREFIX + "method_title") or said.get(_PREFIX + "method") or "Volume"
    title = _text(title, _LONGEST_LO - len(_BEHIND_TITLE)) + _BEHIND_TITLE
    comments = f"{RESEARCH}. {_how_it_was_made(said)}"
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "Modality": "CT",
        "SeriesInstanceUID": _uid(),
        "Laterality": "",  # unknown, and asked for where a body part has two sides
        "SeriesDescription": _text(description, _LONGEST_LO) if description else title,
        "SeriesDate": f"{moment:%Y%m%d}",
        "SeriesTime": f"{moment:%H%M%S}",
        "ContentDate": f"{moment:%Y%m%d}",
        "ContentTime": f"{moment:%H%M%S}",
        "Manufacturer": _OURS,
        "ManufacturerModelName": _OURS,
        "SoftwareVersions": __version__,
        "DerivationDescription": _text(comments, _LONGEST_ST),
        "ImageComments": _text(comments, _LONGEST_LT),
    }


def _image(grid: Grid) -> dict:
    return {
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "KVP": None,
        "AcquisitionNumber": None,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": grid.size[1],
        "Columns": grid.size[0],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "RescaleType": "HU",
        "WindowCenter": "40",
        "WindowWidth": "400",
    }


def _plane(grid: Grid) -> dict:
    """Where the slices lie; rows are the grid's x axis, columns its y axis (PS3.3 C.7.6.2)."""
    x, y, z = grid.spacing_mm
    return {
        "ImageOrientationPatient": [_decimal(value) for value in grid.direction[:, :2].T.ravel()],
        "PixelSpacing": [_decimal(y), _decimal(x)],
        "SliceThickness": _decimal(z),
        "SpacingBetweenSlices": _decimal(z),
    }


def _slice(grid: Grid, values: np.ndarray, k: int) -> dict:
    position = (grid.index_to_world @ [0, 0, k, 1])[:3]
    normal = np.cross(grid.direction[:, 0], grid.direction[:, 1])
    return {
        "SOPInstanceUID": _uid(),
        "InstanceNumber": k + 1,
        "ImagePositionPatient": [_decimal(value) for value in position],
        "SliceLocation": _decimal(position @ normal),
        "PixelData": values.tobytes(),
    }


def _stored(volume: Volume):
    """The slices as they are stored, each int16 [y, x]."""
    outside = int(np.count_nonzero((volume.array < _LOWEST - 0.5) | (volume.array >= _HIGHEST + 0.5)))
    if outside:
        log.warning("%d voxels outside %d to %d HU are clipped, since DICOM CT holds 16 bits", outside, _LOWEST, _HIGHEST)
    for values in volume.array:
        yield np.clip(np.rint(values), _LOWEST, _HIGHEST).astype("<i2")


def _dataset(pydicom, values: dict):
    """A dataset with what all slices have in common."""
    dataset = pydicom.Dataset()
    _set(dataset, values)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return dataset


def _set(dataset, values: dict) -> None:
    for name, value in values.items():
        setattr(dataset, name, value)


def _how_it_was_made(said: dict[str, str]) -> str:
    method = said.get(_PREFIX + "method_title") or said.get(_PREFIX + "method")
    if not method:
        return ""
    facts = {name: said.get(_PREFIX + name, "") for name in _SAID} | {"options": options_without_folders(said.get(_PREFIX + "options", ""))}
    return "; ".join([f"Reconstructed from cone-beam projections by {method}", *(f"{name} {text}" for name, text in facts.items() if text)])


def _text(text: str, longest: int) -> str:
    """`text` on one line, no longer than the attribute may be; a backslash would part values."""
    return "".join(each for each in " ".join(text.replace("\\", "/").split()) if each.isprintable())[:longest].strip()


def _decimal(value: float) -> str:
    """A decimal string (DS, at most 16 characters)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(round(float(value), 10) + 0.0)
