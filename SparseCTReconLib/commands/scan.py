"""simulate: from a CT to a scan folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console

from ..jobs.spec import parse_spec
from .running import run_job


def simulate(values: dict, ct: Path, scan: Path, console: Console) -> dict:
    """Simulate a scan of `ct` into the folder `scan`; `values` are those of a `SimulateJob`. Returns the summary."""
    spec = parse_spec({"task": "simulate", "ct": str(absolute(ct)), "output": str(absolute(scan)), **values}, "simulate")
    return run_job(spec, Path(tempfile.mkdtemp(prefix="sparsectrecon-")), "simulate", console)


def absolute(path) -> Path:
    """`path` from the present folder, a leading ~ being the user's."""
    return Path(path).expanduser().absolute()
