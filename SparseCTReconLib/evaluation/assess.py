"""A reference and up to six results: image figures, tissues and organs of each, with how each was made, as one JSON object."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import formats
from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..methods.reconstruct import DISCLAIMER, PREFIX
from . import organs, tissues
from .compare import Pair, aligned, conventions, image_figures
from .organs import LabelMap, compare_labels
from .segmentation import Segmenter, Settings
from .segmenter_process import SegmenterError

MOST_RESULTS = 6
_USUAL_FRACTION = 0.9
"""A grid of larger voxels about a CT reaches beyond it by a part of a voxel on each side: nothing to warn of."""


@dataclass(frozen=True)
class Entry:
    """A volume under its name, and where it came from.

    Parameters
    ----------
    name, path : str
    volume : Volume
    geometry : Geometry, optional
        Of the scan that it was made from: figures are given within its field of view too, and what that cuts is flagged.
    scanned : Grid, optional
        Where its voxels were in that scan, if it has been moved since.

    Raises
    ------
    InputError
        Where `scanned` holds another number of voxels than the volume.
    """

    name: str
    path: str
    volume: Volume
    geometry: Geometry | None = None
    scanned: Grid | None = None

    def __post_init__(self):
        if self.scanned and self.scanned.size != self.volume.grid.size:
            raise InputError(
                f"{self.name}: {self.volume.grid.size} voxels, and {self.scanned.size} where it was scanned: give the volume's own",
                "bad-grid",
            )

    @classmethod
    def read(cls, name: str, path, reference: bool = False, geometry: Geometry | None = None, scanned: Grid | None = None) -> Entry:
        """The volume in `path`; a reference must be a CT in HU."""
        volume = formats.read_ct(path) if reference else formats.read_volume(path)
        return cls(name, str(path), volume, geometry, scanned)


@dataclass(frozen=True)
class Wanted:
    """What is to be compared.

    Parameters
    ----------
    image, tissues : bool
    segmentation : Settings, optional
        Compare organs, with these settings.
    noise_floor : bool
        Segment the reference at another resolution too, to show how far the segmenter agrees with itself.
    """

    image: bool = True
    tissues: bool = True
    segmentation: Settings | None = None
    noise_floor: bool = True


class Listener(Protocol):
    """Who is told of the progress; what its methods raise ends the comparison."""

    def at(self, stage: str, step: int, steps: int, within: float | None) -> None:
        """`step` of `steps` is being done, `within` of it (None where unknown); called often."""

    def figures(self, result: str, kind: str, values) -> None:
        """Figures of a result: kind "image", "tissues" or "organs"."""

    def warning(self, message: str) -> None:
        """Something that the user should know."""


class Silent:
    """A listener that does nothing."""

    def at(self, stage: str, step: int, steps: int, within: float | None) -> None: ...

    def figures(self, result: str, kind: str, values) -> None: ...

    def warning(self, message: str) -> None: ...


class Assessment:
    """One comparison; `run` gives its figures, `pairs` its volumes.

    Parameters
    ----------
    reference : Entry
    results : sequence of Entry
        One to six, of different names.
    wanted : Wanted
    folder : Path
        Where label maps go, below `labels`.
    segmenter : Segmenter, optional
        Needed where organs are wanted.
    listener : Listener, optional
    """

    def __init__(
        self,
        reference: Entry,
        results: Sequence[Entry],
        wanted: Wanted,
        folder: Path | None = None,
        segmenter: Segmenter | None = None,
        listener: Listener | None = None,
    ):
        check_names([result.name for result in results])
        self.reference, self.results, self.wanted = reference, tuple(results), wanted
        self._folder, self._segmenter, self._listener = folder, segmenter, listener or Silent()
        self.pairs = self._align()
        self._files = file_names([result.name for result in results])
        self._references: list[tuple[Grid, LabelMap, dict[int, dict]]] = []
        self._stage, self._step, self._steps = "", 0, len(results) * self._steps_each() + self._reference_steps()

    def run(self) -> dict:
        """The comparison: reference, results (image, tissues, organs, warnings of each), conventions, segmenter, disclaimer."""
        found = {result.name: self._described(result) for result in self.results}
        kinds = (("image", self.wanted.image), ("tissues", self.wanted.tissues), ("organs", self.wanted.segmentation))
        for kind, wanted in kinds:
            for result, pair in zip(self.results, self.pairs):
                found[result.name][kind] = getattr(self, f"_{kind}")(result, pair, found[result.name]) if wanted else None
                if wanted:
                    self._listener.figures(result.name, kind, found[result.name][kind])
        self._listener.at("done", self._steps, self._steps, None)
        said = conventions(in_view=any(result.geometry for result in self.results)) if self.wanted.image else {}
        said |= {"tissues": tissues.CONVENTION} if self.wanted.tissues else {}
        said |= {"organs": organs.CONVENTION} if self.wanted.segmentation else {}
        reference = {"name": self.reference.name, "path": self.reference.path, "attributes": dict(self.reference.volume.attributes)}
        return {
            "reference": reference,
            "results": list(found.values()),
            "conventions": said,
            "segmenter": self._said_of_segmenter(),
            "disclaimer": DISCLAIMER,
        }

    def _align(self) -> list[Pair]:
        """Each result beside the reference on its grid, which results of the same grid share."""
        pairs: list[Pair] = []
        for result in self.results:
            try:
                known = next((pair for pair in pairs if pair.grid.matches(result.volume.grid)), None)
                pairs.append(known.with_image(result.volume) if known else aligned(result.volume, self.reference.volume))
            except InputError as error:
                raise InputError(f"{result.name}: {error}", error.code) from None
        return pairs

    def _steps_each(self) -> int:
        return bool(self.wanted.image) + bool(self.wanted.tissues) + 2 * bool(self.wanted.segmentation)

    def _reference_steps(self) -> int:
        if not self.wanted.segmentation:
            return 0
        grids = sum(all(not pair.grid.matches(earlier.grid) for earlier in self.pairs[:n]) for n, pair in enumerate(self.pairs))
        return grids * (1 + bool(self._noise_settings()))

    def _begin(self, stage: str) -> None:
        self._stage, self._step = stage, self._step + 1
        self._listener.at(stage, self._step, self._steps, 0.0)

    def _tell(self, stage: str, within: float | None) -> None:
        self._listener.at(self._stage, self._step, self._steps, within)

    def _described(self, result: Entry) -> dict:
        said = result.volume.attributes.get(PREFIX + "warnings", "")
        return {
            "name": result.name,
            "path": result.path,
            "attributes": dict(result.volume.attributes),
            "grid": result.volume.grid.to_dict(),
            "labels": None,
            "warnings": [said] if said else [],
        }

    def _warn(self, described: dict, message: str) -> None:
        described["warnings"].append(message)
        self._listener.warning(f"{described['name']}: {message}")

    def _image(self, result: Entry, pair: Pair, described: dict) -> dict:
        self._begin("image figures")
        figures = image_figures(pair, geometry=result.geometry, scanned=result.scanned)
        if (share := figures["compared_fraction"]) < _USUAL_FRACTION:
            self._warn(described, f"{100 * share:.1f} % of its voxels lie within the reference; the rest does not count")
        return figures

    def _tissues(self, result: Entry, pair: Pair, described: dict) -> list[dict]:
        self._begin("tissues")
        return tissues.compare_tissues(pair)

    def _organs(self, result: Entry, pair: Pair, described: dict) -> list[dict]:
        reference, noise = self._reference_labels(pair)
        self._begin(f"segmenting {result.name}")
        output = self._folder / "labels" / self._files[result.name]
        labels = self._segmenter.segment(Volume(pair.image, pair.grid), self.wanted.segmentation, output, self._tell)
        described["labels"] = str(output)
        if labels.empty:
            self._warn(described, "TotalSegmentator found no organ in it")
        self._begin(f"organs of {result.name}")
        scanned = result.scanned or pair.grid
        view = pair.within if result.geometry is None else pair.within & field_of_view(result.geometry, scanned)
        found = compare_labels(labels, reference, None if view.all() else view)
        for organ in found:
            floor = noise.get(organ["label"], {})
            organ |= {f"noise_{figure}": floor.get(figure) for figure in organs.FIGURES}
        return found

    def _noise_settings(self) -> Settings | None:
        return self.wanted.segmentation.for_noise_floor() if self.wanted.noise_floor and self.wanted.segmentation else None

    def _reference_labels(self, pair: Pair) -> tuple[LabelMap, dict[int, dict]]:
        """Labels of the reference on the grid of `pair`, and the segmenter's noise floor by label."""
        for grid, labels, noise in self._references:
            if grid.matches(pair.grid):
                return labels, noise
        number = f"-{len(self._references) + 1}" if self._references else ""
        truth = Volume(pair.truth, pair.grid)
        self._begin("segmenting the reference")
        output = self._folder / "labels" / f"reference{number}.nii.gz"
        labels = self._segmenter.segment_once(truth, self.wanted.segmentation, output, self._tell)
        if labels.empty:
            raise SegmenterError(
                "empty-segmentation",
                "TotalSegmentator found no organ in the reference",
                "Ask for other organs or another task, give a reference that shows organs, or compare tissues.",
            )
        noise = {}
        if settings := self._noise_settings():
            self._begin("segmenting the reference for the noise floor")
            output = self._folder / "labels" / f"reference{number}-{settings.quality}.nii.gz"
            again = self._segmenter.segment_once(truth, settings, output, self._tell)
            noise = {organ["label"]: organ for organ in compare_labels(again, labels)}
        self._references.append((pair.grid, labels, noise))
        return labels, noise

    def _said_of_segmenter(self) -> dict | None:
        if not (settings := self.wanted.segmentation):
            return None
        other = self._noise_settings()
        floor = f"the reference segmented at quality {other.quality} against itself at quality {settings.quality}" if other else None
        said = {"task": settings.task, "quality": settings.quality, "organs": list(settings.organs), "device": settings.device}
        return {"program": "TotalSegmentator", "version": self._segmenter.version, **said, "noise_floor": floor}


