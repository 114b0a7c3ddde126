"""compare: several methods on one scan against its reference; volumes, figures, a picture and a report that says how each was made."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from .. import formats, methods
from ..errors import InputError
from ..evaluation.metrics import conventions
from ..geometry import Geometry
from ..grid import Volume
from ..jobs.files import check_place, write_json, written_beside
from ..methods.reconstruct import DISCLAIMER, PREFIX, geometry_summary
from .comparing import HEADINGS, Made, draw, reconstruct_each, rows, table, volume_file
from .running import Stopped
from .scan import absolute

PICTURE, REPORT, FIGURES = "compare.png", "report.md", "metrics.json"


def compare(values: dict, names: tuple[str, ...], scan: Path, reference: Path, folder: Path, consoles: tuple[Console, Console]) -> dict:
    """Reconstruct `scan` with each of `names` and compare with `reference`; leaves volumes, metrics.json, compare.png and report.md.

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

    Returns
    -------
    dict
        {name: {psnr_db, ssim, rmse_hu, reprojection_residual, seconds, peak_memory_mb}}
    """
    console, report = consoles
    jobs = {name: values | _method(name) for name in dict.fromkeys(names)}
    if not jobs:
        raise InputError("compare needs at least one method: write --methods fdk admm-tv", "bad-arguments")
    folder, reference = absolute(folder), absolute(reference)
    geometry, truth = formats.read_scan(absolute(scan)).geometry, formats.read_ct(reference)
    check_place(folder, folder=True)
    try:
        made = reconstruct_each(jobs, scan, truth, folder, console)
    except Stopped:
        raise Stopped("the comparison was stopped") from None
    figures = {name: of.figures for name, of in made.items()}
    write_json(folder / FIGURES, figures)
    draw(truth, reference.name, made, {name: name for name in made}, geometry, folder / PICTURE)
    with written_beside(folder / REPORT) as file:
        file.write_text(report_text(made, scan, reference, geometry), encoding="utf-8")
    report.print(table(made, f"{scan.name}, {geometry.views} views, against {reference.name}"))
    report.print(f"volumes, {FIGURES}, {PICTURE} and {REPORT} are in {folder}", highlight=False, markup=False, soft_wrap=True)
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


def report_text(made: dict[str, Made], scan: Path, reference: Path, geometry: Geometry) -> str:
    """The report in Markdown: the table with its conventions, the picture, and how each volume was made."""
    lines = [
        f"# {', '.join(made)} on {scan.name}",
        f"Against {reference.name}. {geometry_summary(geometry)}.",
        "\n".join(["| " + " | ".join(("method", *HEADINGS)) + " |", "|" + " --- |" * (len(HEADINGS) + 1), *map(_line, rows(made))]),
        "\n".join(f"- {text}." for text in (*conventions().values(), "residual: |A x - p| / |p| on the measured line integrals")),
        f"![truth, reconstructions, and their differences]({PICTURE})",
        "## How each was made",
        *(_made(name, of.volume) for name, of in made.items()),
        f"{DISCLAIMER[0].upper()}{DISCLAIMER[1:]}.",
    ]
    return "\n\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _made(name: str, volume: Volume) -> str:
    """How a volume was made, from its own attributes."""
    said = {key.removeprefix(PREFIX): value for key, value in volume.attributes.items()}
    options = ", ".join(f"{key}={value}" for key, value in json.loads(said["options"]).items())
    versions = ", ".join(f"{key} {value}" for key, value in json.loads(said["versions"]).items())
    facts = {
        "volume": f"{volume_file(name)}, {' x '.join(map(str, volume.grid.size))} voxels of "
        f"{' x '.join(f'{spacing:.4g}' for spacing in volume.grid.spacing_mm)} mm",
        "method": f"{said['method_title']}, preset {said['preset']}, {said['steps']} steps",
        "options": options,
        "weights": said["weights"],
        "ran on": f"{said['device']} ({said['backend']}), {said['date']}; {versions}",
        "field ran by": said.get("field_backend"),
        "scan": f"SHA-256 {said['scan_sha256']}",
        "warnings": said["warnings"],
    }
    return "\n".join([f"### {name}", "", *(f"- {key}: {value}" for key, value in facts.items() if value)])
