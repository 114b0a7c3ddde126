"""Stacks of projection images: one file with all views, or one for each, in whatever format their content says.

TIFF (also of many pages) and PNG by Pillow; NRRD, MetaImage and NIfTI by SimpleITK; numpy's .npy; bare numbers with a description. What a
header claims is compared with the file's size before anything is allocated for it.
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import metaimage
from .arrays import MAGIC, MOST_DEFLATED, head_of, read_npy
from .files import simpleitk

_HEAD = 4096
_MOST_PACKED = 1400
"""Bytes of an image that one byte of a TIFF or PNG can stand for: deflate 1032, LZW 4096 for 12 bits and a half more."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MODES = {"1", "L", "I", "F", "I;16", "I;16L", "I;16B"}
_ELSEWHERE = re.compile(rb"(?im)^\s*(?:ElementDataFile\s*=|data ?file:)[ \t]*([^\r\n]*)")
_NUMBER = re.compile(r"(\d+)")


def kind_of(path: Path) -> str | None:
    """ "pillow", "itk" or "npy" for an image by its content; None for anything else."""
    head = head_of(path, _HEAD)
    if head[:8] == b"\x89PNG\r\n\x1a\n" or head[:4] in _TIFF:
        return "pillow"
    if head[:6] == MAGIC:
        return "npy"
    text = head[:1024]
    if head[:7] == b"NRRD000" or (b"NDims" in text and b"DimSize" in text) or head[344:347] in (b"n+1", b"ni1"):
        return "itk"
    if head[:2] == b"\x1f\x8b" and path.name.lower().endswith(".nii.gz"):  # ITK goes by this ending as well
        return "itk"
    return None


