"""Looks at a reconstruction on its way: previews of its volume, and of what its method shows by name beside it."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..grid import Volume
from ..methods.base import State
from ..methods.reconstruct import DISCLAIMER, PREFIX, Reconstruction, to_unit
from .events import EventWriter
from .spec import ReconstructJob
from .volumes import write_whole

NAMED = PREFIX + "named_preview"
"""Attribute of a volume that a method shows beside its own: its name."""

_TAKEN = re.compile(r"(step-\d+|con|prn|aux|nul|com\d|lpt\d)?")
"""Stems that are not for named previews: those of the others, Windows' devices, none at all."""


class Looks:
    """Writes previews when they are due; looking takes at most about a tenth of the time.

    A volume with a name has one file, and gets a new one there whenever the method has a new volume.

    Parameters
    ----------
    job : Reconstruction
        What is looked at.
    spec : ReconstructJob
        Where the previews go and how often; there are none where it names no folder.
    say : EventWriter
        Told of each preview.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, job: Reconstruction, spec: ReconstructJob, say: EventWriter, clock: Callable[[], float] = time.monotonic):
        self._job, self._spec, self._say, self._clock = job, spec, say, clock
        self._folder = Path(spec.previews) if spec.previews else None
        self._due = clock()
        self._kept: list[Path] = []
        self._seen: dict[str, Callable[[], np.ndarray]] = {}
        self._stems: dict[str, str] = {}

    def look_if_due(self, state: State) -> None:
        """Write what there is to see of `state`, if it is time."""
        start = self._clock()
        if self._folder is None or start < self._due:
            return
        path = self._write(state.volume, f"step-{state.step:06d}", state.step)
        if path:  # else the run is about to stop with its last good volume
            self._forget_old(path)
            self._look_beside(state)
        self._due = self._clock() + max(self._spec.preview_interval_s, 10 * (self._clock() - start))

    def finish(self, state: State) -> None:
        """Write the named volumes that are new in the last state: they stay beside the result."""
        self._look_beside(state)

    def _look_beside(self, state: State) -> None:
        for name, volume in state.others.items():
            if self._folder and self._seen.get(name) is not volume:
                self._seen[name] = volume
                self._write(volume, self._stem(name), state.step, name)

    def _write(self, volume: Callable[[], np.ndarray], stem: str, step: int, name: str = "") -> Path | None:
        """Write a volume if it is finite, say so, and return where it is now."""
        array = to_unit(volume(), self._spec.unit, self._job.scan.mu_water)
        if not np.isfinite(array).all():
            return None
        attributes = {PREFIX + "step": str(step)} | (self._about(name, step) if name else {})
        try:
            path = self._put(Volume(array, self._job.grid, attributes, self._spec.unit), stem, step)
        except (InputError, OSError) as error:
            self._say("warning", message=f"no more previews: {error}")
            self._folder = None
            return None
        self._say("preview", path=str(path), step=step, **({"name": name} if name else {}))
        return path

    def _put(self, volume: Volume, stem: str, step: int) -> Path:
        """Write `volume` to its file; where someone reads that, Windows does not replace it, and a file beside it is written."""
        path = self._folder / f"{stem}.nrrd"
        try:
            write_whole(volume, path)
        except PermissionError:
            path = path.with_stem(f"{stem}-{step:06d}")
            write_whole(volume, path)
        return path

    def _about(self, name: str, step: int) -> dict[str, str]:
        note = f"{name} of {self._job.method.name} at step {step}: shown beside the reconstruction, not the reconstruction itself"
        return {NAMED: name, PREFIX + "note": note, PREFIX + "unit": self._spec.unit, PREFIX + "disclaimer": DISCLAIMER}

    def _stem(self, name: str) -> str:
        """The stem of the file for the volume `name`, of each name another one."""
        if name not in self._stems:
            stem = first = slug(name)
            number = 1
            while stem in self._stems.values():
                number += 1
                stem = f"{first}-{number}"
            self._stems[name] = stem
        return self._stems[name]

    def _forget_old(self, newest: Path) -> None:
        self._kept.append(newest)
        while self._spec.previews_kept and len(self._kept) > self._spec.previews_kept:
            with suppress(OSError):  # Windows does not delete what someone reads
                self._kept.pop(0).unlink(missing_ok=True)


def slug(name: str) -> str:
    """`name` as a stem of a file that every system takes: small ASCII letters, digits and hyphens, 60 at most."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^a-z0-9]+", "-", ascii_name.lower())[:60].strip("-")
    return f"volume-{stem}".rstrip("-") if _TAKEN.fullmatch(stem) else stem
