"""DeepSparse's, C2RV's and DIF-Gaussian's data: one pickle for each patient, and the data set's config.yaml above it.

    DATASET/meta_info.json                      names of the patients and where their files are: "projs": "processed/projections/{}.pickle"
    DATASET/config.yaml                         dataset: {value_range ...}, projector: {DSD, DSO, nDetector, dDetector, offDetector ...}
    DATASET/processed/projections/NAME.pickle   {"projs": uint8 [view, v, u], "projs_max": number, "angles": radians}

A projection is projs / 255 * projs_max, the line integral in metres of a CT whose value range in HU was brought to 0 .. 1. TIGRE made it,
with detector numbers as [v, u] and rows turned upside down. The attenuation of water follows from the value range. Its set of teeth says
that the detector stands before the rotation axis; the rays are the same as with a larger one behind it, which is what is read.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..grid import Grid
from ..scan import Scan
from . import pickles, yaml_files
from .arrays import head_of
from .checks import angles_of, checked, numbers, only_cone, stack_of, whole_numbers
from .naf import detector_of
from .orbits import tigre_orbit
from .r2_gaussian import inside, read_json

META, CONFIG = "meta_info.json", "config.yaml"
_UP = 4
"""Folders from a pickle up to the data set's."""
_TAIL = 1 << 16

log = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether `path` is such a pickle, or a data set's folder or its list."""
    if path.is_dir():
        return (path / META).is_file() and recognises(path / META)
    head = head_of(path, 1 << 12)
    if head.lstrip()[:1] == b"{":
        return b'"projs"' in head and b'"dataset_config"' in head
    return pickles.is_pickle(head) and b"projs" in head and b"projs_max" in _tail(path)


def _tail(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()


def read(path: Path) -> Scan:
    """The scan of a patient; of a data set's folder, that of its only one."""
    if path.is_dir():
        path = path / META
    if path.name == META or head_of(path, 64).lstrip()[:1] == b"{":
        path = _only_patient(path)
    data = pickles.load(path)
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}: give one patient's pickle of DeepSparse's", "bad-scan-file")
    stack = stack_of(data.get("projs"), path)
    angles = angles_of(data.get("angles"), path, len(stack))
    top = float(numbers(data, "projs_max", path))
    config_path = _config_above(path)
    config = yaml_files.read(config_path)
    scanner, dataset = (config.get(key) if isinstance(config.get(key), dict) else {} for key in ("projector", "dataset"))
    only_cone(scanner, config_path)
    dso, dsd = (float(numbers(scanner, key, config_path)) for key in ("DSO", "DSD"))
    shape, pixel = detector_of(scanner, stack.shape[1:], config_path)
    offset = numbers(scanner, "offDetector", config_path, size=2, default=(0, 0))
    larger = 1.0
    if 0 < dsd <= dso:
        larger = 2 * dso / dsd
        log.warning(
            "%s: the detector (DSD %g mm) stands before the rotation axis (DSO %g mm): it is moved behind it along the rays", path, dsd, dso
        )
    geometry = tigre_orbit(
        angles, dso, larger * dsd, shape, (larger * pixel[0], larger * pixel[1]), offset_mm=larger * offset, rows_down=True
    )
    low, high = numbers(dataset, "value_range", config_path, size=2, default=(-1000, 1000))
    if high <= -1000 or low >= high:
        raise InputError(f"{config_path}: value_range {low:g} to {high:g}: give the lowest and the highest HU", "bad-scan-file")
    if low != -1000:
        log.warning("%s: values were cut at %g HU and not at air: HU are off by a constant within the body", config_path, low)
    provenance = {"origin": "DeepSparse pickle", "assumed": f"values were {low:g} to {high:g} HU, as {CONFIG} says; its axes are LPS"}
    if "nVoxel" in scanner and "dVoxel" in scanner:
        size, spacing = whole_numbers(scanner, "nVoxel", config_path, 3), numbers(scanner, "dVoxel", config_path, size=3)
        provenance["ct_grid"] = Grid.centred(size, tuple(np.abs(spacing))).to_dict()
    whole = stack.dtype.kind in "iub"
    projections = stack * np.float32(top / 255 if whole else 1)
    return checked(Scan(projections, geometry, None, 1 / (high + 1000), provenance), path)


def _only_patient(meta_path: Path) -> Path:
    meta = read_json(meta_path)
    pattern = meta.get("projs")
    names = [name for split in ("train", "eval", "test") if isinstance(meta.get(split), list) for name in meta[split]]
    if not isinstance(pattern, str) or pattern.count("{}") != 1 or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{meta_path} names no patients, or not where their projections are ('projs')", "bad-scan-file")
    there = [file for file in (inside(meta_path.parent, pattern.replace("{}", name), meta_path) for name in names) if file.is_file()]
    if len(there) != 1:
        said = f"one of them, such as {there[0]}" if there else f"{pattern.replace('{}', names[0])} is not there; give a file"
        raise InputError(f"{meta_path} lists {len(names)} patients, {len(there)} of which are there: give {said}", "which-scan")
    return there[0]


def _config_above(path: Path) -> Path:
    for folder in list(path.absolute().parents)[:_UP]:
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    raise InputError(f"{path} needs the data set's {CONFIG}, which says the scanner: put it into the folder or above it", "missing-file")
