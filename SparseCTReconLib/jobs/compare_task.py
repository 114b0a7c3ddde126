"""What a worker does to compare: volumes in, figures as they come, then comparison.json, a table, label maps and a report."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from .. import formats
from ..evaluation.assess import Assessment, Entry, Wanted, check_names
from ..evaluation.segmentation import Segmenter, Settings
from ..grid import Grid
from .events import EventWriter
from .files import check_place, write_json
from .spec import CompareJob
from .telling import Teller
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
    geometry = functools.cache(lambda scan: formats.read_scan(scan).geometry if scan else None)
    reference = Entry.read(spec.reference_name or Path(spec.reference).name, spec.reference, reference=True)
    results = []
    for each in spec.results:
        watch.check()
        results.append(
            Entry.read(each.name, each.path, geometry=geometry(each.scan), scanned=each.scanned and Grid.from_dict(each.scanned))
        )
    wanted = Wanted(spec.image, spec.tissues, _settings(spec), spec.segmenter.noise_floor)
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


class _Listener(Teller):
    """Turns progress and figures into events."""

    def __init__(self, spec: CompareJob, say: EventWriter, watch: Watch):
        super().__init__(say, watch, _SAID_EVERY_S)
        self._known_pace = not spec.organs

    def at(self, stage: str, step: int, steps: int, within: float | None) -> None:
        self.stage(stage)
        self.watch.step = step
        done = step if stage == "done" else step - 1 + (within or 0.0)
        self.progress(step, steps, done / steps if steps else 1.0, (steps - done) / done if self._known_pace and done else None)

    def figures(self, result: str, kind: str, values) -> None:
        self.say("figures", result=result, kind=kind, values=values)

    def warning(self, message: str) -> None:
        self.say("warning", message=message)
