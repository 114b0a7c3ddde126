"""DICOM series of slices: which series, and whether its slices make a straight, gapless stack."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import simpleitk

_POSITION, _ORIENTATION, _MODALITY, _DESCRIPTION = "0020|0032", "0020|0037", "0008|0060", "0008|103e"
_CLASS, _SERIES = "0008|0016", "0020|000e"
_SHEAR_MM = 0.5

log = logging.getLogger(__name__)


def is_dicom_file(path: Path) -> bool:
    """Whether `path` is a file with DICOM's preamble."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_series(path: Path):
    """The SimpleITK image and the modality of a series in a folder, or of the series that the file `path` belongs to.

    Raises
    ------
    InputError
        Where there is no series or no telling which one, or its slices are missing, doubled, tilted or of different sizes.
    """
    sitk = simpleitk()
    folder = path if path.is_dir() else path.parent
    names = sitk.ImageSeriesReader
    series = {uid: names.GetGDCMSeriesFileNames(str(folder), uid) for uid in names.GetGDCMSeriesIDs(str(folder))}
    files = _choose(path, series)
    headers = [_header(file) for file in files]
    _check_none_is_damaged(folder, {Path(file).resolve() for file in itertools.chain(files, *series.values())}, headers[0])
    if len(files) == 1:
        if len(headers[0]["size"]) < 3 or headers[0]["size"][2] < 2:
            raise InputError(f"the DICOM series in {path} has one slice: a volume needs at least two", "not-a-volume")
        return _execute(sitk.ImageFileReader(), files[0], path), headers[0]["modality"]
    check_stack(headers, path)
    return _execute(sitk.ImageSeriesReader(), files, path), headers[0]["modality"]


def _execute(reader, names, path: Path):
    try:
        reader.SetFileNames(names) if isinstance(names, tuple) else reader.SetFileName(names)
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"the DICOM series in {path} cannot be read: a file is damaged or oddly compressed", "unreadable") from error


def _choose(path: Path, series: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The files of the series to read, in order."""
    if path.is_file():
        holding = [files for files in series.values() if path.resolve() in {Path(file).resolve() for file in files}]
        return holding[0] if holding else (str(path),)
    if not series:
        raise InputError(f"{path} holds no DICOM series: give the folder with the series' files themselves", "not-a-volume")
    files = sorted(series.values(), key=len, reverse=True)
    if len(files) > 1:
        said = "; ".join(f"{_describe(each)} ({len(each)} files, e.g. {Path(each[0]).name})" for each in files)
        if len(files[0]) == len(files[1]):
            raise InputError(f"{path} holds {len(files)} DICOM series: {said}; give one file of the series you mean", "which-series")
        log.warning("%s holds %d DICOM series, the largest is read: %s", path, len(files), said)
    return files[0]


def _check_none_is_damaged(folder: Path, known: set[Path], header: dict):
    """GDCM passes over a file that is cut short; at the end of a stack no gap would tell."""
    for file in sorted(folder.iterdir()):
        if file.resolve() in known or not is_dicom_file(file):
            continue
        with file.open("rb") as stream:
            head = stream.read(1 << 16)
        if header["series"] and all(text.encode() in head for text in (header["class"], header["series"])):
            raise InputError(f"{file} is damaged or cut short, and belongs to the series: copy it again or take it away", "unreadable")


def _describe(files) -> str:
    header = _header(files[0])
    return f"{header['modality'] or 'no modality'} {header['description'] or 'without description'!r}"


def _header(file: str) -> dict:
    """Size, position, orientation, modality and description of a DICOM file; None for a number that is not there."""
    reader = simpleitk().ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{file} cannot be read: it is damaged or no image", "unreadable") from error

    def text(key):
        return reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""

    def numbers(key, count):
        try:
            values = np.array(text(key).split("\\"), dtype=float)
        except ValueError:
            return None
        return values if len(values) == count else None

    return {
        "file": file,
        "size": reader.GetSize(),
        "position": numbers(_POSITION, 3),
        "orientation": numbers(_ORIENTATION, 6),
        "modality": text(_MODALITY),
        "description": text(_DESCRIPTION),
        "class": text(_CLASS),
        "series": text(_SERIES),
    }


def check_stack(headers: list[dict], path) -> None:
    """Refuse slices that do not make a straight stack of equal steps."""

    def refuse(what: str):
        raise InputError(f"the DICOM series in {path} {what}", "bad-series")

    for header in headers:
        if header["position"] is None or header["orientation"] is None:
            refuse(f"has a slice without position or orientation ({Path(header['file']).name}): export it again")
        if header["size"][:2] != headers[0]["size"][:2]:
            refuse(f"has slices of different sizes ({Path(header['file']).name}): take out those that do not belong")
        if not np.allclose(header["orientation"], headers[0]["orientation"], atol=1e-3):
            refuse(f"has slices of different orientations ({Path(header['file']).name}): take out the localiser")
    row, column = headers[0]["orientation"].reshape(2, 3)
    normal = np.cross(row, column)
    positions = np.array([header["position"] for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    positions, depths = positions[order], np.sort(positions @ normal)
    steps = np.diff(depths)
    step = float(np.median(steps))
    if steps.min() < 1e-3:
        doubled = Path(headers[order[np.argmin(steps)]]["file"]).name
        refuse(f"has two slices at the same place ({doubled}): it holds several phases or reconstructions; take all but one out")
    if np.abs(steps - step).max() > 0.1 * step:
        worst = int(np.argmax(np.abs(steps - step)))
        where = f"between {depths[worst]:.2f} and {depths[worst + 1]:.2f} mm along its normal, where others are {step:.2f} mm apart"
        refuse(f"has a missing or irregular slice {where}: add the missing file or resample the series")
    way = positions[-1] - positions[0]
    shear = np.linalg.norm(way - (way @ normal) * normal)
    if shear > _SHEAR_MM:
        tilt = np.degrees(np.arctan2(shear, way @ normal))
        refuse(f"was taken with the gantry tilted by {tilt:.1f} degrees: its slices are sheared; resample it onto a straight grid first")
