"""demo: the bundled head, 50 noisy views, three methods, a table and a picture."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from .. import formats, resources
from ..errors import InputError
from ..jobs.files import write_json
from .comparing import draw, reconstruct_each, table
from .running import Stopped
from .scan import absolute, simulate

METHODS = {"fdk": "FDK", "admm-tv": "ADMM-TV", "naf": "NAF"}
SCAN = {"views": 50, "preset": "linac", "seed": 1}
_BUDGETED = "naf"


def demo(folder: Path, budget_s: float, console: Console, report: Console) -> dict:
    """Simulate, reconstruct with each of `METHODS` and compare; leaves the volumes, metrics.json and demo.png in `folder`.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    budget_s : float
        Seconds for the neural method.
    console, report : rich.console.Console
        For the progress and for the table.

    Returns
    -------
    dict
        {method: {psnr_db, ssim, rmse_hu, reprojection_residual, seconds, peak_memory_mb}}
    """
    folder = absolute(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): choose another --out", "unwritable") from None
    source = resources.find(resources.SAMPLE_CT)
    try:
        simulate(SCAN, source, folder / "scan", console)
        truth = formats.read_ct(source)
        jobs = {name: {"method": name, "grid": truth.grid.to_dict()} for name in METHODS}
        if _BUDGETED in jobs:
            jobs[_BUDGETED]["budget_s"] = budget_s
        made = reconstruct_each(jobs, folder / "scan", truth, folder, console)
    except Stopped:
        raise Stopped("the demo was stopped") from None
    figures = {name: of.figures for name, of in made.items()}
    formats.write_volume(truth, folder / "truth.nrrd")
    write_json(folder / "metrics.json", figures)
    draw(truth, "the CT that was scanned", made, METHODS, formats.read_scan(folder / "scan").geometry, folder / "demo.png")
    report.print(table(made, f"head, {SCAN['views']} noisy views, against the CT that was scanned"))
    report.print(f"volumes, metrics.json and demo.png are in {folder}", highlight=False, markup=False, soft_wrap=True)
    return figures
