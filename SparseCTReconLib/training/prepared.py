"""CTs made alike for training, as for ReconX-15K: clipped, resampled, cropped, normalised; kept on disk, since that takes time.

ReconX-15K (X-GRM, section A.2) has voxels of 1 mm (teeth .3 mm), 256 along each axis, from -1000 to 1000 HU (teeth to 2000), as numbers
from 0 to 1. Long CTs give several crops, one above the other. A folder may hold anything: what is no CT is left out, and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import formats
from ..errors import InputError
from ..formats.files import written_beside
from ..grid import Grid, Volume
from ..units import AIR_HU

log = logging.getLogger(__name__)

SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm")
TOP = 65535
"""Numbers from 0 to 1 are kept as whole ones up to this."""

BODY_HU, LEAST_BODY = -500.0, 0.01
LEAST_VOXELS = 8
"""Along each axis, of a CT that there is something to learn from."""


@dataclass(frozen=True)
class Recipe:
    """How CTs are made alike.

    Parameters
    ----------
    voxels : int
        Along each axis.
    spacing_mm : float
        Of the voxels.
    clip_hu : tuple of float
        What becomes 0 and what becomes 1.
    """

    voxels: int = 256
    spacing_mm: float = 1.0
    clip_hu: tuple[float, float] = (-1000.0, 1000.0)

    def __post_init__(self):
        object.__setattr__(self, "clip_hu", tuple(float(hu) for hu in self.clip_hu))
        low, high = self.clip_hu
        if self.voxels < LEAST_VOXELS or not 0 < self.spacing_mm < np.inf or not -np.inf < low < high < np.inf:
            raise InputError(
                f"{self.voxels} voxels of {self.spacing_mm} mm from {low:g} to {high:g} HU: give {LEAST_VOXELS} voxels or more, a spacing "
                "and a range",
                "bad-option",
            )

    @property
    def edge_mm(self) -> float:
        return self.voxels * self.spacing_mm

    @property
    def grid(self) -> Grid:
        """Of what is made, about LPS 0."""
        return Grid.centred((self.voxels,) * 3, (self.spacing_mm,) * 3)


RECIPES = {"reconx": Recipe(), "reconx-teeth": Recipe(spacing_mm=0.3, clip_hu=(-1000.0, 2000.0)), "bone": Recipe(clip_hu=(-1000.0, 3000.0))}
"""The paper's two, and one that leaves dense bone as it is."""


@dataclass(frozen=True)
class PreparedCT:
    """A crop that lies on disk.

    Parameters
    ----------
    path : Path
        Of its array; beside it lies its card.
    source : str
        Name of the CT.
    recipe : Recipe
    """

    path: Path
    source: str
    recipe: Recipe

    def volume(self) -> Volume:
        """In HU.

        Raises
        ------
        InputError
            Where it has gone or is damaged.
        """
        low, high = self.recipe.clip_hu
        try:
            values = np.load(self.path).astype(np.float32)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"what was kept of {self.source} cannot be read ({error}): make the CTs alike again", "unreadable") from None
        values *= np.float32((high - low) / TOP)
        values += np.float32(low)
        return Volume(values, self.recipe.grid)


@dataclass(frozen=True)
class Prepared:
    """What a folder gave.

    Parameters
    ----------
    cts : list of PreparedCT
    skipped : dict of str to str
        Paths that gave nothing, and why.
    """

    cts: list[PreparedCT]
    skipped: dict[str, str]


def prepare(paths: Iterable[Path], recipe: Recipe, cache: Path) -> Prepared:
    """Make CTs alike, or take them from the cache where they already lie there.

    Parameters
    ----------
    paths : iterable of Path
        CTs in HU, or folders with CTs and whatever else, at any depth.
    recipe : Recipe
    cache : Path
        Folder to keep them in; for several recipes if need be.

    Raises
    ------
    InputError
        Where there is not one CT, or the cache cannot be written.
    """
    made, skipped = [], {}
    for path in candidates(paths):
        try:
            made += _of_file(path, recipe, Path(cache))
        except InputError as error:
            if error.code == "unwritable":
                raise
            skipped[str(path)] = str(error)
            log.warning("left out: %s", error)
    if not made:
        first = next(iter(skipped.values()), "there is no image")
        raise InputError(f"not one CT to train on ({first}): give CTs in HU, or folders of them", "no-data")
    return Prepared(made, skipped)


def candidates(paths: Iterable[Path]) -> Iterator[Path]:
    """Files that may be CTs, and folders of DICOM series, in the order of their names; each path that is given, if it is no folder."""
    for given in map(Path, paths):
        if not given.is_dir():
            yield given
            continue
        for folder, inside, files in os.walk(given):
            inside.sort()
            named = sorted(Path(folder, name) for name in files)
            images = [path for path in named if path.name.lower().endswith(SUFFIXES)]
            yield from (path for path in images if path.suffix.lower() != ".dcm")
            if any(path.suffix.lower() == ".dcm" or (not path.suffix and _is_dicom(path)) for path in named):
                yield Path(folder)


