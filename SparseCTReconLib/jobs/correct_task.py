"""What a worker does to find where a scan's detector is, and to correct a scan."""

from __future__ import annotations

import os
import time

from .. import formats
from ..corrections import chain
from ..corrections.calibration import NOTHING_BETTER, Calibration
from ..corrections.calibration import calibrate as calibrated
from ..corrections.offset import DetectorOffset
from ..corrections.suspicions import suspicions
from ..errors import InputError
from ..scan import Scan
from .events import EventWriter
from .files import check_place, write_json
from .spec import CalibrateJob, CorrectJob
from .watch import Watch


def calibrate(spec: CalibrateJob, say: EventWriter, watch: Watch) -> None:
    """Find the detector's offset in the scan of `spec`; write it down, and where asked for the scan with it."""
    check_place(spec.output)
    if spec.applied:
        check_place(spec.applied, folder=True)
    teller = _Teller(say, watch, "calibrate", "reading the scan")
    scan = formats.read_scan(spec.scan)
    found = _found(scan, spec, teller, watch)
    teller.stage("looking for what else may be wrong")
    doubts = suspicions(scan, found, watch.check)
    for sentence in doubts:
        say("warning", message=sentence)
    facts = found.to_dict() | {"warnings": doubts, "applied": spec.applied}
    if spec.applied:
        teller.stage("writing the scan")
        values = {"u_mm": found.u_mm, "tilt_deg": facts["tilt_deg"] or 0.0}
        formats.write_scan(chain.correct(scan, [DetectorOffset(mode="on", **values)]), spec.applied)
    write_json(spec.output, facts)
    teller.finish(spec, facts)


def _found(scan: Scan, spec: CalibrateJob, teller: _Teller, watch: Watch) -> Calibration:
    """The calibration; where there is none, the refusal says what would explain the scan."""
    try:
        return calibrated(scan, spec.tilt, lambda step, steps: teller.at("seeking the offset", step, steps))
    except InputError as error:
        if error.code != NOTHING_BETTER:
            raise
        doubts = suspicions(scan, None, watch.check)
        raise InputError("; ".join([str(error), *doubts]), error.code) from None


def correct(spec: CorrectJob, say: EventWriter, watch: Watch) -> None:
    """Correct the scan of `spec` and write the folder of the one that comes out."""
    check_place(spec.output, folder=True)
    wanted = chain.parse(spec.corrections)
    teller = _Teller(say, watch, "correct", "reading the scan")
    scan = formats.read_scan(spec.scan)
    corrected = chain.correct(scan, wanted, teller.at)
    teller.stage("writing the scan")
    formats.write_scan(corrected, spec.output)
    teller.finish(spec, {"views": corrected.views, "corrections": corrected.provenance[chain.HISTORY]})


class _Teller:
    """Turns stages and progress into events, and asks the watch whether to go on."""

    def __init__(self, say: EventWriter, watch: Watch, task: str, first: str):
        self._say, self._watch, self._start, self._stage = say, watch, time.monotonic(), ""
        say("started", pid=os.getpid(), task=task, method=None, device="cpu", backend=None, grid=None)
        self.stage(first)

    def stage(self, name: str) -> None:
        self._watch.check()
        if name != self._stage:
            self._stage = name
            self._say("stage", name=name)

    def at(self, stage: str, step: int, steps: int) -> None:
        self.stage(stage)
        elapsed = time.monotonic() - self._start
        remaining = round(elapsed / step * (steps - step), 2) if step else None
        figures = {"fraction": round(step / steps, 4), "elapsed_s": round(elapsed, 2), "remaining_s": remaining}
        self._say("progress", stage=stage, step=step, steps=steps, **figures)

    def finish(self, spec: CalibrateJob | CorrectJob, facts: dict) -> None:
        self._watch.check()
        facts = {**facts, "output": spec.output, "seconds": round(time.monotonic() - self._start, 3)}
        if spec.summary:
            write_json(spec.summary, facts)
        self._say("done", path=spec.output, summary=facts)
