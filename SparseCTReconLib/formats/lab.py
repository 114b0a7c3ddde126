"""Laboratory scanners: images of any kind, and a YAML or CSV file that says where source and detector were.

    projections: images/              a folder, a file with all views, a pattern (scan_*.tif) or a list; beside this file
    values: intensities               or line integrals; whole numbers are taken for intensities
    i0: 60000                         intensity without an object, in the images' unit; looked for in the images where it is missing
    dark: dark.tif                    image without a beam, or several: a folder, a pattern or a list; no view even where it lies among them
    flat: flats/                      the same of the beam without an object, which is I0 of each pixel
    pixel_mm: [0.2, 0.2]              along a row (u) and along a column (v), or one number
    sid_mm: 200                       source to rotation axis
    sdd_mm: 400                       source to detector
    angles_deg: [0, 3.6, 7.2]         of the source round the object, counter-clockwise seen from above; negative where the object turns so
    start_deg: 0                      or first angle and
    arc_deg: 360                      arc, with the views spread evenly; a full circle leaves out its end
    offset_mm: [0, 0]                 of the detector, to the right seen from the source, and up
    first_row: top                    or bottom
    mirrored: false                   whether columns count from right to left seen from the source
    vectors: [[12 numbers], ...]      instead: ASTRA's cone_vec for each view, in units of vector_unit_mm
    table: views.csv                  or columns of a table (see `tables`), with which no YAML is needed
    raw: {columns: 512, rows: 512, type: uint16, byte_order: little, header_bytes: 0}     of files that are bare numbers

The axis points to LPS z, "up" is z, and angle 0 lies at -y (anterior); ASTRA's axes are taken for LPS. isocentre_mm, photons and
mu_water_per_mm may be given as in scan.json.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest_name
from ..geometry import Geometry
from ..scan import HISTORY, Scan
from ..units import MU_WATER
from . import fields, images, tables, yaml_files
from .arrays import head_of
from .checks import HIGHEST_INTEGRAL, checked, integrals_of, numbers, suspect_radians
from .files import named as located
from .r2_gaussian import inside
from .scan_folder import INTENSITIES, LINE_INTEGRALS

KEYS = (
    *("projections", "values", "i0", "pixel_mm", "sid_mm", "sdd_mm", "angles_deg", "start_deg", "arc_deg", "offset_mm", "first_row"),
    *("mirrored", "vectors", "vector_unit_mm", "table", "raw", "isocentre_mm", "photons", "mu_water_per_mm"),
    *tables.FIELDS,
)
_WAYS = ("angles_deg", "arc_deg", "vectors", "table")
_LINE = re.compile(rf"(?m)^(?:{'|'.join(_WAYS)})\s*:")
_HEAD = 4096
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_ALIKE = 1e-4
"""Relative difference of the pixel sizes of two views that are taken for the same."""

log = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether `path` is such a YAML or CSV file, a folder with one, or an image in such a folder."""
    if path.is_dir():
        return bool(_descriptions(path))
    return _describes(path) or (images.kind_of(path) is not None and bool(_descriptions(path.parent)))


def _describes(path: Path) -> bool:
    head = head_of(path, _HEAD)
    if b"\0" in head or head.lstrip()[:1] in (b"{", b"<"):
        return False
    return _LINE.search(head.decode("utf-8", errors="ignore")) is not None or tables.recognises(head)


def _is_table(path: Path) -> bool:
    return tables.recognises(head_of(path, _HEAD))


def _descriptions(folder: Path) -> list[Path]:
    """Those of a folder: YAML files, or tables where there is none, since a YAML file may have one."""
    found = [file for file in sorted(folder.iterdir()) if file.is_file() and _describes(file)]
    return [file for file in found if not _is_table(file)] or found


@dataclass
class _Views:
    """What the files say: values by the keys above, columns of the table, and where they stand."""

    where: Path
    values: dict = field(default_factory=dict)
    columns: dict = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.where.parent

    def choice(self, key: str, allowed: tuple, default):
        value = self.values.get(key, default)
        if value not in allowed or isinstance(value, bool) is not isinstance(allowed[0], bool):
            raise InputError(f"{self.where}: {key} is {str(value)[:40]!r}: give {' or '.join(map(str, allowed)).lower()}", "bad-scan-file")
        return value

    def each(self, key: str, columns: tuple[str, ...], views: int, default=None) -> np.ndarray:
        """A value for each view, (views,) or (views, columns), from the table or else from a key for all views."""
        if all(name in self.columns for name in columns):
            together = np.stack([self.columns[name] for name in columns], axis=1)
        else:
            together = numbers(self.values, key, self.where, size=None if len(columns) == 1 else len(columns), default=default)
            together = np.broadcast_to(together.reshape(-1), (views, len(columns)))
        return together[:, 0] if len(columns) == 1 else together


