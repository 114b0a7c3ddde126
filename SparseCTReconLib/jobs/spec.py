"""What a job is to do: the content of job.json.

Lengths in mm, angles in degrees (a job file is an edge), arrays' sizes in the library's order: detector (v, u), offset (u, v).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import InputError, nearest_name, within_sentence
from .files import JOB_FILE


class _Job(BaseModel):
    model_config = ConfigDict(extra="forbid")

    output: str = Field(
        description="where the result goes; written beside and renamed; a volume's folder/ gets a DICOM series", min_length=1
    )
    summary: str | None = Field(None, description="JSON file for the figures of the finished job")


class ReconstructJob(_Job):
    """From a scan to a volume."""

    task: Literal["reconstruct"] = "reconstruct"
    scan: str = Field(description="scan folder, or any file that a reader recognises", min_length=1)
    method: str = Field("naf", description="name of a method")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the method by name; preset is a preset's name")
    grid: dict[str, Any] | None = Field(None, description="voxels to reconstruct, as Grid.to_dict gives them")
    size: tuple[int, int, int] | None = Field(None, description="voxels along x, y, z about the isocentre, where there is no grid")
    spacing_mm: tuple[float, float, float] | None = Field(None, description="between voxels along x, y, z, where there is no grid")
    like: str | None = Field(None, description="volume whose grid the output takes")
    field_of_view: str | None = Field(None, description="file for a label map of how well the views see each voxel")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    budget_s: float | None = Field(None, gt=0, description="stop after about this many seconds with what there is")
    unit: Literal["HU", "1/mm"] = "HU"
    previews: str | None = Field(None, description="folder for previews")
    preview_interval_s: float = Field(2.0, ge=0)
    previews_kept: int = Field(0, ge=0, description="how many of the newest previews stay; 0 = all")
    checkpoint_interval_s: float = Field(30.0, gt=0)
    resume: bool = Field(False, description="go on from the checkpoint beside job.json")


class SimulateJob(_Job):
    """From a CT to a scan."""

    task: Literal["simulate"] = "simulate"
    ct: str = Field(description="CT volume: a file that SimpleITK reads or the folder of a DICOM series", min_length=1)
    views: int = Field(50, ge=1)
    preset: str = "linac"
    photons: float | None = Field(1e5, gt=0, description="photons per pixel without an object; null = no noise")
    electronic_noise: float = Field(10.0, ge=0, description="standard deviation in photons")
    scatter_fraction: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(0, ge=0)
    mu_water: float | None = Field(None, gt=0, description="attenuation of water in 1/mm")
    isocentre_mm: tuple[float, float, float] | None = Field(None, description="LPS; the CT's middle where not given")
    sid_mm: float | None = Field(None, gt=0)
    sdd_mm: float | None = Field(None, gt=0)
    arc_deg: float | None = Field(None, gt=0, le=360)
    start_deg: float | None = None
    detector_shape: tuple[int, int] | None = Field(None, description="rows and columns (v, u)")
    pixel_mm: tuple[float, float] | None = Field(None, description="pitch (dv, du)")
    offset_mm: tuple[float, float] | None = Field(None, description="displacement of the detector (u, v)")


class Result(BaseModel):
    """A volume that is compared with the reference, under the name that tables give it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    scan: str | None = Field(None, description="scan that it was made from: what of it lies in the field of view is told by itself")
    scanned: dict[str, Any] | None = Field(
        None, description="its voxels where that scan had them, as Grid.to_dict gives them, if it has been moved"
    )


