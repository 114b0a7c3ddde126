"""What a worker does to compare: volumes in, figures as they come, then comparison.json, a table, label maps and a report."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .. import formats
from ..evaluation.assess import Assessment, Entry, Wanted, check_names
from ..evaluation.segmentation import Segmenter, Settings
from .events import EventWriter
from .files import check_place, write_json
from .spec import CompareJob
from .watch import Watch

FIGURES, TABLE, REPORT = "comparison.json", "comparison.csv", "report.html"
_SAID_EVERY_S = 0.5


def compare(spec: CompareJob, say: EventWriter, watch: Watch) -> None:
    """Compare the results of `spec` with its reference and leave what is found in its folder."""
    folder = Path(spec.output)
    check_place(folder, folder=True)
    if spec.summary:
        check_place(spec.summary)
    check_names([result.name for result in spec.results])
    say("started", pid=os.getpid(), task="compare", method=None, device=None, backend=None, grid=None)
    # Looked for before the work: minutes of figures and then "not installed" would be a poor joke.
    segmenter = Segmenter(spec.segmenter.program, own_group=False) if spec.organs else None
    listener = _Listener(spec, say, watch)
    listener.stage("reading the volumes")
    geometry = formats.read_scan(spec.scan).geometry if spec.scan else None
    reference = Entry.read(spec.reference_name or Path(spec.reference).name, spec.reference, reference=True)
    results = []
    for each in spec.results:
        watch.check()
        results.append(Entry.read(each.name, each.path))
    wanted = Wanted(spec.image, spec.tissues, _settings(spec), spec.segmenter.noise_floor, geometry)
    assessment = Assessment(reference, results, wanted, folder, segmenter, listener)
    found = assessment.run()
    listener.stage("writing the report")
    write_found(assessment, found, folder, spec.report)
    watch.check()
    if spec.summary:
        write_json(spec.summary, found)
    say("done", path=str(folder), summary=found)


def write_found(assessment: Assessment, found: dict, folder: Path, report: bool) -> None:
    """Leave comparison.json and comparison.csv in `folder`, and report.html where it is wanted."""
    from ..evaluation.report import write_report
    from ..evaluation.tables import write_csv

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FIGURES, found)
    write_csv(found, folder / TABLE)
    if report:
        write_report(assessment, found, folder / REPORT)


def _settings(spec: CompareJob) -> Settings | None:
    asked = spec.segmenter
    return Settings(asked.task, asked.quality, tuple(asked.organs), asked.device) if spec.organs else None


class _Listener:
    """Turns progress and figures into events, and asks the watch whether to go on."""

    def __init__(self, spec: CompareJob, say: EventWriter, watch: Watch):
        self._say, self._watch, self._known_pace = say, watch, not spec.organs
        self._start, self._stage, self._said = time.monotonic(), "", float("-inf")

    def stage(self, name: str) -> None:
        self._watch.check()
        if name != self._stage:
            self._stage, self._said = name, float("-inf")
            self._say("stage", name=name)

    def at(self, stage: str, step: int, steps: int, within: float | None) -> None:
        self.stage(stage)
        self._watch.step = step
        now = time.monotonic()
        if now - self._said < _SAID_EVERY_S:
            return
        self._said = now
        done = step if stage == "done" else step - 1 + (within or 0.0)
        elapsed = now - self._start
        remaining = round(elapsed / done * (steps - done), 2) if self._known_pace and done else None
        fraction = round(done / steps, 4) if steps else 1.0
        figures = {"fraction": fraction, "elapsed_s": round(elapsed, 2), "remaining_s": remaining}
        self._say("progress", stage=stage, step=step, steps=steps, **figures)

    def figures(self, result: str, kind: str, values) -> None:
        self._say("figures", result=result, kind=kind, values=values)

    def warning(self, message: str) -> None:
        self._say("warning", message=message)