def read(path: Path) -> Scan:
    """The scan that a description and its images make."""
    said = _read_description(path)
    files = _files(said)
    stack = images.read_stack(files, _raw(said))
    count = _count(said)
    if "vectors" in said.values or said.columns.keys() >= set(tables.VECTORS):
        stack = _by_view(stack, count, said.where) if len(files) == 1 else stack
    if count is not None and len(stack) != count:
        missing = images.missing_among(files)
        hint = f"{missing} is missing" if missing else "take out the extra ones, or add what is missing"
        raise InputError(f"{said.where} describes {count} views, and there are {len(stack)} images: {hint}", "view-count")
    if gap := images.missing_among(files):
        log.warning("%s: %s is missing among the images, though there are as many as views", said.where, gap)
    _say_repeated(stack, said.where)
    geometry = _by_vectors(said, stack) if "vectors" in said.values or "source_x" in said.columns else _by_angles(said, stack)
    return _scan(said, stack, geometry)


def _by_view(stack: np.ndarray, count: int, where) -> np.ndarray:
    """A stack [view, v, u] of one that may be a sinogram as ASTRA has it, [v, view, u]."""
    if len(stack) == stack.shape[1] == count:
        log.warning("%s: there are as many rows as views: the stack is taken as (view, row, column), and not as ASTRA has it", where)
    return stack.transpose(1, 0, 2) if len(stack) != count and stack.shape[1] == count else stack


def _read_description(path: Path) -> _Views:
    if path.is_dir() or not _describes(path):
        folder = path if path.is_dir() else path.parent
        found = _descriptions(folder)
        if len(found) > 1:
            raise InputError(f"{folder} holds {' and '.join(file.name for file in found[:3])}: give the one that is meant", "which-scan")
        path = found[0]
    if _is_table(path):
        return _Views(path, {}, tables.read(path))
    values = yaml_files.read(path)
    values.pop("format", None)
    for key in values:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key[:40]!r}{nearest_name(key, KEYS)}", "bad-scan-file")
    ways = [key for key in _WAYS if values.get(key) is not None]
    if len(ways) != 1:
        raise InputError(f"{path}: give one of {', '.join(_WAYS)}, not {' and '.join(ways) or 'none'}", "bad-scan-file")
    columns = {}
    if ways == ["table"]:
        table = inside(path.parent, values["table"], path)
        if not table.is_file():
            raise InputError(f"{table} is missing: {path.name} names it as its table", "missing-file")
        columns = tables.read(table)
    return _Views(path, values, columns)


def _files(said: _Views) -> list[Path]:
    """The views' images, in their order."""
    given = said.columns.get(tables.FILE) or said.values.get("projections", ".")
    apart = {file for key in tables.FIELDS for each in _field_files(said, key) for file in each}
    files = [file for file in _listed(said, given, "projections") if file not in apart]
    if not files:
        raise InputError(f"{said.where}: no images where it says ({str(given)[:80]}): correct 'projections'", "missing-file")
    return files


def _field_files(said: _Views, key: str) -> list[list[Path]]:
    """Images of a field, "dark" or "flat": those for all views, or for each; empty where there is no such field."""
    given = said.columns.get(key) or [said.values.get(key)]
    return [_listed(said, each, key) for each in given if each is not None]


def _listed(said: _Views, given, key: str) -> list[Path]:
    """The images of a list, a folder, a pattern or a file, in their order."""
    if isinstance(given, list):
        files = [inside(said.folder, name, said.where) for name in given]
        twice = next((file.name for i, file in enumerate(files) if file in files[:i]), None) if len(set(files)) < len(files) else None
        if twice:
            raise InputError(f"{said.where} names {twice} for two views: name each image once", "doubled-view")
    else:
        place = inside(said.folder, given, said.where)
        if any(mark in place.name for mark in "*?[") and not place.exists():
            beside = place.parent.iterdir() if place.parent.is_dir() else ()
            files = images.in_natural_order(file for file in beside if fnmatch.fnmatch(file.name, place.name))
        else:
            files = images.images_in(place) if place.is_dir() else [place]
    if not files:
        raise InputError(f"{said.where}: no images where it says ({str(given)[:80]}): correct {key!r}", "missing-file")
    return files


