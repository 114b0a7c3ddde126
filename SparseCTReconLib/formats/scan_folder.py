"""A scan on disk: a folder with geometry.xml (RTK), projections.mha or .nrrd, and scan.json.

scan.json holds what RTK's files have no place for:

    {
      "format": "SparseCTRecon scan", "version": 1,
      "geometry": "geometry.xml", "projections": "projections.mha",
      "values": "line integrals" or "intensities",
      "i0": intensity of the unattenuated beam in the stack's unit; needed for intensities,
      "photons": photons per pixel without an object, where known,
      "mu_water_per_mm": 0.02, "isocentre_mm": [x, y, z] in LPS, "length_unit": "mm",
      "provenance": {}
    }

Everything but format and version may be left out. Without scan.json the stack holds line integrals and the isocentre lies at LPS 0, and
the scan's provenance says that this was assumed.

Writing needs numpy alone, and so does reading what was written here; other stacks are read by SimpleITK.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest_name
from ..scan import Scan, line_integrals
from ..units import MU_WATER
from . import metaimage, rtk
from .checks import HIGHEST_INTEGRAL, say_too_high
from .files import named, remove, simpleitk, unwritable

FORMAT, VERSION = "SparseCTRecon scan", 1
LINE_INTEGRALS, INTENSITIES = "line integrals", "intensities"
DESCRIPTION, GEOMETRY, STACKS = "scan.json", "geometry.xml", ("projections.mha", "projections.nrrd")
ASSUMED = f"line integrals, isocentre at LPS 0: there was no {DESCRIPTION}"
"""What `Scan.provenance["assumed"]` says of a folder that does not say it itself."""

_OURS = {DESCRIPTION, GEOMETRY, *STACKS}


@dataclass(frozen=True)
class ScanFile:
    """What scan.json says; a value that cannot be right is refused."""

    format: str = FORMAT
    version: int = VERSION
    geometry: str = GEOMETRY
    projections: str | None = None
    values: str = LINE_INTEGRALS
    i0: float | None = None
    photons: float | None = None
    mu_water_per_mm: float = MU_WATER
    isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    length_unit: str = "mm"
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        for key, (is_right, expected) in _EXPECTED.items():
            value = getattr(self, key)
            if not is_right(value):
                raise InputError(f"{key} is {value!r}: give {expected}", "bad-scan-file")
        object.__setattr__(self, "isocentre_mm", tuple(float(c) for c in self.isocentre_mm))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value) -> bool:
    return _is_number(value) and value > 0


def _is_positive_or_unknown(value) -> bool:
    return value is None or _is_positive(value)


def _one_of(*values):
    return (lambda value: value in values and not isinstance(value, bool)), " or ".join(json.dumps(value) for value in values)


_EXPECTED = {
    "format": _one_of(FORMAT),
    "version": _one_of(VERSION),
    "geometry": (lambda value: isinstance(value, str), "the geometry's file name"),
    "projections": (lambda value: value is None or isinstance(value, str), "the stack's file name"),
    "values": _one_of(LINE_INTEGRALS, INTENSITIES),
    "i0": (_is_positive_or_unknown, "a positive number, or null where it is unknown"),
    "photons": (_is_positive_or_unknown, "a positive number, or null where it is unknown"),
    "mu_water_per_mm": (_is_positive, "a positive number"),
    "isocentre_mm": (
        lambda value: isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_number, value)),
        "[x, y, z] in LPS",
    ),
    "length_unit": _one_of("mm"),
    "provenance": (lambda value: isinstance(value, dict), "an object"),
}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with any file of a scan, or one such file."""
    if path.is_dir():
        return any((path / name).exists() for name in _OURS)
    return path.name in _OURS


def read(path: Path) -> Scan:
    """The scan in a folder; a file of the folder stands for it."""
    folder = path if path.is_dir() else path.parent
    description = _read_description(folder / DESCRIPTION)
    parameters = rtk.read_xml(folder / description.geometry)
    stack_path = _stack_path(folder, description)
    stack, frame = read_stack(stack_path)
    if len(stack) != parameters.views:
        raise InputError(
            f"{stack_path} has {len(stack)} views, {folder / description.geometry} has {parameters.views}: "
            "take out the extra poses or images, or add the missing ones",
            "view-count",
        )
    with named(folder / description.geometry):
        geometry = rtk.to_geometry(parameters, stack.shape[1:], isocentre_mm=description.isocentre_mm, **frame)
    with named(stack_path):
        if description.values == INTENSITIES:
            stack = line_integrals(stack, description.i0)
        elif stack.dtype.kind in "iu" and stack.max() > HIGHEST_INTEGRAL:
            raise InputError(
                f"holds whole numbers up to {stack.max()}, which are intensities and no line integrals: "
                'say "values": "intensities" and "i0" in scan.json',
                "bad-intensity",
            )
        scan = Scan(stack, geometry, description.photons, description.mu_water_per_mm, description.provenance)
    say_too_high(scan.projections, stack_path)
    return scan


