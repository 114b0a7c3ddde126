"""demo: the bundled head, 50 noisy views, three methods, a table and a picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from .. import formats, resources
from ..errors import InputError
from ..evaluation.compare import evaluate
from ..evaluation.pictures import Panel, comparison
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..jobs.files import write_json, written_beside
from ..units import AIR_HU
from .reconstruct import reconstruct
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
        made = {name: _reconstruct(name, truth, folder, budget_s, console) for name in METHODS}
    except Stopped:
        for unfinished in folder.glob("*.nrrd.job"):
            shutil.rmtree(unfinished, ignore_errors=True)
        raise Stopped("the demo was stopped") from None
    figures = {name: found for name, (_, found) in made.items()}
    formats.write_volume(truth, folder / "truth.nrrd")
    write_json(folder / "metrics.json", figures)
    _draw(truth, made, folder)
    report.print(_table(figures))
    report.print(f"volumes, metrics.json and demo.png are in {folder}", highlight=False, markup=False, soft_wrap=True)
    return figures


def _reconstruct(name: str, truth: Volume, folder: Path, budget_s: float, console: Console) -> tuple[Volume, dict]:
    """The volume of a method on the CT's grid, and its figures."""
    output = folder / f"{name}.nrrd"
    values = {"method": name, "options": {}, "grid": truth.grid.to_dict(), "budget_s": budget_s if name == _BUDGETED else None}
    summary = reconstruct(values, folder / "scan", output, console)
    recon = formats.read_volume(output)
    compared = evaluate(recon, truth)
    figures = {name: compared[name] for name in ("psnr_db", "ssim", "rmse_hu")}
    return recon, figures | {name: summary[name] for name in ("reprojection_residual", "seconds", "peak_memory_mb")}


def _draw(truth: Volume, made: dict[str, tuple[Volume, dict]], folder: Path) -> None:
    """demo.png: what lies in the field of view, nothing below air."""
    seen = formats.read_scan(folder / "scan").geometry
    shown = within_view(truth, seen)
    panels = [
        Panel(METHODS[name], within_view(recon, seen).array, f"{found['psnr_db']:.1f} dB   SSIM {found['ssim']:.3f}")
        for name, (recon, found) in made.items()
    ]
    reference = Panel("truth", np.maximum(shown.array, AIR_HU), "the CT that was scanned")
    slices = {"axial": int(0.55 * shown.grid.size[2]), "coronal": int(0.45 * shown.grid.size[1])}
    with written_beside(folder / "demo.png") as picture:
        comparison(reference, panels, shown.grid, picture, slices=slices)


def within_view(ct: Volume, geometry: Geometry) -> Volume:
    """The part of `ct` in the box about the field of view of `geometry`, on the CT's own voxels."""
    radius, half_height = geometry.field_of_view()
    half = np.abs(ct.grid.direction.T) @ [radius, radius, half_height] / ct.grid.spacing_mm
    middle = (ct.grid.world_to_index @ [*geometry.isocentre_mm, 1.0])[:3]
    first = np.maximum(0, np.ceil(middle - half)).astype(int)
    stop = np.minimum(ct.grid.size, np.floor(middle + half).astype(int) + 1)
    origin = (ct.grid.index_to_world @ [*first, 1.0])[:3]
    part = tuple(slice(a, b) for a, b in zip(first[::-1], stop[::-1]))
    grid = Grid(tuple(stop - first), ct.grid.spacing_mm, tuple(origin), ct.grid.direction)
    return Volume(np.ascontiguousarray(ct.array[part]), grid, ct.attributes, ct.unit)


def _table(figures: dict) -> Table:
    table = Table("method", title=f"head, {SCAN['views']} noisy views, against the CT that was scanned")
    for heading in ("PSNR dB", "SSIM", "RMSE HU", "residual", "seconds", "peak MB"):
        table.add_column(heading, justify="right")
    for name, of in figures.items():
        table.add_row(
            name,
            f"{of['psnr_db']:.2f}",
            f"{of['ssim']:.3f}",
            f"{of['rmse_hu']:.1f}",
            f"{of['reprojection_residual']:.4f}",
            f"{of['seconds']:.1f}",
            "?" if of["peak_memory_mb"] is None else f"{of['peak_memory_mb']:.0f}",
        )
    return table