def _raw(said: _Views) -> dict | None:
    raw = said.values.get("raw")
    if raw is None:
        return None
    where = f"{said.where}, raw"
    if not isinstance(raw, dict):
        raise InputError(f"{where}: give columns, rows and type", "bad-scan-file")
    inner = _Views(Path(where), raw)
    size = numbers(raw, "columns", where), numbers(raw, "rows", where), numbers(raw, "header_bytes", where, default=0)
    if min(size[:2]) < 1 or max(size[:2]) > 1e6 or not 0 <= size[2] < 2**40 or any(n != round(float(n)) for n in size):
        raise InputError(f"{where}: columns, rows and header_bytes must be whole numbers that can be", "bad-scan-file")
    chosen = {"type": inner.choice("type", _TYPES, None), "byte_order": inner.choice("byte_order", ("little", "big"), "little")}
    return dict(zip(("columns", "rows", "header_bytes"), map(int, size))) | chosen


def _count(said: _Views) -> int | None:
    """How many views are described; None for an arc, which takes as many as there are."""
    if said.columns:
        return len(next(iter(said.columns.values())))
    listed = said.values.get("angles_deg", said.values.get("vectors"))
    if listed is not None and (not isinstance(listed, list) or not listed):
        raise InputError(f"{said.where}: angles_deg or vectors must be a list with an entry for each view", "bad-scan-file")
    return len(listed) if listed is not None else None


def _by_vectors(said: _Views, stack: np.ndarray) -> Geometry:
    """ASTRA's twelve numbers for each view: source, detector's centre, steps from pixel (0, 0) to (0, 1) and to (1, 0)."""
    views = len(stack)
    if said.columns:
        vectors = np.stack([said.columns[name] for name in tables.VECTORS], axis=1)
    else:
        vectors = numbers(said.values, "vectors", said.where, size=12, views=views).reshape(-1, 12)
    unit = float(numbers(said.values, "vector_unit_mm", said.where, default=1.0))
    source, detector, u, v = (vectors * unit).reshape(views, 4, 3).transpose(1, 0, 2)
    steps = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
    for step, name in zip(steps, "uv"):
        if not step.min() > 0 or np.ptp(step) > _ALIKE * step.max():
            raise InputError(
                f"{said.where}: pixels of {step.min():g} to {step.max():g} mm along {name}: all views must have the same", "bad-geometry"
            )
    pixel = float(np.mean(steps[1])), float(np.mean(steps[0]))
    poses = source, detector, u / steps[0][:, None], v / steps[1][:, None]
    return Geometry(*poses, stack.shape[1:], pixel, _isocentre(said))


def _by_angles(said: _Views, stack: np.ndarray) -> Geometry:
    views, where = len(stack), said.where
    if "arc_deg" in said.values:
        arc, start = (
            float(numbers(said.values, key, where, default=0 if key == "start_deg" else None)) for key in ("arc_deg", "start_deg")
        )
        if not 0 < abs(arc) <= 360:
            raise InputError(f"{where}: an arc of {arc:g} degrees: give more than 0 and at most 360, or less than 0", "bad-geometry")
        degrees = start + np.linspace(0, arc, views, endpoint=abs(arc) < 360)
    else:
        listed = said.columns.get("angle_deg", said.values.get("angles_deg"))
        degrees = np.atleast_1d(numbers({"angles_deg": listed}, "angles_deg", where, views=views))
    suspect_radians(degrees, where)
    sid, sdd = said.each("sid_mm", ("sid_mm",), views)[:, None], said.each("sdd_mm", ("sdd_mm",), views)[:, None]
    pixel = said.values.get("pixel_mm")
    single = isinstance(pixel, (int, float)) and not isinstance(pixel, bool)
    said.values = said.values | ({"pixel_mm": [pixel, pixel]} if single else {})
    pitch = said.each("pixel_mm", ("pixel_u_mm", "pixel_v_mm"), views)
    if (np.ptp(pitch, axis=0) > _ALIKE * pitch.max()).any():
        raise InputError(f"{where}: pixel sizes differ between views: all views must have the same", "bad-geometry")
    offset = said.each("offset_mm", ("offset_u_mm", "offset_v_mm"), views, default=(0, 0))
    centre = np.asarray(_isocentre(said))
    sin, cos, zero = np.sin(np.radians(degrees)), np.cos(np.radians(degrees)), np.zeros(views)
    towards_source, right, up = (np.stack(axis, axis=1) for axis in ((sin, -cos, zero), (cos, sin, zero), (zero, zero, zero + 1)))
    detector = centre - (sdd - sid) * towards_source + offset[:, :1] * right + offset[:, 1:] * up
    u = -right if said.choice("mirrored", (False, True), False) else right
    v = -up if said.choice("first_row", ("top", "bottom"), "top") == "top" else up
    return Geometry(centre + sid * towards_source, detector, u, v, stack.shape[1:], (pitch[0, 1], pitch[0, 0]), tuple(centre))


