"""Reads the volumes that a worker writes, without importing more than numpy into Slicer's own process."""

import gzip
import os
from pathlib import Path

_TYPES = {
    "float": "f4",
    "double": "f8",
    "short": "i2",
    "int16": "i2",
    "unsigned short": "u2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "signed char": "i1",
    "unsigned char": "u1",
    "uint8": "u1",
}
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
}


def readNrrd(path):
    """Read a scalar volume (encodings raw and gzip, data in the same file).

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    array : ndarray (z, y, x)
        Voxels; of a raw file a map of the file, so that they are copied once only, by whoever takes them.
    ijkToRas : ndarray (4, 4)
        Voxel index (i, j, k) to RAS in mm.
    attributes : dict of str to str
        The header's key/value pairs.

    Raises
    ------
    ValueError
        Where the file is not such a volume or is cut short.
    """
    import numpy as np

    name = Path(path).name
    with open(path, "rb") as file:  # once: a worker may put another file in its place meanwhile
        fields, attributes = _header(file, name)
        try:
            sizes = [int(n) for n in fields["sizes"].split()]
            dtype = np.dtype(("<" if fields.get("endian", "little") == "little" else ">") + _TYPES[fields["type"].lower()])
            matrix = _ijkToRas(fields)
        except KeyError as error:
            raise ValueError(f"{name}: unknown or missing {error} in the NRRD header") from None
        if len(sizes) != 3:
            raise ValueError(f"{name} has {len(sizes)} dimensions; a volume has 3")
        return _voxels(file, name, fields.get("encoding", "raw"), dtype, tuple(reversed(sizes))), matrix, attributes


def _header(file, name):
    """Fields and key/value pairs of the header; the file is then at the data."""
    fields, attributes = {}, {}
    if not file.readline().startswith(b"NRRD"):
        raise ValueError(f"{name} is not an NRRD file")
    while (line := file.readline().rstrip(b"\r\n")) != b"":
        text = line.decode("utf-8", errors="replace")
        if text.startswith("#"):
            continue
        key, separator, value = text.partition(":=")
        if separator:
            attributes[key.strip()] = value.replace("\\n", "\n").replace("\\\\", "\\")
        else:
            key, _, value = text.partition(": ")
            fields[key.strip().lower()] = value.strip()
    return fields, attributes


def _ijkToRas(fields):
    import numpy as np

    signs = np.array([*_TO_RAS[fields["space"].lower()], 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([_vector(text) for text in fields["space directions"].split()]).T
    matrix[:3, 3] = _vector(fields["space origin"])
    return signs[:, None] * matrix


def _vector(text):
    return [float(number) for number in text.strip("()").split(",")]


def _voxels(file, name, encoding, dtype, shape):
    import numpy as np

    count, start = int(np.prod(shape)), file.tell()
    if encoding == "raw":
        if os.fstat(file.fileno()).st_size - start < count * dtype.itemsize:
            raise ValueError(f"{name} is cut short")
        return np.memmap(file, dtype, "r", offset=start, shape=shape)
    if encoding not in ("gzip", "gz"):
        raise ValueError(f"{name}: encoding {encoding!r} is not read here; raw and gzip are")
    data = gzip.GzipFile(fileobj=file).read()
    if len(data) < count * dtype.itemsize:
        raise ValueError(f"{name} is cut short")
    return np.frombuffer(data, dtype, count).reshape(shape)
