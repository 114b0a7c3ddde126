"""compare: several methods on one scan against its reference; volumes, figures, a picture and a report that says how each was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .. import formats, methods
from ..errors import InputError
from ..evaluation.assess import Assessment, Entry, Wanted, check_names
from ..evaluation.report import write_report
from ..evaluation.tables import write_csv
from ..geometry import Geometry
from ..jobs.files import check_place, write_json
from ..scan import Scan
from .comparing import Made, draw, reconstruct_each, table, volume_file
from .running import Stopped
from .scan import absolute

if TYPE_CHECKING:
    from ..evaluation.trust import Trust

PICTURE, REPORT, FIGURES, TABLE = "compare.png", "report.html", "metrics.json", "comparison.csv"


def compare(
    values: dict,
    names: tuple[str, ...],
    scan: Path,
    reference: Path,
    folder: Path,
    consoles: tuple[Console, Console],
    trust: bool = False,
) -> dict:
    """Reconstruct `scan` with each of `names` and compare with `reference`; leaves volumes, metrics.json,
    comparison.csv, compare.png and report.html.

    Parameters
    ----------
    values : dict
        What the jobs have in common, as a `ReconstructJob` takes it: grid, device, budget.
    names : tuple of str
        Methods, each with the name of a preset behind a colon where it is not the first one: "naf", "naf:paper".
    scan, reference, folder : Path
        Scan, the CT it was made of, and where the results go.
    consoles : tuple of rich.console.Console
        For the progress and for the table.
    trust : bool
        Say in the report what the measurements support of each volume, too.

    Returns
    -------
    dict
        {name: {psnr_db, ssim, rmse_hu, reprojection_residual, seconds, peak_memory_mb}}
    """
    console, report = consoles
    jobs = {name: values | _method(name) for name in dict.fromkeys(names)}
    if not jobs:
        raise InputError("compare needs at least one method: write --methods fdk admm-tv", "bad-arguments")
    check_names(list(jobs))
    folder, reference = absolute(folder), absolute(reference)
    measured, truth = formats.read_scan(absolute(scan)), formats.read_ct(reference)
    geometry = measured.geometry
    check_place(folder, folder=True)
    try:
        made = reconstruct_each(jobs, scan, truth, folder, console)
    except Stopped:
        raise Stopped("the comparison was stopped") from None
    figures = {name: of.figures for name, of in made.items()}
    write_json(folder / FIGURES, figures)
    draw(truth, reference.name, made, {name: name for name in made}, geometry, folder / PICTURE)
    trusts = _trusts(made, measured, console) if trust else {}
    _write_report(made, Entry(reference.name, str(reference), truth), folder, geometry, trusts)
    report.print(table(made, f"{scan.name}, {geometry.views} views, against {reference.name}"))
    report.print(f"volumes, {FIGURES}, {TABLE}, {PICTURE} and {REPORT} are in {folder}", highlight=False, markup=False, soft_wrap=True)
    return figures


def _method(name: str) -> dict:
    """Method and options of a job for "method" or "method:preset"."""
    method, colon, preset = name.partition(":")
    if method not in methods.names():
        methods.get(method)  # refuses it; a known one is left to the worker, since its import takes seconds
    if not colon:
        return {"method": method}
    methods.preset_name(methods.get(method), {"preset": preset})
    return {"method": method, "options": {"preset": preset}}


def _trusts(made: dict[str, Made], scan: Scan, console: Console) -> dict[str, Trust]:
    """What the scan supports of each volume, of details of 10 mm or what two voxels take."""
    from ..evaluation.trust import SMALLEST_VOXELS, Asked, examine

    trusts = {}
    for name, of in made.items():
        console.print(f"{name}: what the measurements support", highlight=False, markup=False, soft_wrap=True)
        least = SMALLEST_VOXELS * max(of.volume.grid.spacing_mm)
        trusts[name] = examine(of.volume, scan, Asked(max(Asked.size_mm, least)))
    return trusts


def _write_report(made: dict[str, Made], truth: Entry, folder: Path, geometry: Geometry, trusts: dict[str, Trust]) -> None:
    """The report, and all figures as a table."""
    results = [Entry(name, str(folder / volume_file(name)), of.volume, geometry) for name, of in made.items()]
    assessment = Assessment(truth, results, Wanted())
    found = assessment.run()
    write_report(assessment, found, folder / REPORT, trusts)
    write_csv(found, folder / TABLE)