def check_names(names: Sequence[str]) -> None:
    """Refuse no results, more than a table holds, and two of the same name."""
    if not 1 <= len(names) <= MOST_RESULTS:
        raise InputError(f"{len(names)} results: a comparison takes one to {MOST_RESULTS}", "bad-comparison")
    for name in names:
        if not name.strip():
            raise InputError("a result without a name: give each a name", "bad-comparison")
        if names.count(name) > 1:
            raise InputError(f"two results are called {name!r}: give each a name of its own", "bad-comparison")


def file_names(names: Sequence[str]) -> dict[str, str]:
    """A file for the labels of each result, none of them the reference's."""
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "result"
        stem = f"result-{stem}" if stem.lower().startswith("reference") else stem
        taken = {file.lower() for file in found.values()}
        numbered = (stem if n == 1 else f"{stem}-{n}" for n in range(1, MOST_RESULTS + 1))
        found[name] = next(f"{each}.nii.gz" for each in numbered if f"{each}.nii.gz".lower() not in taken)
    return found


def field_of_view(geometry: Geometry, grid: Grid) -> np.ndarray:
    """Voxels of `grid` in the cylinder about the axis through the isocentre that every view sees (bool, [z, y, x])."""
    radius, half_height = geometry.field_of_view()
    matrix = grid.index_to_world
    index = [np.arange(n, dtype=np.float32).reshape(shape) for n, shape in zip(grid.size, ((1, 1, -1), (1, -1, 1), (-1, 1, 1)))]
    x, y, z = (
        sum(np.float32(matrix[axis, k]) * index[k] for k in range(3)) + np.float32(matrix[axis, 3] - geometry.isocentre_mm[axis])
        for axis in range(3)
    )
    return (x * x + y * y <= radius * radius) & (np.abs(z) <= half_height + math.ulp(half_height))