def _read_description(path: Path) -> ScanFile:
    if not path.exists():
        return ScanFile(provenance={"assumed": ASSUMED})
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): it is damaged or cut short; write it again", "bad-scan-file") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one JSON object with format, version and so on", "bad-scan-file")
    if isinstance(values.get("version"), int) and values["version"] > VERSION:
        raise InputError(f"{path} is of version {values['version']}, known is {VERSION}: install a newer sparsectrecon", "bad-scan-file")
    for key in values:
        if key not in _EXPECTED:
            raise InputError(f"{path}: unknown key {key!r}{nearest_name(key, _EXPECTED)}", "bad-scan-file")
    for key in ("format", "version"):
        if key not in values:
            raise InputError(
                f"{path}: {key!r} is missing: add it, or leave {DESCRIPTION} out for line integrals about LPS 0", "bad-scan-file"
            )
    with named(path):
        description = ScanFile(**values)
    if description.values == INTENSITIES and description.i0 is None:
        raise InputError(f'{path}: intensities need "i0", the intensity of the unattenuated beam in the stack\'s unit', "bad-scan-file")
    return description


def _stack_path(folder: Path, description: ScanFile) -> Path:
    if description.projections is not None:
        return folder / description.projections
    there = [folder / name for name in STACKS if (folder / name).exists()]
    if len(there) > 1:
        raise InputError(f"{folder} holds both {' and '.join(STACKS)}: keep one, or name it in scan.json", "bad-scan-file")
    return there[0] if there else folder / STACKS[0]


def read_stack(path: Path) -> tuple[np.ndarray, dict]:
    """Projections [view, v, u] as stored, and pixel_mm, centre_mm and axes for `rtk.to_geometry`.

    Raises
    ------
    InputError
        Where the file is missing, cut short, of more than one value a pixel, or its pixels lie oblique to its views.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: a scan needs its projections", "missing-file")
    plain = metaimage.read_plain(path) if path.suffix.lower() == ".mha" else None
    if plain is None:
        return _read_with_simpleitk(path)
    stack, spacing, origin = plain
    centre = origin[:2] + (np.array(stack.shape[:0:-1]) - 1) / 2 * spacing[:2]
    return stack, {"pixel_mm": (spacing[1], spacing[0]), "centre_mm": tuple(centre), "axes": np.eye(2)}


def _read_with_simpleitk(path: Path) -> tuple[np.ndarray, dict]:
    from .ct import read_image

    image = read_image(path)
    if image.GetDimension() not in (2, 3) or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path} must be a stack of projections (u, v, view) with one value a pixel", "bad-stack")
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))
    if dimension == 3 and np.abs([*direction[2, :2], *direction[:2, 2]]).max() > 1e-6:
        raise InputError(f"{path}: the direction matrix mixes pixels and views: write the stack with an identity direction", "bad-stack")
    size, spacing = np.array(image.GetSize()[:2]), np.array(image.GetSpacing()[:2])
    axes = direction[:2, :2]
    centre = np.array(image.GetOrigin()[:2]) + axes @ ((size - 1) / 2 * spacing)
    stack = simpleitk().GetArrayFromImage(image).reshape(-1, size[1], size[0])
    return stack, {"pixel_mm": (spacing[1], spacing[0]), "centre_mm": tuple(centre), "axes": axes}


def write(scan: Scan, folder) -> None:
    """See `formats.write_scan`."""
    folder = Path(folder).expanduser().resolve()
    _check_replaceable(folder)
    temporary = folder.with_name(f".writing-{folder.name}")
    remove(temporary)
    try:
        temporary.mkdir(parents=True)
        _write_stack(scan, temporary / STACKS[0])
        rtk.write_xml(rtk.from_geometry(scan.geometry), temporary / GEOMETRY)
        text = json.dumps(_description(scan), indent=2, default=_plain, allow_nan=False)
        (temporary / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        _put_in_place(temporary, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        remove(temporary)


def _description(scan: Scan) -> dict:
    description = ScanFile(
        projections=STACKS[0],
        photons=None if scan.photons is None else float(scan.photons),
        mu_water_per_mm=float(scan.mu_water),
        isocentre_mm=scan.geometry.isocentre_mm,
        provenance=scan.provenance,
    )
    return {key: value for key, value in asdict(description).items() if key != "i0"}


def _plain(value):
    """numpy's numbers and arrays as JSON values."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"provenance holds a {type(value).__name__}, which JSON cannot hold")


def _write_stack(scan: Scan, path: Path):
    (nv, nu), (dv, du) = scan.geometry.detector_shape, scan.geometry.pixel_mm
    metaimage.write_plain(scan.projections, (du, dv, 1.0), (-(nu - 1) / 2 * du, -(nv - 1) / 2 * dv, 0.0), path)


def _check_replaceable(folder: Path):
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: a scan is a folder; choose another name", "unwritable")
    if any(folder.iterdir()) and not recognises(folder):
        raise InputError(f"{folder} holds other files and no scan: choose a new or empty folder", "unwritable")


def _put_in_place(temporary: Path, folder: Path):
    """Give the finished folder its name; what else lay beside an earlier scan stays, the earlier scan comes back where that fails."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".replaced-{folder.name}-", dir=folder.parent))
    earlier = aside / folder.name
    os.replace(folder, earlier)
    try:
        os.replace(temporary, folder)
    except OSError:
        os.replace(earlier, folder)
        aside.rmdir()
        raise
    for item in earlier.iterdir():
        if item.name not in _OURS:
            os.replace(item, folder / item.name)
    remove(aside)
