"""What a worker does: simulate a scan, or drive a method's states to a volume."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import formats, methods
from .. import simulate as simulate_scan
from ..errors import InputError
from ..formats import dicom_writing
from ..formats.ct import WRITTEN
from ..geometry import Geometry, default_grid
from ..grid import Grid
from ..machine import peak_memory_bytes
from ..methods.base import State
from ..methods.reconstruct import PREFIX, Reconstruction, prepare
from . import checkpoint
from .events import EventWriter
from .files import check_place, write_json
from .looks import Looks
from .spec import ReconstructJob, SimulateJob
from .volumes import write_field_of_view, write_whole
from .watch import Cancelled, Watch


def simulate(spec: SimulateJob, say: EventWriter, watch: Watch) -> None:
    """Simulate the scan of `spec` and write its folder."""
    _check_places(spec, folder=True)
    start = time.monotonic()
    say("stage", name="reading the CT")
    ct = formats.read_ct(spec.ct)
    say("started", pid=os.getpid(), task="simulate", method=None, device="cpu", backend=None, grid=ct.grid.to_dict())
    watch.check()
    say("stage", name="simulating")
    scan = simulate_scan(ct, spec.views, progress=_views_done(start, say, watch), **_simulate_arguments(spec))
    watch.check()
    say("stage", name="writing the scan")
    formats.write_scan(scan, spec.output)
    facts = {"views": scan.views, "detector_shape": list(scan.geometry.detector_shape), "provenance": scan.provenance}
    _finish(spec.output, spec.summary, facts | _cost(time.monotonic() - start), say)


def _views_done(start: float, say: EventWriter, watch: Watch) -> Callable[[int, int], None]:
    first: list[tuple[float, int]] = []

    def progress(done: int, views: int) -> None:
        watch.check()
        elapsed = time.monotonic() - start
        first.append((elapsed, done))
        since, before = first[0]
        remaining = round((elapsed - since) / (done - before) * (views - done), 2) if done > before else None
        figures = {"fraction": done / views, "elapsed_s": round(elapsed, 2), "remaining_s": remaining}
        say("progress", stage="simulating", step=done, steps=views, **figures)

    return progress


def _simulate_arguments(spec: SimulateJob) -> dict:
    names = ("preset", "photons", "electronic_noise", "scatter_fraction", "seed")
    changes = ("isocentre_mm", "mu_water", "sid_mm", "sdd_mm", "detector_shape", "pixel_mm", "offset_mm")
    arguments = {name: getattr(spec, name) for name in names}
    arguments |= {name: getattr(spec, name) for name in changes if getattr(spec, name) is not None}
    angles = {"arc_rad": spec.arc_deg, "start_rad": spec.start_deg}
    return arguments | {name: math.radians(value) for name, value in angles.items() if value is not None}


def reconstruct(spec: ReconstructJob, folder: Path, resume: bool, say: EventWriter, watch: Watch) -> None:
    """Run the method of `spec` and write its volume; `folder` holds the checkpoint."""
    _check_volume_places(spec)
    if spec.field_of_view:
        check_place(spec.field_of_view, WRITTEN)
    if spec.previews:
        check_place(spec.previews, folder=True)
    methods.parse_options(methods.get(spec.method), spec.options)
    say("stage", name="reading the scan")
    scan = formats.read_scan(spec.scan)
    job = prepare(scan, spec.method, _grid(spec, scan.geometry), spec.device, spec.options)
    before = _checkpoint(job, folder, resume, say)
    say("started", pid=os.getpid(), task="reconstruct", method=spec.method, device=job.device, backend=job.backend, grid=job.grid.to_dict())
    state, seconds = Drive(job, spec, folder, say, watch, before).run()
    say("stage", name="writing the volume")
    state = job.settle(state)
    volume = job.volume(state, seconds, spec.unit)
    watch.check()
    write_whole(volume, spec.output)
    seen = {"fov_fraction": write_field_of_view(job, spec.field_of_view)} if spec.field_of_view else {}
    checkpoint.remove(folder)
    facts = {
        "method": job.method.name,
        "preset": job.preset,
        "device": job.device,
        "backend": job.backend,
        "options": job.options.model_dump(mode="json"),
        "unit": spec.unit,
        "grid": job.grid.to_dict(),
        "step": state.step,
        "steps": state.steps,
        "warnings": [*job.warnings, *state.warnings, *filter(None, [state.note])],
        "reprojection_residual": float(volume.attributes[PREFIX + "reprojection_residual"]),
    }
    _finish(spec.output, spec.summary, facts | seen | _cost(seconds), say)


def _grid(spec: ReconstructJob, geometry: Geometry) -> Grid | None:
    if sum(given is not None for given in (spec.like, spec.grid, spec.size or spec.spacing_mm)) > 1:
        raise InputError("the grid is said twice: give either a volume whose grid it is (like), or size and spacing", "bad-grid")
    if spec.like:
        return formats.read_volume(spec.like).grid
    if spec.size or spec.spacing_mm:
        return grid_about(geometry, spec.size, spec.spacing_mm)
    try:
        return Grid.from_dict(spec.grid) if spec.grid else None
    except (KeyError, TypeError) as error:
        raise InputError(f"the job's grid is incomplete ({error}): give size, spacing_mm, origin_mm and direction", "bad-job") from None


def grid_about(geometry: Geometry, size: tuple | None, spacing_mm: tuple | None) -> Grid:
    """A grid about the isocentre; what is not given makes it as large as the field of view."""
    if size and spacing_mm:
        return Grid.centred(size, spacing_mm, geometry.isocentre_mm)
    extent = default_grid(geometry).extent_mm
    if size:
        checked = Grid.centred(size, (1, 1, 1))
        return Grid.centred(size, tuple(extent / checked.size), geometry.isocentre_mm)
    checked = Grid.centred((1, 1, 1), spacing_mm)
    return Grid.centred(tuple(np.ceil(extent / checked.spacing_mm - 1e-6).astype(int)), spacing_mm, geometry.isocentre_mm)


def identity(job: Reconstruction) -> dict:
    """What a job must have in common with one that goes on from its checkpoint."""
    grid = job.domain.grid.to_dict()
    return {
        "method": job.method.name,
        "scan": job.scan_hash,
        "grid": {key: [round(value, 6) for value in grid[key]] for key in grid},
        "options": job.options.model_dump(mode="json"),
    }


def _checkpoint(job: Reconstruction, folder: Path, resume: bool, say: EventWriter) -> checkpoint.Checkpoint | None:
    if not resume:
        checkpoint.remove(folder)
        return None
    found = checkpoint.load(folder, identity(job))
    if found:
        say("log", message=f"going on from step {found.step}", level="INFO")
    else:
        say("warning", message="there is no checkpoint to go on from: starting from the beginning")
    return found


@dataclass
class Drive:
    """Drives a reconstruction's states: progress, previews, checkpoints, cancellation."""

    job: Reconstruction
    spec: ReconstructJob
    folder: Path
    say: EventWriter
    watch: Watch
    before: checkpoint.Checkpoint | None = None
    clock: Callable[[], float] = time.monotonic
    _due: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _first: tuple[float, int] | None = None

    def run(self) -> tuple[State, float]:
        """Return the last state and the seconds it took, those before a resumed checkpoint included."""
        earlier = self.before.seconds if self.before else 0.0
        start = self.clock()
        self._due = {"checkpoint": start + self.spec.checkpoint_interval_s}
        looks = Looks(self.job, self.spec, self.say, self.clock)
        state = None
        for state in self.job.states(self.spec.budget_s, self.before.arrays if self.before else None):
            self.watch.step = state.step
            self._tell(state, self.clock() - start)
            self._stop_if_asked(state, earlier + self.clock() - start)
            looks.look_if_due(state)
            self._save_if_due(state, earlier + self.clock() - start)
        looks.finish(state)
        self._tell(state, self.clock() - start, last=True)
        return state, earlier + self.clock() - start

    def _tell(self, state: State, elapsed_s: float, last: bool = False) -> None:
        if state.stage != self._stage:
            self._stage = state.stage
            self.say("stage", name=state.stage)
        if self._first is None:
            self._first = (elapsed_s, state.step)
        if not last and not self._is_due("progress", 0.1):
            return
        remaining = self._remaining(state, elapsed_s)
        fraction = 1.0 if last else min(1.0, elapsed_s / (elapsed_s + remaining) if remaining is not None else state.step / state.steps)
        self.say(
            "progress",
            stage=state.stage,
            step=state.step,
            steps=state.steps,
            fraction=round(fraction, 4),
            elapsed_s=round(elapsed_s, 2),
            remaining_s=0.0 if last else remaining,
        )
        if state.metrics:
            self.say("metric", step=state.step, values=state.metrics)

    def _remaining(self, state: State, elapsed_s: float) -> float | None:
        """Seconds to go at the pace since the first state, whose time holds the compilation of kernels."""
        first_s, first_step = self._first
        left = None
        if state.step > first_step:
            left = (elapsed_s - first_s) / (state.step - first_step) * (state.steps - state.step)
        if self.spec.budget_s is not None:
            budget = max(0.0, self.spec.budget_s - elapsed_s)
            left = budget if left is None else min(left, budget)
        return None if left is None else round(left, 2)

    def _is_due(self, what: str, interval_s: float) -> bool:
        now = self.clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + interval_s
        return True

    def _stop_if_asked(self, state: State, seconds: float) -> None:
        try:
            self.watch.check()
        except Cancelled:
            self._save(state, seconds)
            raise

    def _save_if_due(self, state: State, seconds: float) -> None:
        """Write a checkpoint if one is due; saving takes at most about a tenth of the time.

        None is written of the last step: a job that breaks while its volume is written would have nothing to go on with.
        """
        if state.step < state.steps and self._is_due("checkpoint", self.spec.checkpoint_interval_s):
            start = self.clock()
            self._save(state, seconds)
            self._due["checkpoint"] = self.clock() + max(self.spec.checkpoint_interval_s, 10 * (self.clock() - start))

    def _save(self, state: State, seconds: float) -> None:
        if state.checkpoint is None:
            return
        try:
            checkpoint.save(self.folder, checkpoint.Checkpoint(state.checkpoint(), state.step, seconds), identity(self.job))
            self.watch.resumable = True
        except OSError as error:
            self.say("warning", message=f"the checkpoint of step {state.step} could not be written: {error}")


def _check_volume_places(spec: ReconstructJob) -> None:
    if not dicom_writing.is_series(spec.output):
        _check_places(spec, WRITTEN)
        return
    dicom_writing.check_unit(spec.unit)
    dicom_writing.check_folder(spec.output)
    _check_places(spec, folder=True)


def _check_places(spec: ReconstructJob | SimulateJob, suffixes: tuple[str, ...] = (), folder: bool = False) -> None:
    check_place(spec.output, suffixes, folder)
    if spec.summary:
        check_place(spec.summary)


def _cost(seconds: float) -> dict:
    peak = peak_memory_bytes()
    return {"seconds": round(seconds, 3), "peak_memory_mb": None if peak is None else round(peak / 1e6, 1)}


def _finish(path, summary: str | None, facts: dict, say: EventWriter) -> None:
    facts = {**facts, "output": str(path)}
    if summary:
        write_json(summary, facts)
    say("done", path=str(path), summary=facts)
