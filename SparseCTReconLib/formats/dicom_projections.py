"""Rotational X-ray runs in DICOM: XA and RF images, classic and enhanced, of many frames in one file or of a frame in each of many files.

The positioner's angles (PS3.3 C.8.7.5) say where the detector is about the patient: at 0 the patient faces it, the primary angle grows
towards the patient's left, the secondary towards the head. In LPS it lies from the isocentre in the direction

    d = (sin p cos s, -cos p cos s, sin s),

the source opposite. An image is as seen from the detector: rows run along u = (cos p, sin p, 0), columns along v with u x v = -d. Patient
Orientation, where it says otherwise of the first frame, turns them about. The central ray is taken to meet the middle of the image.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from .checks import suspect_radians
from .dicom import is_dicom_file
from .dicom_files import dataset_of, floats_of, header_of, size_of, stack_of, value_of, whole
from .dicom_intensities import converter
from .intensities import scan_of
from .panel_folders import files_in

_CLASSES = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.12\.[12](\.1)?[\0O\x02]")
"""XA and RF image storage and their enhanced kin, in a file's first bytes."""
_PEEK, _PEEKED = 1024, 16
_AXES = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
_MOST_MM = 1e5
_FEWEST = 3

log = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether `path` is an X-ray run, or a folder among whose first files is one."""
    if path.is_file():
        return _is_run(path)
    return any(_is_run(file) for file in files_in(path)[:_PEEKED])


def _is_run(path: Path) -> bool:
    if not is_dicom_file(path):
        return False
    with path.open("rb") as stream:
        return _CLASSES.search(stream.read(_PEEK)) is not None


def read(path: Path) -> Scan:
    """The scan of a run; one file of a series of single frames stands for the series.

    Raises
    ------
    InputError
        Where files are damaged, of several runs, without angles and distances, or compressed in a way that nothing here decodes.
    """
    files = _files(path)
    parts = [_part(file) for file in files]
    poses = {key: np.concatenate([part[key] for part in parts]) for key in ("primary", "secondary", "sid", "sdd")}
    first = parts[0]
    for file, part in zip(files, parts):
        if part["stack"].shape[1:] != first["stack"].shape[1:] or not np.allclose(part["pixel"], first["pixel"]):
            raise InputError(f"{file} has other pixels than {files[0].name}: it is of another run; take it away", "which-series")
    _check_turns(poses, path)
    stack = first["stack"] if len(parts) == 1 else np.concatenate([part.pop("stack") for part in parts])
    geometry = geometry_of(**poses, shape=stack.shape[1:], pixel_mm=first["pixel"], orientation=first["orientation"], where=path)
    provenance = {"origin": f"DICOM {first['modality']}", "values": first["values"], "assumed": _assumed(first)}
    return scan_of(stack, geometry, path, provenance)


def _assumed(part: dict) -> str:
    distance = "the distance to the patient is that to the isocentre; " if part["sid_from_patient"] else ""
    return distance + "the central ray meets the image's middle; isocentre at LPS 0"


def _files(path: Path) -> list[Path]:
    """The files of the run, in order."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and whole(header_of(path), "NumberOfFrames", path, default=1, most=1 << 30) > 1:
        return [path]
    series: dict[str, list] = {}
    for file in files_in(folder):
        if _is_run(file):
            header = header_of(file)
            number = floats_of(header, "InstanceNumber")
            frames = whole(header, "NumberOfFrames", file, default=1, most=1 << 30)
            key = str(value_of(header, "SeriesInstanceUID")) if frames == 1 else str(file)
            series.setdefault(key, []).append((frames, number[0] if number is not None else len(series), file))
    runs = sorted(series.values(), key=lambda run: sum(frames for frames, *_ in run), reverse=True)
    if path.is_file():
        runs = [run for run in runs if path.resolve() in {file.resolve() for *_, file in run}]
    if len(runs) > 1:
        said = ", ".join(f"{sum(frames for frames, *_ in run)} frames ({run[0][2].name} ...)" for run in runs[:5])
        raise InputError(f"{folder} holds {len(runs)} X-ray runs: {said}; give one file of the run you mean", "which-series")
    return [file for *_, file in sorted(runs[0], key=lambda item: item[1])]


def _part(path: Path) -> dict:
    """Frames, poses and all that is needed of one file."""
    dataset = dataset_of(path)
    frames, _, _ = size_of(dataset, path)

    def group(frame: int, keyword: str):
        """The functional group's item of a frame, or that of all frames."""
        for name, k in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
            items = value_of(dataset, name)
            item = value_of(items[k], keyword) if items is not None and k < len(items) else None
            if item:
                return item[0]
        return None

    def of(frame: int, keyword: str, *groups: str):
        """Numbers of a frame's functional group, or of the dataset."""
        for name in groups:
            item = group(frame, name)
            found = floats_of(item, keyword) if item is not None else None
            if found is not None:
                return found
        return floats_of(dataset, keyword)

    convert, values = converter(dataset, group, path)
    pixel = _needed(of(0, "ImagerPixelSpacing", "FramePixelDataPropertiesSequence"), 2, "ImagerPixelSpacing", path)
    sid, from_patient = _source_to_axis(of, frames, path)
    sdd = [
        _needed(of(k, "DistanceSourceToDetector", "XRayGeometrySequence"), 1, "DistanceSourceToDetector", path)[0] for k in range(frames)
    ]
    return {
        "primary": _angles(dataset, of, "Primary", frames, path),
        "secondary": _angles(dataset, of, "Secondary", frames, path),
        "sid": sid,
        "sdd": np.array(sdd),
        "sid_from_patient": from_patient,
        "pixel": (float(pixel[0]), float(pixel[1])),
        "orientation": value_of(dataset, "PatientOrientation"),
        "modality": "RF" if value_of(dataset, "Modality") == "RF" else "XA",
        "values": values,
        "stack": stack_of(dataset, path, convert),
    }


