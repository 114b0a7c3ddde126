"""What demo and compare share: several methods on one scan, their figures against the reference, the table and the picture."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from .. import formats
from ..evaluation.compare import evaluate, resample
from ..evaluation.pictures import Panel, comparison
from ..geometry import Geometry
from ..grid import Grid, Volume
from ..jobs.files import written_beside
from ..units import AIR_HU
from .reconstruct import reconstruct
from .running import Stopped

HEADINGS = ("PSNR dB", "SSIM", "RMSE HU", "residual", "seconds", "peak MB")


@dataclass(frozen=True)
class Made:
    """A reconstruction: the volume, its figures, and the worker's summary."""

    volume: Volume
    figures: dict
    summary: dict


def reconstruct_each(jobs: dict[str, dict], scan: Path, truth: Volume, folder: Path, console: Console) -> dict[str, Made]:
    """Reconstruct `scan` once for each of `jobs` into a volume of its name in `folder`, and compare with `truth`.

    Parameters
    ----------
    jobs : dict
        Values of a `ReconstructJob` by the name under which the result goes.

    Returns
    -------
    dict of str to Made
        figures: psnr_db, ssim, rmse_hu, reprojection_residual, seconds, peak_memory_mb.
    """
    try:
        return {name: _reconstruct(values, scan, truth, folder / volume_file(name), console) for name, values in jobs.items()}
    except Stopped:
        for unfinished in folder.glob("*.nrrd.job"):
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def volume_file(name: str) -> str:
    """File of the volume of what is called `name`."""
    return f"{name.replace(':', '-')}.nrrd"


def _reconstruct(values: dict, scan: Path, truth: Volume, output: Path, console: Console) -> Made:
    summary = reconstruct(values, scan, output, console)
    recon = formats.read_volume(output)
    compared = evaluate(recon, truth)
    figures = {name: compared[name] for name in ("psnr_db", "ssim", "rmse_hu")}
    figures |= {name: summary[name] for name in ("reprojection_residual", "seconds", "peak_memory_mb")}
    return Made(recon, figures, summary)


def draw(truth: Volume, caption: str, made: dict[str, Made], titles: dict[str, str], geometry: Geometry, path: Path) -> None:
    """Write the picture: what lies in the field of view, nothing below air."""
    first = next(iter(made.values())).volume
    shown = within_view(Volume(resample(truth, first.grid)[0], first.grid), geometry)
    panels = [
        Panel(titles[name], within_view(made[name].volume, geometry).array, f"{decibels} dB   SSIM {ssim}")
        for name, decibels, ssim, *_ in rows(made)
    ]
    reference = Panel("truth", np.maximum(shown.array, AIR_HU), caption)
    slices = {"axial": int(0.55 * shown.grid.size[2]), "coronal": int(0.45 * shown.grid.size[1])}
    with written_beside(path) as picture:
        comparison(reference, panels, shown.grid, picture, slices=slices)


def within_view(ct: Volume, geometry: Geometry) -> Volume:
    """The part of `ct` in the box about the field of view of `geometry`, on the CT's own voxels; all of it where they do not meet."""
    radius, half_height = geometry.field_of_view()
    half = np.abs(ct.grid.direction.T) @ [radius, radius, half_height] / ct.grid.spacing_mm
    middle = (ct.grid.world_to_index @ [*geometry.isocentre_mm, 1.0])[:3]
    first = np.maximum(0, np.ceil(middle - half)).astype(int)
    stop = np.minimum(ct.grid.size, np.floor(middle + half).astype(int) + 1)
    if (stop <= first).any():
        return ct
    origin = (ct.grid.index_to_world @ [*first, 1.0])[:3]
    part = tuple(slice(a, b) for a, b in zip(first[::-1], stop[::-1]))
    grid = Grid(tuple(stop - first), ct.grid.spacing_mm, tuple(origin), ct.grid.direction)
    return Volume(np.ascontiguousarray(ct.array[part]), grid, ct.attributes, ct.unit)


def rows(made: dict[str, Made]) -> list[list[str]]:
    """A line of text cells for each reconstruction: its name, then what `HEADINGS` say."""
    found = {name: of.figures for name, of in made.items()}
    return [
        [
            name,
            "infinite" if of["psnr_db"] is None else f"{of['psnr_db']:.2f}",
            "?" if of["ssim"] is None else f"{of['ssim']:.3f}",
            f"{of['rmse_hu']:.1f}",
            f"{of['reprojection_residual']:.4f}",
            f"{of['seconds']:.1f}",
            "?" if of["peak_memory_mb"] is None else f"{of['peak_memory_mb']:.0f}",
        ]
        for name, of in found.items()
    ]


def table(made: dict[str, Made], title: str) -> Table:
    """The figures for a terminal."""
    drawn = Table("method", title=title)
    for heading in HEADINGS:
        drawn.add_column(heading, justify="right")
    for cells in rows(made):
        drawn.add_row(*cells)
    return drawn
