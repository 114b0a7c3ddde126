"""The method that made a volume, run again: with views held back, which it then has to predict, or with other seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..grid import Volume
from ..methods.base import State
from ..methods.reconstruct import PREFIX, prepare
from ..scan import Scan
from .trust_residual import Residual, residual_of
from .trust_spread import groups_of


@dataclass(frozen=True)
class Maker:
    """How a volume says it was made: the method's name and its options."""

    method: str
    options: dict

    @classmethod
    def of(cls, volume: Volume) -> Maker:
        """The maker of `volume`.

        Raises
        ------
        InputError
            Where it does not say its method and options.
        """
        said = volume.attributes
        try:
            return cls(said[PREFIX + "method"], dict(json.loads(said.get(PREFIX + "options") or "{}")))
        except (KeyError, ValueError, TypeError):
            raise InputError(
                "the volume does not say by which method and options it was made, so that it cannot be made again: give other volumes of "
                "the same scan instead (--others), or one that this program wrote as NRRD",
                "unknown-method",
            ) from None

    def make(self, scan: Scan, volume: Volume, told: Callable[[State], None], device: str = "auto") -> Volume:
        """The volume of `scan` on the voxels of `volume`, in HU."""
        job = prepare(scan, self.method, volume.grid, device, self.options)
        for state in job.states():
            told(state)
        return job.volume(state, 0.0)

    def with_seed(self, seed: int) -> Maker:
        """The same with another seed.

        Raises
        ------
        InputError
            Where the method draws no random numbers.
        """
        if "seed" not in self.options:
            raise InputError(f"{self.method} has no seed: hold views back instead (--groups), or give volumes of other methods", "no-seed")
        return Maker(self.method, self.options | {"seed": seed})


@dataclass(frozen=True)
class HeldBack:
    """A volume that was made without a group of views, and how it predicts them."""

    volume: Volume
    views: np.ndarray
    residual: Residual


def held_back(
    volume: Volume, scan: Scan, groups: int, told: Callable[[int, State], None] = lambda group, state: None, device: str = "auto"
) -> Iterator[HeldBack]:
    """Leave each of `groups` interleaved groups of views out in turn.

    Parameters
    ----------
    volume : Volume
        Says how it was made.
    scan : Scan
    groups : int
    told : callable, optional
        Told the number of the group and each state of the method.
    device : str
        "auto", "cpu" or "cuda", for the method.

    Raises
    ------
    InputError
        Where the volume does not say how it was made, or the views do not suffice.
    """
    maker = Maker.of(volume)
    for number, left_out in enumerate(list(groups_of(scan.views, groups))):
        others = scan.subset(~left_out)
        made = maker.make(others, volume, lambda state, number=number: told(number, state), device)
        yield HeldBack(made, left_out, residual_of(made, scan.subset(left_out), known_from=others))


def predicted(found: list[HeldBack], residual: Residual) -> dict:
    """How the held-back views were predicted, beside how the volume itself, which has seen them, explains them.

    Returns
    -------
    dict
        noise_ratio of both over all views, and views: for each view in the scan's order the two ratios.
    """
    views = {}
    for each in found:
        for own, view in enumerate(np.flatnonzero(each.views)):
            views[int(view)] = {"predicted": each.residual.figures(own)["noise_ratio"], "seen": residual.figures(int(view))["noise_ratio"]}
    listed = [{"view": view, **views[view]} for view in sorted(views)]
    return {key: _root_mean_square([view[key] for view in listed]) for key in ("predicted", "seen")} | {"views": listed}


def _root_mean_square(values: list[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return round(float(np.sqrt(np.mean(np.square(given)))), 4) if given else None