def _needed(values, count: int, keyword: str, path: Path) -> np.ndarray:
    if values is None or len(values) != count or not ((values > 0) & (values < _MOST_MM)).all():
        what = "is missing" if values is None else "is no such distance in mm"
        raise InputError(f"{path}: {keyword} {what}: export the run with its geometry", "bad-geometry")
    return values


def _source_to_axis(of, frames: int, path: Path) -> tuple[np.ndarray, bool]:
    """Distance from the source to the isocentre, and whether it is the one to the patient, which stands for it in angiography."""
    if of(0, "DistanceSourceToIsocenter", "XRayGeometrySequence") is None:
        distance = _needed(of(0, "DistanceSourceToPatient"), 1, "DistanceSourceToIsocenter or DistanceSourceToPatient", path)[0]
        return np.full(frames, distance), True
    keyword = "DistanceSourceToIsocenter"
    return np.array([_needed(of(k, keyword, "XRayGeometrySequence"), 1, keyword, path)[0] for k in range(frames)]), False


def _angles(dataset, of, which: str, frames: int, path: Path) -> np.ndarray:
    """Primary or secondary angles of the frames in degrees (PS3.3 C.8.7.5.1.3 for those of classic files)."""
    keyword = f"Positioner{which}Angle"
    each = [of(k, keyword, "PositionerPositionSequence") for k in range(frames)]
    if any(angle is None or len(angle) != 1 for angle in each):
        if which == "Secondary" and all(angle is None for angle in each):
            return np.zeros(frames)
        raise InputError(f"{path}: {keyword} is missing: export the run with its angles", "bad-geometry")
    angles = np.concatenate(each)
    steps = floats_of(dataset, f"{keyword}Increment")
    if steps is None:
        return angles
    if len(steps) not in (1, frames):
        raise InputError(
            f"{path}: {keyword}Increment has {len(steps)} values for {frames} frames: give one value, or one for each frame", "view-count"
        )
    if len(steps) == 1:
        return angles + steps * np.arange(frames)
    if frames > 1 and steps[0] != 0 and steps[0] == angles[0]:
        log.warning(
            "%s: the offsets of the frames from %s begin with %g, the angle itself: they are taken for angles", path, keyword, steps[0]
        )
        return steps
    return angles + steps


def _check_turns(poses: dict[str, np.ndarray], path: Path) -> None:
    primary, secondary = poses["primary"], poses["secondary"]
    if max(np.abs(primary).max(), np.abs(secondary).max()) > 720:
        raise InputError(f"{path}: positioner angles up to {np.abs(primary).max():g} degrees: export the run again", "bad-geometry")
    if len(primary) < _FEWEST or np.ptp(primary) + np.ptp(secondary) < 1e-3:
        raise InputError(
            f"{path} has {len(primary)} frames and the positioner does not turn: give a rotational run, with an angle for each frame",
            "bad-geometry",
        )
    suspect_radians(primary if np.ptp(primary) >= np.ptp(secondary) else secondary, path)


def geometry_of(primary, secondary, sid, sdd, shape, pixel_mm, orientation=None, where="the run") -> Geometry:
    """Poses of positioner angles in degrees (views,) and distances in mm (views,); `orientation`: DICOM's Patient Orientation or None."""
    p, s = np.radians(primary), np.radians(secondary)
    towards = np.stack([np.sin(p) * np.cos(s), -np.cos(p) * np.cos(s), np.sin(s)], axis=1)
    u = np.stack([np.cos(p), np.sin(p), np.zeros_like(p)], axis=1)
    v = np.cross(-towards, u)
    u, v = (_as_oriented(axis, letters, where) for axis, letters in zip((u, v), _letters(orientation)))
    if (sdd <= sid).any():
        raise InputError(
            f"{where}: the detector is {sdd.min():g} mm from the source, the axis {sid.max():g} mm: export it again", "bad-geometry"
        )
    return Geometry(-sid[:, None] * towards, (sdd - sid)[:, None] * towards, u, v, shape, pixel_mm)


def _letters(orientation) -> tuple[str, str]:
    """Towards which sides of the patient rows and columns of the first frame run, by first letters; "" where unknown."""
    if orientation is None or isinstance(orientation, str) or len(orientation) != 2:
        return "", ""
    return tuple(str(each)[:1].upper() for each in orientation)


def _as_oriented(axis: np.ndarray, letter: str, where) -> np.ndarray:
    if letter in _AXES and axis[0] @ _AXES[letter] < -0.5:
        log.warning("%s: Patient Orientation says that its images are mirrored or upside down: they are taken so", where)
        return -axis
    return axis