def in_natural_order(files) -> list[Path]:
    """Files sorted such that scan_2 comes before scan_10."""
    return sorted(files, key=lambda file: [int(part) if part.isdigit() else part.lower() for part in _NUMBER.split(file.name)])


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order; of several kinds, those of the most frequent ending, or else of the most bytes: a preview is
    smaller than what it shows.

    Raises
    ------
    InputError
        Where a number of a view is there twice, as in view_1.tif and view_01.tif.
    """
    found = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".") and kind_of(file)]
    sizes: dict[str, list[int]] = {}
    for file in found:
        sizes.setdefault(file.suffix.lower(), []).append(file.stat().st_size)
    usual = max(sorted(sizes), key=lambda ending: (len(sizes[ending]), sum(sizes[ending])), default="")
    files = in_natural_order(file for file in found if file.suffix.lower() == usual)
    seen: dict[tuple, Path] = {}
    for file in files:
        name = tuple(int(part) if part.isdigit() else part for part in _NUMBER.split(file.stem))
        if name in seen:
            raise InputError(f"{folder} holds {seen[name].name} and {file.name}, the same view twice: take one away", "doubled-view")
        seen[name] = file
    return files


def missing_among(files: list[Path]) -> str:
    """The name of the first file that a numbered sequence lacks; empty where none is missing or names are not numbered evenly."""
    parts = [_NUMBER.split(file.name) for file in files]
    if len(files) < 3 or len({len(part) for part in parts}) != 1:
        return ""
    varying = [i for i in range(len(parts[0])) if len({part[i] for part in parts}) > 1]
    if len(varying) != 1 or not parts[0][varying[0]].isdigit():
        return ""
    parts.sort(key=lambda part: int(part[varying[0]]))  # a list may have them in any order
    numbers = [int(part[varying[0]]) for part in parts]
    step = min(b - a for a, b in zip(numbers, numbers[1:]))
    for (a, b), part in zip(zip(numbers, numbers[1:]), parts):
        if b - a != step:
            lacking = list(part)
            lacking[varying[0]] = str(a + step).zfill(len(part[varying[0]]))
            return "".join(lacking)
    return ""


def read_stack(files: list[Path], raw: dict | None = None) -> np.ndarray:
    """Images as stored, [view, v, u].

    Parameters
    ----------
    files : list of Path
        One file with all views, or one for each, in their order.
    raw : dict, optional
        columns, rows, type ("uint16", "float32" ...), byte_order ("little", "big") and header_bytes of files that are bare numbers.

    Raises
    ------
    InputError
        Where a file is missing, damaged, cut short, in colour, or of another size than the first.
    """
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is missing: put it back, or take it out of the list", "missing-file")
    if len(files) == 1:
        return _whole(_read(files[0], raw), files[0])
    stack = None
    for view, file in enumerate(files):
        image = _read(file, raw)
        image = image[0] if image.ndim == 3 and len(image) == 1 else image
        if image.ndim != 2 or (stack is not None and (image.shape != stack.shape[1:] or image.dtype != stack.dtype)):
            expected = f"{stack.shape[1:]} of {stack.dtype}" if stack is not None else "one view"
            raise InputError(f"{file} holds an image of {image.shape} of {image.dtype} where {expected} is expected", "bad-stack")
        if stack is None:
            _check_all_are_there(files, image)
            stack = np.empty((len(files), *image.shape), dtype=image.dtype)
        stack[view] = image
    return stack


def _check_all_are_there(files: list[Path], image: np.ndarray) -> None:
    smallest = min(file.stat().st_size for file in files)
    if image.nbytes > _MOST_PACKED * smallest:
        short = next(file for file in files if file.stat().st_size == smallest)
        raise InputError(f"{short} has {smallest} bytes, too few for an image as the first: copy it again", "unreadable")


def _whole(array: np.ndarray, path) -> np.ndarray:
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "biuf":
        raise InputError(f"{path} holds an array of {array.shape}: give projections (views, v, u) or one view", "bad-stack")
    return array


def _read(path: Path, raw: dict | None) -> np.ndarray:
    kind = kind_of(path)
    if raw is not None:
        return _bare(path, raw)
    if kind == "npy":
        return read_npy(path)
    if kind == "itk":
        return _by_simpleitk(path)
    if kind == "pillow":
        return _by_pillow(path)
    raise InputError(f"{path} is no TIFF, PNG, NRRD, MetaImage, NIfTI or .npy: bare numbers need a description (raw:)", "bad-stack")


def _bare(path: Path, raw: dict) -> np.ndarray:
    shape = (int(raw["rows"]), int(raw["columns"]))
    header = int(raw.get("header_bytes", 0))
    dtype = np.dtype(raw["type"]).newbyteorder("<" if raw.get("byte_order", "little") == "little" else ">")
    body, view = path.stat().st_size - header, math.prod(shape) * dtype.itemsize
    if body < view or body % view:
        raise InputError(f"{path} has {body} bytes after its header, and a view {view}: cut short, or described wrongly", "bad-stack")
    return np.fromfile(path, dtype, offset=header).reshape(-1, *shape)


def _check_data_lie_beside(path: Path) -> None:
    """Refuse a header that sends the reader to files elsewhere."""
    for name in _ELSEWHERE.findall(head_of(path, _HEAD)):
        text = name.decode("latin1").replace("\\", "/").strip()
        if text.startswith(("/", "~")) or ".." in text.split("/") or text[1:2] == ":":
            raise InputError(f"{path} has its pixels in {text[:80]!r}, outside its folder: put them beside it", "bad-stack")


def _by_simpleitk(path: Path) -> np.ndarray:
    sitk = simpleitk()
    _check_data_lie_beside(path)
    metaimage.check_dimensions(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        sides = [path, *(file for file in path.parent.iterdir() if file.stem.split(".")[0] == path.stem.split(".")[0] and file != path)]
        there = sum(file.stat().st_size for file in sides)
        if len(size) not in (2, 3) or reader.GetNumberOfComponents() != 1:
            raise InputError(
                f"{path} has {len(size)} dimensions and {reader.GetNumberOfComponents()} values a pixel: give views", "bad-stack"
            )
        if math.prod(size) > MOST_DEFLATED * there:
            raise InputError(f"{path} claims {' x '.join(map(str, size))} pixels and has {there} bytes: it is damaged", "unreadable")
        from .ct import read_image

        return sitk.GetArrayFromImage(read_image(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: it is damaged or cut short; copy it again", "unreadable") from error


def _by_pillow(path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("reading TIFF and PNG needs Pillow: pip install pillow", "missing-library") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large images are no attack here: their size is checked
            with Image.open(path, formats=("TIFF", "PNG")) as image:
                return _pages(image, path)
    except InputError:
        raise
    except Exception as error:  # Pillow has no error of its own
        why = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise InputError(
            f"{path} cannot be read ({why}): it is damaged, cut short or of a kind that Pillow does not know", "unreadable"
        ) from None


def _pages(image, path: Path) -> np.ndarray:
    count = getattr(image, "n_frames", 1)
    columns, rows = image.size
    if columns * rows * count > _MOST_PACKED * path.stat().st_size:
        raise InputError(
            f"{path} claims {count} images of {columns} x {rows} pixels and has {path.stat().st_size} bytes: it is damaged", "unreadable"
        )
    stack = None
    for page in range(count):
        if count > 1:
            image.seek(page)
        if image.mode not in _MODES:
            raise InputError(f"{path} is a colour image ({image.mode}): give one value a pixel", "bad-stack")
        if image.size != (columns, rows):
            raise InputError(
                f"{path}: image {page} has {image.size[0]} x {image.size[1]} pixels, the first {columns} x {rows}", "bad-stack"
            )
        array = np.asarray(image)
        if stack is None:
            stack = np.empty((count, rows, columns), dtype=array.dtype)
        if array.dtype != stack.dtype:
            raise InputError(f"{path}: image {page} is of another type than the first: write them alike", "bad-stack")
        stack[page] = array
    return stack