def alike(ct: Volume, recipe: Recipe) -> list[np.ndarray]:
    """Crops of a CT in HU, whole numbers up to `TOP` [z, y, x], feet first.

    A crop is centred on the body; what lies beyond the CT is air. A CT much longer than a crop gives several.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    low, high = recipe.clip_hu
    values = np.clip(np.nan_to_num(np.asarray(ct.array, dtype=np.float32), nan=AIR_HU), low, high)
    body = values > max(BODY_HU, low)
    if min(ct.array.shape) < LEAST_VOXELS or body.mean() < LEAST_BODY:
        raise InputError(f"a CT of {ct.grid.size} voxels, {body.mean():.1%} of them body: there is nothing to learn from", "no-body")
    spacing = np.array(ct.grid.spacing_mm)
    widths = 0.5 * np.sqrt(np.maximum((recipe.spacing_mm / spacing) ** 2 - 1, 0))
    values = gaussian_filter(values, widths[::-1], mode="nearest") if widths.any() else values
    crops = []
    for centre in _centres(ct, body, recipe):
        to_index = ct.grid.world_to_index[:3, :3] * recipe.spacing_mm
        middle = ct.grid.world_to_index[:3] @ [*centre, 1]
        matrix = to_index[::-1, ::-1]
        offset = middle[::-1] - matrix @ np.full(3, (recipe.voxels - 1) / 2)
        crop = affine_transform(values, matrix, offset, (recipe.voxels,) * 3, order=1, mode="constant", cval=low)
        crops.append(np.rint((crop - low) * (TOP / (high - low))).astype(np.uint16))
    return crops


def _centres(ct: Volume, body: np.ndarray, recipe: Recipe) -> Iterator[np.ndarray]:
    """LPS positions of the crops' middles: on the body's in the axial plane, evenly along the CT."""
    others = ((0, 1), (0, 2), (1, 2))  # than x, than y, than z
    index = [np.average(np.arange(n), weights=body.sum(axis=axes)) for n, axes in zip(body.shape[::-1], others)]
    middle = ct.grid.index_to_world[:3] @ [*index, 1]
    ends = ct.grid.corners_mm()[:, 2]
    length = float(np.ptp(ends))
    count = max(1, round(length / recipe.edge_mm))
    for number in range(count):
        share = (number + 0.5) / count
        yield np.array([*middle[:2], ends.min() + share * length])


def _of_file(path: Path, recipe: Recipe, cache: Path) -> list[PreparedCT]:
    """The crops of a CT: from the cache where they are whole, else made anew.

    Raises
    ------
    InputError
        Where it is none, cannot be read, or shows nothing.
    """
    key = _key(path, recipe)
    if found := _kept(path, key, recipe, cache):
        return found
    try:
        crops = alike(formats.read_ct(path), recipe)
    except (OSError, RuntimeError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({(str(error).splitlines() or [type(error).__name__])[0]})", "unreadable") from None
    except InputError as error:
        message = str(error)
        raise InputError(message if str(path) in message else f"{path}: {message}", error.code) from None
    made = [PreparedCT(cache / f"{key}-{number}.npy", path.name, recipe) for number in range(len(crops))]
    for ct, crop in zip(made, crops):
        with written_beside(ct.path) as beside, open(beside, "wb") as file:
            np.save(file, crop)
    card = {"source": path.name, "recipe": asdict(recipe), "sha256": [_digest(crop) for crop in crops]}
    with written_beside(cache / f"{key}.json") as beside:
        beside.write_text(json.dumps(card), encoding="utf-8")
    return made


def _kept(path: Path, key: str, recipe: Recipe, cache: Path) -> list[PreparedCT]:
    """What the cache has of a CT; nothing where some of it lacks or is not what was written, which the log says."""
    card = cache / f"{key}.json"
    if not card.exists():
        return []
    try:
        sums = json.loads(card.read_text(encoding="utf-8"))["sha256"]
        found = [PreparedCT(cache / f"{key}-{number}.npy", path.name, recipe) for number in range(len(sums))]
        if all(_digest(np.load(ct.path)) == wanted for ct, wanted in zip(found, sums)):
            return found
        why = "its checksum is wrong"
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        why = str(error)
    log.warning("what was kept of %s is damaged (%s) and is made anew", path, why)
    return []


def _key(path: Path, recipe: Recipe) -> str:
    """By which the cache knows a CT: its name, and a digest of what it was made from, as size and time tell it, and of the recipe."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    try:
        told = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:
        raise InputError(f"{path} does not exist: check the name", "missing-file") from None
    digest = hashlib.sha256(json.dumps([str(path.resolve()), told, asdict(recipe)]).encode()).hexdigest()
    return f"{path.name.split('.')[0]}-{digest[:16]}"


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def _is_dicom(path: Path) -> bool:
    from ..formats import dicom

    return dicom.is_dicom_file(path)
