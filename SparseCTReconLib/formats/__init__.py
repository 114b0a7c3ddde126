"""Readers and writers: CT volumes and scans, from whatever file they are in.

A scan format is one module of this package with

    recognises(path: Path) -> bool     whether `path` (it exists; a file or a folder) is of this format, told from what is in it and not
                                       from its ending; reads a few kilobytes at most and raises nothing but OSError
    read(path: Path) -> Scan           the scan, or an InputError; sizes that a header claims are compared with the file's own before
                                       anything is allocated

and one line in `SCAN_FORMATS`, which makes it known to `read_scan`, the command line and the panel. What a reader had to assume goes into
`Scan.provenance["assumed"]` (one text, which the panel shows), what looks wrong into the log as a warning, from where it comes into
`Scan.provenance["warnings"]` (a list of texts). SimpleITK and other libraries
are imported when a function needs them, not before.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ..errors import InputError
from ..grid import Volume
from ..scan import Scan

SCAN_FORMATS = {
    "an RTK geometry (.xml) with its stack beside it": "rtk_scan",
    "a scan folder (geometry.xml and projections.mha or .nrrd, with or without scan.json)": "scan_folder",
    "a NAF or SAX-NeRF pickle": "naf",
    "an R2-Gaussian folder (meta_data.json)": "r2_gaussian",
    "a DeepSparse pickle under its config.yaml": "deepsparse",
    "a YAML or CSV geometry with its images": "lab",
    "a TIGRE geometry with its projections (.mat, or .json, .pickle or .npz and .npy)": "tigre",
    "a Varian scan (ProjectionInfo.xml with .hnd or .hnc, Scan.xml with .xim)": "varian",
    "an Elekta scan (_Frames.xml with .his)": "elekta",
    "a rotational X-ray run in DICOM (XA, RF)": "dicom_projections",
}
"""What a user may call each format, and the module that reads it; asked in this order, the particular before the general."""


def read_volume(path) -> Volume:
    """A volume from an NRRD, NIfTI or MetaImage file, a folder with a DICOM series, or one file of that series.

    Parameters
    ----------
    path : str or Path
        File or folder. Of several series in a folder the one with most slices is read, which the log says.

    Returns
    -------
    Volume
        float32 [z, y, x] on its grid in patient LPS, in HU unless the header says 1/mm.

    Raises
    ------
    InputError
        Where nothing readable is there, or slices are missing, tilted or doubled.
    """
    from . import ct

    return ct.read(path)


def read_ct(path) -> Volume:
    """`read_volume`, and a check that the values can be Hounsfield units.

    Raises
    ------
    InputError
        For an MR, a label map, a normalised image or anything else that is no CT in HU.
    """
    from . import ct

    volume = ct.read(path)
    ct.check_hounsfield(volume, path)
    return volume


def write_volume(volume: Volume, path, compressed: bool = False) -> None:
    """Write `volume` as .nrrd, .mha, .nii, .nii.gz or a DICOM series; it appears under its name whole or not at all.

    Parameters
    ----------
    volume : Volume
        Written as float32. NRRD and MetaImage headers carry its attributes and unit; NIfTI has no place for them. DICOM takes HU, in whole
        numbers, and says how it was made; see `dicom_writing.write_series`, which can place it in a patient's study.
    path : str or Path
        Missing folders are made. "name/" and "name.dcm" are new or empty folders for a DICOM series.
    compressed : bool
        Compress NRRD and MetaImage; .nii.gz always is.

    Raises
    ------
    InputError
        For another ending or a place that cannot be written.
    """
    from . import ct, dicom_writing

    if dicom_writing.is_series(path):
        dicom_writing.write_series(volume, path)
        return
    ct.write(volume, path, compressed)


def read_scan(path) -> Scan:
    """A scan from a scan folder or from any file that a reader in `SCAN_FORMATS` recognises.

    Raises
    ------
    InputError
        Where no reader recognises `path`, or what it holds is incomplete or inconsistent.
    """
    from .files import existing, without_path

    path = existing(path)
    try:
        with _warnings() as said:
            scan = _reader(_known(path)).read(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check it and the right to read it", "unreadable") from error
    if said:
        said = [without_path(text, path) for text in said]
        scan.provenance["warnings"] = list(dict.fromkeys([*scan.provenance.get("warnings", ()), *said]))
    return scan


@contextmanager
def _warnings():
    """The warnings that readers log within the block, which go into the log as well."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger(__name__)
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def scan_format(path) -> str | None:
    """The module among `SCAN_FORMATS` that would read `path`; None where none does."""
    path = Path(path)
    return next((module for module in SCAN_FORMATS.values() if _reader(module).recognises(path)), None)


def _reader(module: str):
    return import_module(f"{__name__}.{module}")


def _known(path) -> str:
    module = scan_format(path)
    if module is None:
        raise InputError(f"{path} is no scan; known are {'; '.join(SCAN_FORMATS)}", "not-a-scan")
    return module


def write_scan(scan: Scan, folder) -> None:
    """Write `scan` as a scan folder, which appears under its name whole or not at all.

    Parameters
    ----------
    scan : Scan
        Written as line integrals with its RTK geometry and scan.json.
    folder : str or Path
        A new or empty folder, or a scan folder, whose scan is replaced.

    Raises
    ------
    InputError
        Where `folder` is something else or cannot be written.
    """
    from . import scan_folder

    scan_folder.write(scan, folder)
