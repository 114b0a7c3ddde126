"""calibrate and correct: a scan's detector found in its data, and a scan corrected, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console

from ..errors import InputError
from ..jobs.spec import parse_spec
from .reconstruct import parse_settings
from .running import run_job
from .scan import absolute

_PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}


def calibrate(scan: Path, applied: Path | None, tilt: bool, as_json: bool, consoles: tuple[Console, Console]) -> dict:
    """Find the detector's offset in `scan` and print it; with `applied` write the scan that has it. Returns what was found."""
    progress, report = consoles
    folder = Path(tempfile.mkdtemp(prefix="sparsectrecon-"))
    values = {"task": "calibrate", "scan": str(absolute(scan)), "output": str(folder / "calibration.json"), "tilt": tilt}
    found = run_job(parse_spec(values | {"applied": applied and str(absolute(applied))}, "calibrate"), folder, "calibrate", progress)
    if as_json:
        print(json.dumps(found, indent=1))
        return found
    for line in lines_of(found):
        report.print(line, **_PLAIN)
    written = (
        f"{applied} has it in its geometry" if applied else f"nothing was changed; sparsectrecon calibrate {scan} --out SCAN2 applies it"
    )
    report.print(written, **_PLAIN)
    return found


def lines_of(found: dict) -> list[str]:
    """What a calibration found, for a person."""
    lines = [f"detector offset along its rows: {found['u_mm']:+.3f} mm ({found['axis_mm']:+.3f} mm at the centre of rotation)"]
    if found["tilt_deg"] is not None:
        lines.append(f"turn of the detector in its plane: {found['tilt_deg']:+.3f} degrees")
    before, after = 100 * found["unexplained_before"], 100 * found["unexplained"]
    return [*lines, f"a small reconstruction leaves {after:.2f} % of the data unexplained with it, {before:.2f} % without"]


def correct(scan: Path, out: Path, settings, config: Path | None, console: Console) -> dict:
    """Correct `scan` into the folder `out`, by texts name=mode and name.parameter=value and by a JSON file. Returns the summary."""
    chosen = _chosen(parse_settings(settings), config)
    if absolute(scan) == absolute(out):
        raise InputError(f"{out} is the scan itself: give another folder, since what was measured is kept", "bad-output")
    values = {"task": "correct", "scan": str(absolute(scan)), "output": str(absolute(out)), "corrections": chosen}
    return run_job(parse_spec(values, "correct"), Path(tempfile.mkdtemp(prefix="sparsectrecon-")), "correct", console)


def _chosen(settings: dict[str, str], config: Path | None) -> dict | list:
    if config is None:
        chosen = settings
    elif settings:
        raise InputError("the corrections are given twice, with --set and --config: keep one", "bad-correction")
    else:
        try:
            chosen = json.loads(config.expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{config} cannot be read ({error}): give a JSON file of corrections", "bad-correction") from None
    if not chosen or not isinstance(chosen, (dict, list)):
        from ..corrections.chain import CORRECTIONS

        raise InputError(f"no correction is given: write --set NAME=measured or NAME=on, of {', '.join(CORRECTIONS)}", "bad-correction")
    return chosen
