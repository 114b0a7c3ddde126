"""Examples that are kept on disk, since a first volume takes longer to make than to learn from; each time one is seen from another side.

A scan of a patient who is mirrored or turned by a right angle is the same projections from mirrored or turned poses, and its first volume
is mirrored or turned with it. So an example serves sixteen times.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np

from ..errors import InputError
from ..formats.files import written_beside
from ..geometry import Geometry
from ..grid import Grid
from ..methods.admm_tv import first_volume
from ..scan import Scan
from .data import Example
from .dice_examples import HybridExample

POSES = ("source", "detector", "u", "v")


class KeptExamples:
    """So many examples again and again, all of them in random order before any comes again.

    Parameters
    ----------
    examples : Examples or HybridExamples
        Or whatever gives them by number.
    folder : Path
        Of these examples and no others. What is missing there is made when it is asked for.
    count : int
    seed : int
    firsts : bool
        Whether each has a first volume, of the views that stand for a user's.
    """

    def __init__(self, examples, folder: Path, count: int, seed: int = 0, firsts: bool = True):
        if count < 1:
            raise InputError(f"{count} examples to keep: give at least one", "no-data")
        self.examples, self.folder, self.count, self.seed, self.firsts = examples, Path(folder), count, seed, firsts

    def __getitem__(self, index: int) -> Example:
        turn, place = divmod(index, self.count)
        number = np.random.default_rng((self.seed, 0, turn)).permutation(self.count)[place]
        return from_another_side(self.kept(int(number)), np.random.default_rng((self.seed, 4, index)))

    def kept(self, number: int) -> Example:
        """One of them as it lies on disk, made if it is not there."""
        path = self.folder / f"{number:06d}.npz"
        if not path.exists():
            made = self.examples[number]
            own = self.folder / f"{uuid4().hex}.npz"  # other processes may be making the same one
            with written_beside(own) as beside:
                write(with_first(made) if self.firsts else made, beside)
            os.replace(own, path)
        return read(path)


def with_first(example: Example) -> Example:
    """With what ADMM-TV makes of the views that stand for a user's."""
    few = getattr(example, "few", example.scan.views)
    first = first_volume(example.scan.subset(np.arange(few)), example.grid)
    return replace(example, first=(first / example.scan.mu_water).astype(np.float16))


def write(example: Example, path) -> None:
    """Write an example as an npz file, its line integrals as float16."""
    scan, geometry, grid = example.scan, example.scan.geometry, example.grid
    arrays = {pose: getattr(geometry, pose) for pose in POSES}
    arrays |= {"projections": scan.projections.astype(np.float16), "pixel": geometry.pixel_mm, "isocentre": geometry.isocentre_mm}
    arrays |= {"size": grid.size, "spacing": grid.spacing_mm, "origin": grid.origin_mm, "direction": grid.direction}
    arrays |= {"photons": scan.photons or np.nan, "mu_water": scan.mu_water, "truth": example.truth}
    arrays |= {name: value for name in ("first", "few") if (value := getattr(example, name, None)) is not None}
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def read(path) -> Example:
    """An example that `write` wrote.

    Raises
    ------
    InputError
        Where it is damaged.
    """
    try:
        with np.load(path) as held:
            arrays = {name: held[name] for name in held.files}
        projections = arrays["projections"].astype(np.float32)
        poses = (arrays[pose] for pose in POSES)
        geometry = Geometry(*poses, projections.shape[1:], tuple(arrays["pixel"]), tuple(arrays["isocentre"].tolist()))
        grid = Grid(*(tuple(arrays[name].tolist()) for name in ("size", "spacing", "origin")), arrays["direction"])
        photons = float(arrays["photons"])
        scan = Scan(projections, geometry, photons if np.isfinite(photons) else None, float(arrays["mu_water"]))
        example = Example(scan, grid, arrays["truth"], arrays.get("first"))
        return HybridExample(scan, grid, example.truth, example.first, few=int(arrays["few"])) if "few" in arrays else example
    except (OSError, EOFError, TypeError, ValueError, KeyError, BadZipFile, InputError) as error:
        raise InputError(f"{path} cannot be read as an example ({error}): delete it, and it is made anew", "bad-checkpoint") from None


def from_another_side(example: Example, rng: np.random.Generator) -> Example:
    """An example mirrored and turned by right angles about its grid's middle, the long axis staying where it is."""
    size, flips = example.grid.size, rng.random(3) < 0.5
    swap = bool(rng.random() < 0.5) and size[0] == size[1]
    order = [1, 0, 2] if swap else [0, 1, 2]
    matrix = np.diag(np.where(flips, -1.0, 1.0)) @ np.eye(3)[order]
    centre, geometry = example.grid.centre_mm, example.scan.geometry
    moved = {pose: (getattr(geometry, pose) - centre) @ matrix.T + centre for pose in ("source", "detector")}
    turned = {axis: getattr(geometry, axis) @ matrix.T for axis in ("u", "v")}
    isocentre = tuple((matrix @ (np.asarray(geometry.isocentre_mm) - centre) + centre).tolist())
    scan = replace(example.scan, geometry=replace(geometry, **moved, **turned, isocentre_mm=isocentre))

    def seen(volume):
        volume = volume.swapaxes(1, 2) if swap else volume
        return np.ascontiguousarray(np.flip(volume, [2 - axis for axis in range(3) if flips[axis]]))

    first = None if example.first is None else seen(example.first)
    return replace(example, scan=scan, truth=seen(example.truth), first=first)
