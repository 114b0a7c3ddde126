"""pydicom for files that nobody vouches for: headers and frames, with messages of our own, since pydicom's repeat what stands in a file.

Names of patients must reach no log, so pydicom's warnings are silenced and its errors' texts are not passed on.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import InputError

_LARGEST_SIDE = 1 << 14
_MOST_FRAMES = 1 << 15
_MOST_EXPANSION = 1000
"""Pixels decoded may take so many times the bytes they are compressed in; projections take some ten times."""


@contextmanager
def quiet():
    """pydicom says nothing in here."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def pydicom():
    """The pydicom module, of version 3 or later.

    Raises
    ------
    InputError
        Where it is missing or older, with the command that installs it.
    """
    try:
        import pydicom
    except ImportError:
        raise InputError("reading and writing DICOM needs pydicom: pip install pydicom", "missing-library") from None
    if int(pydicom.__version__.split(".")[0]) < 3:
        raise InputError(
            f"reading and writing DICOM needs pydicom 3, here is {pydicom.__version__}: pip install -U pydicom", "missing-library"
        )
    return pydicom


def header_of(path: Path):
    """The dataset of a file without its pixels.

    Raises
    ------
    InputError
        Where the file is damaged.
    """
    return _read(path, stop_before_pixels=True)


def dataset_of(path: Path):
    """The whole dataset of a file; raises as `header_of`."""
    return _read(path)


class _Bounded(io.BufferedReader):
    """A file of which no more is asked for than is there: Python makes room for what is asked, and lengths of elements may be absurd."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self._length = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _syntax(reader, file):
    """The transfer syntax, from the group of elements in front; what follows is not touched."""
    reader.read_preamble(file, False)
    return reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2).TransferSyntaxUID


def _read(path: Path, **how):
    library = pydicom()
    with quiet():
        try:
            with _Bounded(path) as file:
                syntax = _syntax(library.filereader, file)
                deflated = syntax == library.uid.DeflatedExplicitVRLittleEndian
                file.seek(0)
                dataset = None if deflated else library.dcmread(file, **how)
            syntax.is_compressed  # noqa: B018 - raises for what is no transfer syntax
        except Exception as error:  # whatever a damaged file makes it do
            raise InputError(f"{path} cannot be read as DICOM: it is damaged or cut short; copy it again", "unreadable") from error
    if deflated:  # nothing would bound what it unfolds into
        raise InputError(f"{path} is deflated: write it again without compression", "unreadable")
    return dataset


def whole(dataset, keyword: str, where, default: int | None = None, most: int = _LARGEST_SIDE) -> int:
    """A positive whole number of a dataset, at most `most`."""
    value = value_of(dataset, keyword)
    try:
        number = int(default if value is None else value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if not 1 <= number <= most:
        raise InputError(f"{where}: {keyword} is missing or not from 1 to {most}: copy the file again", "unreadable")
    return number


def value_of(dataset, keyword: str):
    """A value of a dataset, or None where it is absent, empty, or not what its kind of value should be."""
    with quiet():
        try:
            value = dataset.get(keyword)
            return None if value is None or value == "" else value
        except Exception:  # pydicom converts a value when it is looked at
            return None


def floats_of(dataset, keyword: str) -> np.ndarray | None:
    """A value as finite numbers, or None."""
    value = value_of(dataset, keyword)
    try:
        numbers = np.atleast_1d(np.array(value, dtype=np.float64)).ravel()
    except (TypeError, ValueError):
        return None
    return numbers if value is not None and numbers.size and np.isfinite(numbers).all() else None


def size_of(dataset, path: Path) -> tuple[int, int, int]:
    """Frames, rows and columns, where the pixels' bytes can hold them.

    Raises
    ------
    InputError
        Where they cannot: cut short, or a header that claims absurd sizes.
    """
    rows, columns = whole(dataset, "Rows", path), whole(dataset, "Columns", path)
    frames = whole(dataset, "NumberOfFrames", path, default=1, most=_MOST_FRAMES)
    bits = whole(dataset, "BitsAllocated", path, most=64)
    if whole(dataset, "SamplesPerPixel", path, default=1) != 1:
        raise InputError(f"{path} is a colour image: projections have one value a pixel", "bad-stack")
    pixels = value_of(dataset, "PixelData")
    length = len(pixels) if isinstance(pixels, (bytes, bytearray)) else 0
    need = frames * rows * columns * bits // 8
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    if need > length * (_MOST_EXPANSION if compressed else 1):
        raise InputError(
            f"{path} claims {frames} frames of {columns} x {rows} pixels and holds {length} bytes of them: it is cut short or damaged; "
            "copy it again",
            "unreadable",
        )
    return frames, rows, columns


def stack_of(dataset, path: Path, convert: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """All frames, decompressed, each as `convert(frame, number)` makes it: [view, v, u] of float32.

    Raises
    ------
    InputError
        Where they cannot be decoded, or what would decode them is not installed.
    """
    library = pydicom()
    frames, rows, columns = size_of(dataset, path)
    with quiet():
        _check_decodable(library, dataset.file_meta.TransferSyntaxUID, path)
        stack = np.empty((frames, rows, columns), np.float32)
        try:
            for k, frame in zip(range(frames), library.pixels.iter_pixels(dataset, raw=True), strict=True):
                stack[k] = convert(frame.reshape(rows, columns), k)
        except InputError:
            raise
        except Exception as error:  # decoders raise whatever damaged data make them
            raise InputError(f"{path}: its pixels cannot be decoded: it is damaged or cut short; copy it again", "unreadable") from error
    return stack


def _check_decodable(library, syntax, path: Path) -> None:
    if not syntax.is_compressed:
        return
    try:
        ready = library.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        ready = False
    if not ready:
        raise InputError(
            f"{path} is compressed ({syntax.name}), and nothing that decodes it is installed: pip install pylibjpeg pylibjpeg-libjpeg "
            "pylibjpeg-openjpeg, or write it again without compression",
            "missing-library",
        )
