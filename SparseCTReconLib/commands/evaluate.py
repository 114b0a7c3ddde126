"""evaluate: a reconstruction against its reference: image figures, and where asked tissues, organs, a table and a report."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import formats
from ..errors import InputError
from ..evaluation.assess import Assessment, Entry, Wanted
from ..evaluation.compare import IN_VIEW
from ..evaluation.metrics import BODY
from ..jobs.compare_task import REPORT, TABLE, write_found
from ..jobs.files import check_place, write_json, written_beside
from ..jobs.spec import CompareJob
from .running import run_job
from .scan import absolute

_ROWS = (("psnr_db", "PSNR", "dB"), ("ssim", "SSIM", ""), ("rmse_hu", "RMSE", "HU"), ("vif", "VIF", ""))
_PLAIN = {"highlight": False, "markup": False, "soft_wrap": True}


@dataclass(frozen=True)
class Evaluation:
    """What is asked beside the image figures, and where it goes.

    Parameters
    ----------
    tissues, organs : bool
    segmenter : dict
        Values of `jobs.spec.SegmenterSettings`.
    json, csv, report : Path, optional
        Files to write.
    scan : Path, optional
        What the reconstruction was made from: figures within its field of view are given too.
    """

    tissues: bool = False
    organs: bool = False
    segmenter: dict = field(default_factory=dict)
    json: Path | None = None
    csv: Path | None = None
    report: Path | None = None
    scan: Path | None = None


def evaluate(recon: Path, reference: Path, asked: Evaluation, consoles: tuple[Console, Console]) -> dict:
    """Print the figures of `recon` against `reference` with their conventions, and leave the files that are asked for.

    Parameters
    ----------
    consoles : tuple of rich.console.Console
        For the progress and for the tables.
    """
    progress, console = consoles
    recon, reference = absolute(recon), absolute(reference)
    _check_outputs(asked, (recon, reference))
    with tempfile.TemporaryDirectory(prefix="sparsectrecon-evaluate-") as temporary:
        folder = Path(temporary)
        found = _in_worker(recon, reference, asked, folder, progress) if asked.organs else _here(recon, reference, asked, folder)
        for file, name in ((asked.csv, TABLE), (asked.report, REPORT)):
            if file:
                with written_beside(absolute(file)) as beside:
                    shutil.copyfile(folder / name, beside)
    figures = _figures(found)
    if asked.json:
        write_json(absolute(asked.json), figures)
    _print(found["results"][0], figures, console)
    return figures


def _check_outputs(asked: Evaluation, volumes: tuple[Path, Path]) -> None:
    """Refuse, before the work, files that cannot be written, that would take each other's place or that of a volume."""
    files = [absolute(file) for file in (asked.json, asked.csv, asked.report) if file]
    for number, file in enumerate(files):
        check_place(file)
        if any(file.resolve() == volume.resolve() for volume in volumes):
            raise InputError(f"{file} is one of the volumes that are compared: choose another name for what is written", "bad-output")
        if any(file.resolve() == earlier.resolve() for earlier in files[:number]):
            raise InputError(f"{file} is asked for twice: give --json, --csv and --report a name each", "bad-output")
    if asked.report and asked.report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--report {asked.report}: a report is HTML; choose a name that ends in .html", "bad-output")


def _here(recon: Path, reference: Path, asked: Evaluation, folder: Path) -> dict:
    geometry = formats.read_scan(asked.scan).geometry if asked.scan else None
    entries = Entry.read(reference.name, reference, reference=True), [Entry.read(recon.name, recon, geometry=geometry)]
    assessment = Assessment(*entries, Wanted(tissues=asked.tissues))
    found = assessment.run()
    write_found(assessment, found, folder, bool(asked.report))
    return found


def _in_worker(recon: Path, reference: Path, asked: Evaluation, folder: Path, console: Console) -> dict:
    """In a process of its own, which ends the segmenter with it."""
    job = CompareJob(
        reference=str(reference),
        results=[{"name": recon.name, "path": str(recon), "scan": str(absolute(asked.scan)) if asked.scan else None}],
        output=str(folder),
        tissues=asked.tissues,
        organs=True,
        report=bool(asked.report),
        segmenter=asked.segmenter,
    )
    place = Path(tempfile.mkdtemp(prefix="sparsectrecon-evaluate-job-"))  # where the log of a failure stays
    return run_job(job, place, "evaluate", console)


def _figures(found: dict) -> dict:
    """The figures as they go into the JSON file: those of the image on top, as without tissues and organs."""
    result = found["results"][0]
    more = {kind: result[kind] for kind in ("tissues", "organs") if result[kind] is not None}
    more |= {"segmenter": found["segmenter"]} if found["segmenter"] else {}
    return {**result["image"], **more, "conventions": found["conventions"]}


def _print(result: dict, figures: dict, console: Console) -> None:
    parts = {"whole grid": "", "body": "body_", "field of view": "fov_"}
    parts = {title: prefix for title, prefix in parts.items() if f"{prefix}psnr_db" in figures}
    table = Table("figure", *parts)
    for name, title, unit in _ROWS:
        table.add_row(title, *(_text(figures[prefix + name], unit) if prefix + name in figures else "" for prefix in parts.values()))
    console.print(table)
    for kind, columns in (("tissues", _TISSUES), ("organs", _ORGANS)):
        if result[kind] is not None:
            console.print(_items(kind, result[kind], columns))
    for name, text in figures["conventions"].items():
        if not name.startswith(("body_", "fov_")):
            console.print(f"{text}.", **_PLAIN)
    console.print(f"Body: {BODY}.", **_PLAIN)
    if "field of view" in parts:
        console.print(f"Field of view: {IN_VIEW}; {100 * figures['fov_fraction']:.0f} % of the grid.", **_PLAIN)
    if (said := figures.get("segmenter")) and said["noise_floor"]:
        console.print(f"Noise floor: {said['noise_floor']}.", **_PLAIN)
    for warning in result["warnings"]:
        console.print(f"Note: {warning}.", **_PLAIN)


_TISSUES = {"dice": "Dice", "volume_ml": "ml", "reference_volume_ml": "reference ml", "error_hu": "error HU", "rmse_hu": "RMSE HU"}
_ORGANS = {"dice": "Dice", "noise_dice": "noise floor", "assd_mm": "ASSD mm", "hd95_mm": "HD95 mm", "reference_volume_ml": "reference ml"}


def _items(title: str, items: list[dict], columns: dict[str, str]) -> Table:
    table = Table(title[:-1])
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for item in items:
        name = item["name"] + (" (cut)" if item.get("at_border") else "")
        table.add_row(name, *("" if item[key] is None else f"{item[key]:.4g}" for key in columns))
    return table


def _text(value: float | None, unit: str) -> str:
    return "infinite" if value is None and unit == "dB" else "undefined" if value is None else f"{value:.4g} {unit}".strip()
