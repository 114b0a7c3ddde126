"""trust: what the measurements support of a volume, in a process of its own; maps, figures and a report in a folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..evaluation.trust import WHERE
from ..jobs.spec import TrustJob, parse_spec
from ..jobs.trust_task import FIGURES, PICTURE, REPORT
from .running import run_job
from .scan import absolute

_PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}


def trust(values: dict, volume: Path, scan: Path, folder: Path, as_json: bool, consoles: tuple[Console, Console]) -> dict:
    """Examine `volume` by `scan`, leave what is found in `folder` and print it.

    Parameters
    ----------
    values : dict
        What a `TrustJob` takes beside volume, scan and output.
    volume, scan, folder : Path
    as_json : bool
        Print JSON, not tables.
    consoles : tuple of rich.console.Console
        For the progress and for what is found.
    """
    progress, report = consoles
    folder = absolute(folder)
    if folder == absolute(volume) or folder == absolute(scan):
        raise InputError(f"{folder} is what is examined: choose another folder for what is found", "bad-output")
    paths = {"task": "trust", "volume": str(absolute(volume)), "scan": str(absolute(scan)), "output": str(folder)}
    spec: TrustJob = parse_spec(values | paths, "trust")
    place = Path(tempfile.mkdtemp(prefix="sparsectrecon-trust-job-"))  # where the log of a failure stays
    found = run_job(spec, place, "trust", progress)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(found, folder, report)
    return found


def _print(found: dict, folder: Path, console: Console) -> None:
    table = Table("figure", "value")
    for title, value in _rows(found):
        table.add_row(title, value)
    console.print(table)
    if found["stand_out"]:
        places = Table("x", "y", "z, mm (LPS)", "in the", "z score", "asked for, HU", title="places that stand out")
        for place in found["stand_out"]:
            position = (f"{value:.1f}" for value in place["position_mm"])
            places.add_row(*position, WHERE[place["where"]], f"{place['z']:+.1f}", f"{place['asked_hu']:+.0f}")
        console.print(places)
    for warning in found["warnings"]:
        console.print(f"Note: {warning}.", **_PLAIN)
    console.print(f"Maps, {FIGURES}, {PICTURE} and {REPORT} are in {folder}.", **_PLAIN)
    console.print("They say what the measurements support, not what is true.", **_PLAIN)


def _rows(found: dict):
    residual, region = found["residual"], found["region"]
    yield "residual over the noise", _text(residual["noise_ratio"])
    yield "residual over noise and voxels' allowance", _text(residual["allowed_ratio"])
    yield "noise", found["scan"]["noise_from"]
    yield f"a {found['size_mm']:g} mm mean in the body is determined, on average, to", _text(found["determined_percent"], " %")
    yield "the body within the field of view, of the voxels", _text(found["examined_percent"], " %")
    if region:
        yield "in the region's middle", _text(region["determined_percent"], " %")
        yield "of what the region shows, the views determine", _text(region["split_percent"], " %")
        yield "highest z in the region", _text(region["highest_z"])
    if "disagreement" in found:
        yield "disagreement", _text(found["disagreement"]["spread_hu"], " HU")
    if "held_back" in found:
        yield "held-back views: residual over the noise", _text(found["held_back"]["predicted"])
        yield "the same views, seen", _text(found["held_back"]["seen"])


def _text(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.4g}{unit}"