class SegmenterSettings(BaseModel):
    """What TotalSegmentator is asked for, the same for the reference and each result."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field("total", description="name of one of its tasks; total needs no licence number")
    quality: Literal["normal", "fast", "fastest"] = Field("normal", description="resolution of its models: 1.5, 3 or 6 mm")
    organs: tuple[str, ...] = Field((), description="only these, by the task's names; all where empty")
    device: Literal["auto", "cpu", "gpu"] = "auto"
    noise_floor: bool = Field(True, description="segment the reference at another quality too and compare it with itself")
    program: str | None = Field(None, description="where it is, if neither in this Python nor on the path")


class CompareJob(_Job):
    """From volumes and their reference to figures, label maps and a report, in a folder."""

    task: Literal["compare"] = "compare"
    reference: str = Field(description="CT in HU: a file that SimpleITK reads or the folder of a DICOM series", min_length=1)
    reference_name: str | None = Field(None, description="what tables call it; its file's name where not given")
    results: list[Result] = Field(description="one to six volumes", min_length=1, max_length=6)
    image: bool = Field(True, description="PSNR, SSIM, RMSE, VIF")
    tissues: bool = Field(True, description="by classes of HU")
    organs: bool = Field(False, description="by TotalSegmentator")
    report: bool = Field(True, description="write report.html")
    segmenter: SegmenterSettings = Field(default_factory=SegmenterSettings)


class TrustJob(_Job):
    """From a volume and its scan to maps of what the measurements support, figures and a report, in a folder."""

    task: Literal["trust"] = "trust"
    volume: str = Field(description="volume that was made from the scan", min_length=1)
    scan: str = Field(description="scan folder, or any file that a reader recognises", min_length=1)
    size_mm: float = Field(10.0, gt=0, description="diameter of the detail that matters")
    region_mm: tuple[float, float, float, float] | None = Field(None, description="centre x y z (LPS) and radius of a region of interest")
    others: list[str] = Field([], description="volumes of the same scan by other seeds or methods, to see where they disagree")
    groups: int | None = Field(None, ge=2, description="hold back each of so many groups of views, and predict them")
    seeds: int | None = Field(None, ge=2, description="make the volume so many times anew with other seeds")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the volume is made again")


class CalibrateJob(_Job):
    """From a scan to its detector's offset and tilt, a JSON file, and where it is asked for the scan with these in its geometry."""

    task: Literal["calibrate"] = "calibrate"
    scan: str = Field(description="scan folder, or any file that a reader recognises", min_length=1)
    tilt: bool = Field(False, description="find the detector's turn in its plane too")
    applied: str | None = Field(None, description="scan folder for the scan with what was found")


class CorrectJob(_Job):
    """From a scan to one that was corrected, a folder."""

    task: Literal["correct"] = "correct"
    scan: str = Field(description="scan folder, or any file that a reader recognises", min_length=1)
    corrections: dict[str, Any] | list[dict[str, Any]] = Field(
        description="by name, or a list in the order in which they are applied; see corrections.chain.parse"
    )


AnyJob = ReconstructJob | SimulateJob | CompareJob | TrustJob | CalibrateJob | CorrectJob
JobSpec = Annotated[AnyJob, Field(discriminator="task")]
_ADAPTER = TypeAdapter(JobSpec)
_TASKS = {
    "reconstruct": ReconstructJob,
    "simulate": SimulateJob,
    "compare": CompareJob,
    "trust": TrustJob,
    "calibrate": CalibrateJob,
    "correct": CorrectJob,
}


def parse_spec(values: dict, where: str = "job") -> AnyJob:
    """A job from the values of a job.json; `where` names the source in messages.

    Raises
    ------
    InputError
        For an unknown task or key (with the nearest known one), a missing or wrong value.
    """
    task = values.get("task") if isinstance(values, dict) else None
    if task not in _TASKS:
        raise InputError(f"{where}: task {task!r}; give one of {', '.join(_TASKS)}", "bad-job")
    known = _TASKS[task].model_fields
    for key in values:
        if key not in known:
            raise InputError(f"{where}: no key {key!r} in a {task} job{nearest_name(key, known)}", "bad-job")
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:])
        value = "" if first["type"] == "missing" else f"={first['input']!r}"
        raise InputError(f"{where}: {key}{value}: {within_sentence(first['msg'])}", "bad-job") from None


def read_spec(path) -> AnyJob:
    """The job in a job.json; relative paths in it are taken from its folder.

    Raises
    ------
    InputError
        Where the file is missing, is no JSON, or is no job.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the job {path}: {error.strerror or error}", "bad-job") from None
    except ValueError as error:
        raise InputError(f"{path} is not a job file: {error}", "bad-job") from None
    spec = parse_spec(values, str(path))
    paths = {
        key: _from(path.parent, getattr(spec, key))
        for key in ("output", "summary", "scan", "like", "field_of_view", "previews", "ct", "reference", "volume", "applied")
        if getattr(spec, key, None)
    }
    if isinstance(spec, CompareJob):
        paths["results"] = [_result_from(path.parent, result) for result in spec.results]
    if isinstance(spec, TrustJob):
        paths["others"] = [str(path.parent / other) for other in spec.others]
    return spec.model_copy(update=paths)


def _result_from(folder: Path, result: Result) -> Result:
    scan = result.scan and str(folder / result.scan)
    return result.model_copy(update={"path": str(folder / result.path), "scan": scan})


def _from(folder: Path, path: str) -> str:
    """`path` from `folder`; a slash at its end, which asks for a DICOM series, stays."""
    return str(folder / path) + "/" * path.endswith("/")


def write_spec(spec: AnyJob, folder) -> Path:
    """Write `spec` as job.json into `folder` (made if need be) and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, beside = folder / JOB_FILE, folder / (JOB_FILE + ".tmp")
    beside.write_text(json.dumps(spec.model_dump(mode="json"), indent=1), encoding="utf-8")
    os.replace(beside, path)
    return path
