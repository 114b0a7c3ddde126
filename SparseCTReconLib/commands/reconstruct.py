"""reconstruct: from a scan to a volume."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from .. import methods
from ..errors import InputError
from ..formats.dicom_writing import is_series
from ..jobs.files import check_place
from ..jobs.spec import parse_spec
from .running import run_job
from .scan import absolute


def reconstruct(values: dict, scan: Path, output: str | Path, console: Console, resume: bool = False) -> dict:
    """Reconstruct `scan` into `output`; `values` are those of a `ReconstructJob`. Returns the summary.

    The job's folder lies beside the output, so that the same command with `resume` finds the checkpoint of one that was stopped.
    """
    series, output = is_series(output), absolute(output)
    if values["method"] not in methods.names():
        methods.get(values["method"])  # refuses it; a known one is left to the worker, since its import takes seconds
    place = f"{output}/" if series else str(output)
    spec = parse_spec({"task": "reconstruct", "scan": str(absolute(scan)), "output": place, **values}, "reconstruct")
    missing = [folder for folder in (output.parent, *output.parent.parents) if not folder.exists()]
    try:
        check_place(output, folder=series)
        return run_job(spec, output.with_name(output.name + ".job"), values["method"], console, resume)
    except (InputError, OSError):
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """Names and values of ``key=value`` texts; a dash in a name is an underscore.

    Raises
    ------
    InputError
        For a text without "=", or a name given twice.
    """
    values: dict[str, str] = {}
    for text in settings:
        key, found, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not found or not key:
            raise InputError(f"--set {text}: write name=value, as in --set iterations=40", "bad-option")
        if key in values:
            raise InputError(f"--set {key} is given twice: keep one", "bad-option")
        values[key] = value.strip()
    return values