def _isocentre(said: _Views) -> tuple[float, ...]:
    return tuple(numbers(said.values, "isocentre_mm", said.where, size=3, default=(0, 0, 0)))


def _scan(said: _Views, stack: np.ndarray, geometry: Geometry) -> Scan:
    where = said.where
    named = {key: _field_files(said, key) for key in tables.FIELDS}
    has_fields, has_i0 = any(named.values()), "i0" in said.columns or said.values.get("i0") is not None
    whole = stack.dtype.kind in "iub" or not stack.max() <= HIGHEST_INTEGRAL
    meant = said.choice("values", (INTENSITIES, LINE_INTEGRALS), INTENSITIES if whole or has_i0 or has_fields else LINE_INTEGRALS)
    provenance = {"origin": "laboratory scanner"} | ({} if "values" in said.values else {"assumed": f"the images are {meant}"})
    photons = None if said.values.get("photons") is None else float(numbers(said.values, "photons", where))
    mu_water = float(numbers(said.values, "mu_water_per_mm", where, default=MU_WATER))
    i0 = _i0(said, len(stack)) if has_i0 else None
    if has_fields:
        if meant == LINE_INTEGRALS:
            raise InputError(
                f"{where}: line integrals have no dark or flat field: take it out, or say values: intensities", "bad-scan-file"
            )
        stack, applied = _with_fields(said, stack, named, i0)
        provenance[HISTORY] = [applied]
        i0 = np.ones(len(stack)) if named["flat"] or has_i0 else None
    if meant == LINE_INTEGRALS:
        scan = checked(Scan(stack, geometry, provenance=provenance), where)
    elif i0 is None:
        from .intensities import scan_of

        scan = scan_of(np.array(stack, dtype=np.float32), geometry, where, provenance)
    else:
        relative = stack / i0[:, None, None].astype(np.float32) if np.ptp(i0) else stack
        integrals = integrals_of(relative, 1.0 if np.ptp(i0) else float(i0[0]), where)
        scan = checked(Scan(integrals, geometry, provenance=provenance), where)
    return Scan(scan.projections, geometry, photons, mu_water, scan.provenance)


def _i0(said: _Views, views: int) -> np.ndarray:
    i0 = said.each("i0", ("i0",), views)
    if not i0.min() > 0:
        raise InputError(f"{said.where}: I0 is {i0.min():g}: give the positive intensity of the unattenuated beam", "bad-intensity")
    return i0


def _with_fields(said: _Views, stack: np.ndarray, named: dict[str, list], i0: np.ndarray | None) -> tuple[np.ndarray, dict]:
    """The views without their dark field, over the flat field or I0 where either is known; and an entry of the history of corrections."""
    if named["flat"] and i0 is not None:
        raise InputError(f"{said.where}: the flat field says I0 of each pixel: give i0 or flat, not both", "bad-scan-file")

    @cache
    def field(key: str, files: tuple[Path, ...]) -> np.ndarray:
        return fields.field_of(images.read_stack(list(files), _raw(said)), stack.shape[1:], f"{key} field ({files[0].name})")

    def of(key: str, view: int, default):
        files = named[key]
        return field(key, tuple(files[view if len(files) > 1 else 0])) if files else np.full(stack.shape[1:], default, np.float32)

    out, dead = np.empty(stack.shape, np.float32), 0
    for view, image in enumerate(stack):
        dark, gain = of("dark", view, 0), np.ones(stack.shape[1:], np.float32)
        if named["flat"] or i0 is not None:
            flat = of("flat", view, None if i0 is None else i0[view])
            with located(said.where):
                gain = fields.gain_of(dark, flat)
        out[view], dead = fields.transmissions(image, dark, gain), max(dead, int((gain == 0).sum()))
    if dead:
        log.warning("%s: %d pixels show nothing of the beam and count as dark: let dead-pixels be measured", said.where, dead)
    names = {key: ", ".join(dict.fromkeys(each[0].name for each in files)) or None for key, files in named.items()}
    return out, {"name": "dark-flat", "mode": "on", **names, "found": {"pixels_without_gain": dead}}


def _say_repeated(stack: np.ndarray, where) -> None:
    """Warn where a view is the same, pixel for pixel, as the one before: with noise that is a copy."""
    same = [view for view in range(1, len(stack)) if np.array_equal(stack[view], stack[view - 1])]
    if same:
        log.warning("%s: view %d is a copy of the view before it (%d such views)", where, same[0], len(same))
