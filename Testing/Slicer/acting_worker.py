"""A worker that acts: it answers a job.json with the events and files of a real one, a step for each poll, without a process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from SparseCTReconLib import formats
from SparseCTReconLib.formats.ct import write_labels
from SparseCTReconLib.geometry import PRESETS, Geometry
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.jobs.events import encode
from SparseCTReconLib.jobs.files import written_beside
from SparseCTReconLib.jobs.looks import NAMED
from SparseCTReconLib.jobs.spec import read_spec
from SparseCTReconLib.jobs.transport import Poll
from SparseCTReconLib.scan import Scan


@dataclass
class Script:
    """What the worker is to do.

    Parameters
    ----------
    previews : int
        How many it writes.
    ending : str
        "done", "error", "dies", or "waits" for being cancelled, "waits in the simulation" already.
    voxels : callable
        From a shape (z, y, x) and how far it is (0..1) to the volume.
    jobs : list of dict
        The jobs it was given.
    warning : str
        What it warns of, if anything.
    code : str
        Of the error with which it ends.
    seen : callable
        From a shape (z, y, x) to how well the views see each voxel, 0 to 2.
    beside : tuple of str
        Names of volumes that it shows beside its own, all -1 at first and less by 1 each time, the last one with the result.
    """

    previews: int = 3
    ending: str = "done"
    voxels: Callable = lambda shape, done: np.full(shape, 100 * done, np.float32)
    jobs: list = field(default_factory=list)
    warning: str = ""
    code: str = "memory"
    beside: tuple[str, ...] = ()
    seen: Callable = lambda shape: np.full(shape, 2, np.uint8)
    killed: bool = False


def small_scan(preset="linac", views=6, **provenance) -> Scan:
    """A scan with few pixels: those of view n are n."""
    machine = PRESETS[preset]
    pixel = np.multiply(machine["detector_shape"], machine["pixel_mm"]) / (6, 8)
    geometry = Geometry.preset(preset, views, detector_shape=(6, 8), pixel_mm=tuple(pixel), isocentre_mm=(1.0, -2.0, 3.0))
    projections = np.broadcast_to(np.arange(views, dtype=np.float32)[:, None, None], (views, 6, 8))
    return Scan(projections, geometry, 1e5, 0.02, provenance)


class ActingWorker:
    def __init__(self, script: Script):
        self._script = script
        self._exit_code = None

    def start(self, arguments, environment):
        self._file = Path(arguments[-1])
        self._life = self._act()

    def poll(self) -> Poll:
        cancelled = (self._file.parent / "cancel").exists()
        said = self._cancelled() if cancelled else next(self._life, b"")
        return Poll(said, b"", self._exit_code)

    def kill(self, pid):
        self._script.killed, self._exit_code, self._life = True, -9, iter(())

    def _cancelled(self) -> bytes:
        self._exit_code = 3
        return encode("cancelled", step=1, resumable=False)

    def _act(self) -> Iterator[bytes]:
        self._script.jobs.append(json.loads(self._file.read_text(encoding="utf-8")))
        spec = read_spec(self._file)
        yield encode("stage", name="starting", pid=None)
        yield from getattr(self, f"_{spec.task}")(spec)

    def _simulate(self, spec) -> Iterator[bytes]:
        yield encode("started", task="simulate")
        yield encode("progress", step=1, steps=2, fraction=0.5, elapsed_s=1, remaining_s=1)
        while self._script.ending == "waits in the simulation":
            yield encode("heartbeat")
        formats.write_scan(small_scan(spec.preset, spec.views, seed=spec.seed), spec.output)
        self._exit_code = 0
        yield encode("done", path=spec.output, summary={})

    def _correct(self, spec) -> Iterator[bytes]:
        yield encode("started", task="correct")
        if self._script.ending == "error":
            yield from self._end(spec, None)
            return
        formats.write_scan(formats.read_scan(spec.scan), spec.output)
        self._exit_code = 0
        yield encode("done", path=spec.output, summary={})

    def _calibrate(self, spec) -> Iterator[bytes]:
        yield encode("started", task="calibrate")
        found = {"u_mm": 6.4, "axis_mm": 4.3, "tilt_deg": None, "unexplained_before": 0.08, "unexplained": 0.02}
        Path(spec.output).write_text(json.dumps(found | {"warnings": ["the detector may be mirrored"]}), encoding="utf-8")
        self._exit_code = 0
        yield encode("done", path=spec.output, summary=found)

    def _reconstruct(self, spec) -> Iterator[bytes]:
        assert Path(spec.scan).exists(), spec.scan
        grid = Grid.from_dict(spec.grid) if spec.grid else Grid.centred((8, 8, 8), (4, 4, 4))
        yield encode("started", task="reconstruct", method=spec.method, device="cpu", backend="acting", grid=grid.to_dict())
        if self._script.warning:
            yield encode("warning", message=self._script.warning)
        Path(spec.previews).mkdir()
        for step in range(1, self._script.previews + 1):
            done = step / (self._script.previews + 1)
            path = Path(spec.previews) / f"step-{step}.nrrd"
            formats.write_volume(Volume(self._script.voxels(grid.shape, done), grid), path)
            yield encode("progress", step=step, steps=self._script.previews, fraction=done, elapsed_s=step, remaining_s=75)
            yield encode("metric", step=step, values={"residual": 1 - done})
            yield encode("preview", path=str(path), step=step)
            yield self._show_beside(spec, grid, step)
        yield from self._end(spec, grid)

    def _show_beside(self, spec, grid, step) -> bytes:
        said = b""
        for number, name in enumerate(self._script.beside):
            path = Path(spec.previews) / f"beside-{number}.nrrd"
            attributes = {NAMED: name, "SparseCTRecon.note": f"{name} at step {step}: not the reconstruction itself"}
            with written_beside(path) as written:
                formats.write_volume(Volume(np.full(grid.shape, -step, np.float32), grid, attributes), written)
            said += encode("preview", path=str(path), step=step, name=name)
        return said

    def _end(self, spec, grid) -> Iterator[bytes]:
        while self._script.ending == "waits":
            yield encode("heartbeat")
        if self._script.ending == "error":
            self._exit_code = 1
            yield encode(
                "error",
                code=self._script.code,
                message="The volume does not fit into memory.",
                next_step="Take larger voxels.",
                details="Traceback",
            )
        elif self._script.ending == "dies":
            self._exit_code = -9
            yield b'{"event": "progr'
        else:
            attributes = {"SparseCTRecon.method": spec.method, "SparseCTRecon.options": '{"a": "\u00b5"}', "unprefixed": "1"}
            formats.write_volume(Volume(self._script.voxels(grid.shape, 1.0), grid, attributes), spec.output)
            last = self._show_beside(spec, grid, self._script.previews + 1)
            self._exit_code = 0
            summary = {"step": self._script.previews + 1} | self._mark(spec, grid)
            yield last + encode("done", path=spec.output, summary=summary)

    def _mark(self, spec, grid) -> dict:
        if not spec.field_of_view:
            return {}
        seen = self._script.seen(grid.shape)
        write_labels(seen, grid, spec.field_of_view, {})
        return {"fov_fraction": float((seen >= 1).mean())}


def new_worker(script: Script) -> Callable[[], ActingWorker]:
    """What makes a worker for each job, as the logic's `newTransport`."""
    return lambda: ActingWorker(script)
