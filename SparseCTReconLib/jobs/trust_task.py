"""What a worker does to examine a volume: maps beside it in a folder, trust.json and a report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import formats
from ..errors import InputError
from ..evaluation.trust import Asked, Trust, check_asked, examine, with_predictions, with_spread
from ..evaluation.trust_reruns import HeldBack, Maker, held_back
from ..evaluation.trust_spread import check_enough, groups_of, spread_of
from ..grid import Grid, Volume
from ..methods.base import State
from ..scan import Scan
from .events import EventWriter
from .files import check_place, temporary_folder, write_json
from .spec import TrustJob
from .telling import Teller
from .volumes import write_whole
from .watch import Watch

FIGURES, REPORT, PICTURE, RESIDUAL = "trust.json", "trust.html", "trust.png", "residual.nrrd"
EXAMINING = 0.3
"""Share of the progress, where the volume is made again afterwards."""

_SAID_EVERY_S = 0.3


def trust(spec: TrustJob, say: EventWriter, watch: Watch) -> None:
    """Examine the volume of `spec` and leave what is found in its folder."""
    check_place(spec.output, folder=True)
    if spec.summary:
        check_place(spec.summary)
    if sum(map(bool, (spec.others, spec.groups, spec.seeds))) > 1:
        raise InputError("give one of others, groups and seeds: each is a disagreement of its own", "bad-arguments")
    say("started", pid=os.getpid(), task="trust", method=None, device=None, backend=None, grid=None)
    teller = _Examiner(say, watch, EXAMINING if spec.groups or spec.seeds else 1.0)
    teller.stage("reading volume and scan")
    volume, scan = formats.read_volume(spec.volume), formats.read_scan(spec.scan)
    asked = Asked(spec.size_mm, spec.region_mm)
    check_asked(asked, volume.grid)
    others = [formats.read_volume(path) for path in spec.others]
    _check_remaking(spec, volume, scan)
    found = examine(volume, scan, asked, teller.at)
    found = _compared(found, volume, scan, spec, others, teller)
    teller.stage("writing the maps")
    write_found(found, volume, asked, Path(spec.output))
    if spec.summary:
        write_json(spec.summary, found.figures)
    say("done", path=str(spec.output), summary=found.figures)


def _check_remaking(spec: TrustJob, volume: Volume, scan: Scan) -> None:
    """Refuse before the work what cannot be made again, and others that make no spread."""
    if spec.others:
        check_enough(len(spec.others))
    if spec.groups:
        Maker.of(volume)
        groups_of(scan.views, spec.groups)
    if spec.seeds:
        Maker.of(volume).with_seed(0)


def _compared(found: Trust, volume: Volume, scan: Scan, spec: TrustJob, others: list[Volume], teller: _Examiner) -> Trust:
    """`found` with what others, held-back views or other seeds add to it."""
    asked = Asked(spec.size_mm, spec.region_mm)
    if spec.groups:
        made = list(_held_back(volume, scan, spec, teller))
        found = with_predictions(found, made)
        names = [f"without views {group + 1}, {group + 1 + spec.groups}, ..." for group in range(spec.groups)]
        return with_spread(found, volume, spread_of(volume, [each.volume for each in made], jackknife=True), names, asked)
    if spec.seeds:
        others = list(_reseeded(volume, scan, spec, teller))
        return with_spread(found, volume, spread_of(volume, others), [f"another seed, {n + 1}" for n in range(spec.seeds)], asked)
    if others:
        return with_spread(found, volume, spread_of(volume, others), [Path(path).name for path in spec.others], asked)
    return found


def _held_back(volume: Volume, scan: Scan, spec: TrustJob, teller: _Examiner) -> Iterator[HeldBack]:
    yield from held_back(volume, scan, spec.groups, lambda group, state: teller.remaking(group, spec.groups, state), spec.device)


def _reseeded(volume: Volume, scan: Scan, spec: TrustJob, teller: _Examiner) -> Iterator[Volume]:
    maker = Maker.of(volume)
    first = int(maker.options.get("seed") or 0) + 1
    for number in range(spec.seeds):
        again = maker.with_seed(first + number)
        yield again.make(scan, volume, lambda state, number=number: teller.remaking(number, spec.seeds, state), spec.device)


def write_found(found: Trust, volume: Volume, asked: Asked, folder: Path) -> None:
    """Leave the maps, the residual's z by view, trust.json, trust.png and trust.html in `folder`."""
    from ..evaluation.report_trust import write_trust_report
    from ..evaluation.trust_picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    for name, values in found.maps.items():
        write_whole(values, folder / f"{name}.nrrd")
    write_whole(_stack(found.residual.z), folder / RESIDUAL)
    write_json(folder / FIGURES, found.figures)
    place = temporary_folder(folder / PICTURE)
    try:
        place.mkdir(exist_ok=True)
        draw(found, volume, place / PICTURE)
        os.replace(place / PICTURE, folder / PICTURE)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    write_trust_report(found, volume, folder / REPORT)


def _stack(z: np.ndarray) -> Volume:
    """Images by view, in pixels; not in the patient's frame."""
    return Volume(
        z, Grid(z.shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), {"SparseCTRecon.map": "residual", "SparseCTRecon.frame": "detector"}
    )


class _Examiner(Teller):
    """Tells of an examination, and of volumes that are made again behind it."""

    def __init__(self, say: EventWriter, watch: Watch, share: float):
        super().__init__(say, watch, _SAID_EVERY_S)
        self._share = share

    def at(self, stage: str, step: int, steps: int) -> None:
        """The examination is at `step` of `steps`."""
        self.stage(stage)
        self._tell(step, steps, self._share * step / steps)

    def remaking(self, number: int, count: int, state: State) -> None:
        """The volume `number` of `count` is being made again."""
        self.stage(f"making it again, {number + 1} of {count}")
        within = (number + state.step / max(state.steps, 1)) / count
        self._tell(state.step, state.steps, self._share + (1 - self._share) * within)

    def _tell(self, step: int, steps: int, done: float) -> None:
        self.progress(step, steps, done, (1 - done) / done if done > 0.02 else None)
