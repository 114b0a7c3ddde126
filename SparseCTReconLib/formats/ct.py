"""Volumes in NRRD, NIfTI and MetaImage files, and whether their values can be those of a CT."""

from __future__ import annotations

import gzip
import logging
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..grid import Grid, Volume
from . import dicom, metaimage
from .files import existing, image_suffix, named, simpleitk, written_beside

RECOGNISED = "NRRD (.nrrd), NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd) or a folder with a DICOM series"
WRITTEN = (".nrrd", ".mha", ".nii", ".nii.gz")
UNIT_KEY = "SparseCTRecon.unit"
MODALITY_KEY = "DICOM.Modality"

_FOREIGN_KEYS = ("ITK_", "NRRD_")
_LONGEST_METAIMAGE_VALUE = 30_000  # MetaIO reads no file with a longer line

log = logging.getLogger(__name__)


def read(path) -> Volume:
    """See `formats.read_volume`."""
    path = existing(path)
    if path.is_dir() and (path / "geometry.xml").exists():
        raise InputError(f"{path} is a scan folder, not a volume: reconstruct it first", "not-a-volume")
    if path.is_dir() or dicom.is_dicom_file(path):
        image, modality = dicom.read_series(path)
        return volume_from_image(image, path, {MODALITY_KEY: modality} if modality else {})
    image = read_image(path)
    return volume_from_image(image, path, _attributes(image, path))


def read_image(path: Path):
    """The SimpleITK image in a file.

    Raises
    ------
    InputError
        Where it is missing, of no known format, damaged or cut short.
    """
    sitk = simpleitk()
    if path.is_file():
        metaimage.check_dimensions(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: it is damaged, cut short or no image; known are {RECOGNISED}", "unreadable") from error
    if image_suffix(path) in (".nii", ".nii.gz"):
        _check_nifti_is_whole(image, path)
    return image


def _check_nifti_is_whole(image, path: Path):
    """ITK fills what is missing of a NIfTI file with zeros and says nothing."""
    expected = float(image.GetMetaData("vox_offset")) + image.GetNumberOfPixels() * int(image.GetMetaData("bitpix")) / 8
    length = 0
    try:
        if image_suffix(path) == ".nii":
            length = path.stat().st_size
        else:
            with gzip.open(path) as stream:
                while block := stream.read(1 << 20):
                    length += len(block)
    except (EOFError, OSError, zlib.error):
        length = 0
    if length < expected:
        raise InputError(f"{path} is cut short or damaged: copy it again from where it came", "unreadable")


def volume_from_image(image, path, attributes: dict[str, str]) -> Volume:
    """A `Volume` of a SimpleITK image; `path` is for the messages."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path} has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values a voxel: give one 3D volume",
            "not-a-volume",
        )
    unit = attributes.get(UNIT_KEY, "HU")
    array = simpleitk().GetArrayFromImage(image).astype(np.float32, copy=False)
    with named(path):
        grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
        return Volume(array, grid, attributes, unit)


def _attributes(image, path: Path) -> dict[str, str]:
    if image_suffix(path) not in (".nrrd", ".nhdr", ".mha", ".mhd"):
        return {}
    keys = (key for key in image.GetMetaDataKeys() if not key.startswith(_FOREIGN_KEYS))
    values = {key: image.GetMetaData(key) for key in keys}
    return {key: value for key, value in values.items() if value != "MET_MOD_UNKNOWN"}


def check_hounsfield(volume: Volume, path) -> None:
    """Refuse values that cannot be a CT in Hounsfield units: a CT holds air or fat, and nothing denser than metal."""
    modality = volume.attributes.get(MODALITY_KEY, "CT")
    if modality != "CT":
        raise InputError(f"{path} is of modality {modality}: give a CT in Hounsfield units", "not-a-ct")
    if volume.unit != "HU":
        raise InputError(f"{path} holds values in {volume.unit}: give a CT in Hounsfield units", "not-a-ct")
    low, high = float(volume.array.min()), float(volume.array.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{path} has voxels that are not finite numbers: fill them with air (-1000 HU)", "not-finite")
    if low > -100:
        raise InputError(
            f"{path} holds values from {low:g} to {high:g}, and a CT in Hounsfield units holds air or fat, below -100: "
            "give a CT that is not normalised, or apply its rescale intercept (often -1024)",
            "not-a-ct",
        )
    if max(-low, high) > 1e5:
        raise InputError(f"{path} holds values from {low:g} to {high:g}, which are no Hounsfield units: give a CT", "not-a-ct")


def write(volume: Volume, path, compressed: bool = False) -> None:
    """See `formats.write_volume`."""
    path = Path(path).expanduser()
    suffix = image_suffix(path)
    if suffix not in WRITTEN:
        raise InputError(
            f"{path}: a volume is written as {', '.join(WRITTEN)} or, for DICOM, into a folder name/; choose one of these endings",
            "unknown-format",
        )
    image = _on_grid(np.ascontiguousarray(volume.array, dtype=np.float32), volume.grid)
    for key, value in (volume.attributes | {UNIT_KEY: volume.unit}).items():
        _set_attribute(image, key, str(value), suffix)
    write_image(image, path, compressed)


def write_labels(labels: np.ndarray, grid: Grid, path, attributes: dict[str, str]) -> None:
    """Write a label map, uint8 [z, y, x], compressed, to a file whose ending is one of `WRITTEN`."""
    image = _on_grid(np.ascontiguousarray(labels, dtype=np.uint8), grid)
    for key, value in attributes.items():
        _set_attribute(image, key, value, image_suffix(Path(path)))
    write_image(image, path, compressed=True)


def _on_grid(array: np.ndarray, grid: Grid):
    image = simpleitk().GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def write_image(image, path, compressed: bool = False) -> None:
    """Write a SimpleITK image beside `path`, then give it its name."""
    with written_beside(path) as temporary:
        try:
            simpleitk().WriteImage(image, str(temporary), compressed)
        except RuntimeError as error:
            raise OSError(str(error)) from error


def _set_attribute(image, key: str, value: str, suffix: str):
    if suffix == ".mha":
        value = " ".join(value.splitlines())
        if len(value.encode()) > _LONGEST_METAIMAGE_VALUE:
            log.warning("%s is too long for a MetaImage header and is left out: write .nrrd to keep it", key)
            return
    image.SetMetaData(key, value)
