"""Organs by TotalSegmentator's command line (Wasserthal et al. 2023, Radiology: Artificial Intelligence 5:e230024).

It runs as a process of its own, with a home folder of its own in which usage statistics are off before its first run. It is asked for one
file with all labels, whose names it writes into the file's header.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import formats
from ..errors import InputError
from ..grid import Volume
from ..machine import NVIDIA_SMI, cache_folder, parse_gpus
from .compare import check_finite, in_hu
from .label_files import read_labels
from .organs import LabelMap, check_same_grid
from .segmenter_process import SegmenterError, run

PROGRAM_VARIABLE = "SPARSECTRECON_TOTALSEGMENTATOR"
QUALITIES = {"normal": (), "fast": ("--fast",), "fastest": ("--fastest",)}
"""Resolutions of the models (1.5, 3 and 6 mm) and how they are asked for."""

_WITH_QUALITIES = ("total", "total_v3", "total_mr")
_OTHER_QUALITY = {"normal": "fast", "fast": "fastest", "fastest": "fast"}
_MODULE = "totalsegmentator"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the segmenter is asked for, the same for a reference and its reconstructions.

    Parameters
    ----------
    task : str
        Name of one of its tasks; "total" is free of charge and needs no licence number.
    quality : str
        "normal" (1.5 mm), "fast" (3 mm) or "fastest" (6 mm); tasks other than "total" have one quality.
    organs : tuple of str
        Only these, by the task's names; all where empty.
    device : str
        "auto" takes the GPU where there is one; "gpu" fails where there is none.
    """

    task: str = "total"
    quality: str = "normal"
    organs: tuple[str, ...] = ()
    device: str = "auto"

    def __post_init__(self):
        if self.quality not in QUALITIES:
            raise InputError(f"segmentation quality {self.quality!r}: give {', '.join(QUALITIES)}", "bad-segmenter-settings")
        if self.device not in ("auto", "cpu", "gpu"):
            raise InputError(f"segmentation device {self.device!r}: give auto, cpu or gpu", "bad-segmenter-settings")
        if self.task not in _WITH_QUALITIES and (self.quality != "normal" or self.organs):
            what = "a list of organs" if self.organs else f"the quality {self.quality}"
            raise InputError(
                f"TotalSegmentator's task {self.task!r} takes no {what.split(' ', 1)[1]}: leave it out", "bad-segmenter-settings"
            )

    def arguments(self, device: str) -> list[str]:
        """Those of its command line, without input and output."""
        arguments = ["--ml", "--task", self.task, *QUALITIES[self.quality], "--device", device]
        arguments += ["--nr_thr_resamp", "1", "--nr_thr_saving", "1"]  # each thread holds volumes of its own
        return [*arguments, "--roi_subset", *self.organs] if self.organs else arguments

    def for_noise_floor(self) -> Settings | None:
        """The settings whose labels on the same reference show how far the segmenter agrees with itself; None where there are none."""
        if self.task not in _WITH_QUALITIES:
            return None
        return Settings(self.task, _OTHER_QUALITY[self.quality], self.organs, self.device)


def available(program: str | None = None) -> bool:
    """Whether TotalSegmentator can be found; nothing is imported or run."""
    try:
        return bool(find_segmenter(program))
    except (SegmenterError, InputError):
        return False


def find_segmenter(program: str | None = None) -> list[str]:
    """The command that runs TotalSegmentator: `program`, the environment's, this Python's package, or what is on the path.

    Raises
    ------
    SegmenterError
        Where it is not installed.
    InputError
        Where `program` is not there.
    """
    given = program or os.environ.get(PROGRAM_VARIABLE)
    if given:
        found = shutil.which(given) or (given if Path(given).is_file() else None)
        if not found:
            raise InputError(f"{given} is no program: give the place of TotalSegmentator, or leave it out", "missing-file")
        return [sys.executable, found] if found.endswith(".py") else [found]
    spec = importlib.util.find_spec(_MODULE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "bin" / "TotalSegmentator.py").is_file():
            return [sys.executable, "-m", f"{_MODULE}.bin.TotalSegmentator"]
    if found := shutil.which("TotalSegmentator"):
        return [found]
    raise SegmenterError(
        "segmenter-missing",
        "TotalSegmentator is not installed",
        "Install it (pip install TotalSegmentator; in 3D Slicer the extension TotalSegmentator), or compare tissues, which needs nothing.",
    )


