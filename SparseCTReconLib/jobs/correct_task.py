"""What a worker does to find where a scan's detector is, and to correct a scan."""

from __future__ import annotations

import os

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
from .telling import Teller
from .watch import Watch


def calibrate(spec: CalibrateJob, say: EventWriter, watch: Watch) -> None:
    """Find the detector's offset in the scan of `spec`; write it down, and where asked for the scan with it."""
    check_place(spec.output)
    if spec.applied:
        check_place(spec.applied, folder=True)
    teller = _Corrector(say, watch, "calibrate", "reading the scan")
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


def _found(scan: Scan, spec: CalibrateJob, teller: _Corrector, watch: Watch) -> Calibration:
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
    teller = _Corrector(say, watch, "correct", "reading the scan")
    scan = formats.read_scan(spec.scan)
    corrected = chain.correct(scan, wanted, teller.at)
    teller.stage("writing the scan")
    formats.write_scan(corrected, spec.output)
    teller.finish(spec, {"views": corrected.views, "corrections": corrected.provenance[chain.HISTORY]})


class _Corrector(Teller):
    """Tells of a correction from its start to its end."""

    def __init__(self, say: EventWriter, watch: Watch, task: str, first: str):
        super().__init__(say, watch, 0.0)
        say("started", pid=os.getpid(), task=task, method=None, device="cpu", backend=None, grid=None)
        self.stage(first)

    def at(self, stage: str, step: int, steps: int) -> None:
        self.stage(stage)
        self.progress(step, steps, step / steps, (steps - step) / step if step else None)

    def finish(self, spec: CalibrateJob | CorrectJob, facts: dict) -> None:
        self.watch.check()
        facts = {**facts, "output": spec.output, "seconds": round(self.elapsed_s, 3)}
        if spec.summary:
            write_json(spec.summary, facts)
        self.say("done", path=spec.output, summary=facts)