class Segmenter:
    """TotalSegmentator with its home folder and its cache.

    Parameters
    ----------
    program : str, optional
        Where it is; see `find_segmenter`.
    folder : Path, optional
        Where home and cached labels lie; the user's cache folder by default.
    own_group : bool
        Whether it leads a process group, which ends with it; a worker, whose group its parent ends, keeps it in its own.
    """

    def __init__(self, program: str | None = None, folder: Path | None = None, own_group: bool = True):
        self.command = find_segmenter(program)
        self.folder = Path(folder) if folder else cache_folder() / "totalsegmentator"
        self._own_group = own_group

    @cached_property
    def version(self) -> str:
        """Version of the package, "unknown" where it cannot be told without running it."""
        from importlib import metadata

        program = Path(self.command[-1])
        prefix = program.resolve().parent.parent if program.is_file() else None
        places = [sys.path] if prefix is None else [[str(place)] for place in prefix.glob("[Ll]ib/**/site-packages")]
        for place in places:
            for found in metadata.distributions(name="TotalSegmentator", path=place):
                return found.version
        return "unknown"

    def segment(self, volume: Volume, settings: Settings, output: Path, tell: Callable[[str, float | None], None]) -> LabelMap:
        """Segment `volume` and leave the labels in `output`.

        Parameters
        ----------
        volume : Volume
        settings : Settings
        output : Path
            .nii.gz to write.
        tell : callable
            Called with what is being done and the fraction done (None where unknown), at least ten times a second; what it raises ends the
            segmenter.

        Returns
        -------
        LabelMap
            On the grid of `volume`; empty where nothing was found.

        Raises
        ------
        SegmenterError
            With code, sentence and next step.
        InputError
            Where `volume` has voxels that are not finite.
        """
        hu = in_hu(volume)
        check_finite(hu, "volume to segment")
        output.parent.mkdir(parents=True, exist_ok=True)
        image, beside = output.with_name(f".writing-image-{output.name}"), output.with_name(f".writing-{output.name}")
        try:
            formats.write_volume(Volume(hu, volume.grid), image)
            device = _device(settings.device)
            command = [*self.command, "-i", str(image), "-o", str(beside), *settings.arguments(device)]
            run(command, self._environment(), tell, gpu_or_nothing=settings.device == "gpu", own_group=self._own_group)
            labels = _labels(beside, volume)
            os.replace(beside, output)
        finally:
            for left in (image, beside):
                left.unlink(missing_ok=True)
        return labels

    def segment_once(self, volume: Volume, settings: Settings, output: Path, tell: Callable[[str, float | None], None]) -> LabelMap:
        """`segment`, or the labels of the same voxels from an earlier time."""
        kept = self.folder / "labels" / f"{self._digest(volume, settings)}.nii.gz"
        with contextlib.suppress(InputError, SegmenterError):
            labels = _labels(kept, volume)
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, output)
            log.info("labels of the reference from an earlier time: %s", kept)
            return labels
        labels = self.segment(volume, settings, output, tell)
        if not labels.empty:
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                beside = kept.with_name(f".{os.getpid()}-{kept.name}")
                shutil.copyfile(output, beside)
                os.replace(beside, kept)
        return labels

    def _digest(self, volume: Volume, settings: Settings) -> str:
        """Short hash of the voxels, where they lie, what is asked for and of whom; the device does not change the labels."""
        said = {**asdict(settings), "device": None, "grid": volume.grid.to_dict(), "by": self.command[-1], "version": self.version}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(in_hu(volume)))
        return digest.hexdigest()[:32]

    def _environment(self) -> dict[str, str]:
        """Its variables: a home of its own without usage statistics, and the weights that the user has already."""
        home, theirs = self.folder / "home", Path(os.environ.get("TOTALSEG_HOME_DIR") or Path.home() / ".totalsegmentator")
        _prepare_home(home, theirs)
        environment = os.environ | {"TOTALSEG_HOME_DIR": str(home), "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        weights = theirs / "nnunet" / "results"
        if "TOTALSEG_WEIGHTS_PATH" not in environment and weights.is_dir():
            environment["TOTALSEG_WEIGHTS_PATH"] = str(weights)
        return environment


def _prepare_home(home: Path, theirs: Path) -> None:
    """Write the configuration with which nothing is sent anywhere, with the licence number that the user has given TotalSegmentator."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "config.json"
    config = {"totalseg_id": "totalseg_private", "prediction_counter": 0} | _json(file)
    config |= {key: value for key, value in _json(theirs / "config.json").items() if key == "license_number"}
    config |= {"send_usage_stats": False, "statistics_disclaimer_shown": True}
    beside = file.with_name(f".{os.getpid()}-{file.name}")
    beside.write_text(json.dumps(config, indent=1), encoding="utf-8")
    os.replace(beside, file)


def _json(file: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(file.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=10, check=True).stdout
        return "gpu" if parse_gpus(listed) else "cpu"
    return "cpu"


def _labels(file: Path, volume: Volume) -> LabelMap:
    try:
        labels = read_labels(file)
        check_same_grid(labels.grid, volume.grid)
    except InputError as error:
        raise SegmenterError("segmenter-failed", f"TotalSegmentator left no usable labels: {error}", "See the log.") from error
    return labels
