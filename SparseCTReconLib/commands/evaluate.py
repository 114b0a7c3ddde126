"""evaluate: figures of a reconstruction against its reference."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import formats
from ..evaluation.compare import evaluate as figures_of
from ..jobs.files import write_json
from .scan import absolute

_ROWS = (
    ("psnr_db", "PSNR", "dB"),
    ("ssim", "SSIM", ""),
    ("rmse_hu", "RMSE", "HU"),
    ("body_psnr_db", "PSNR, body", "dB"),
    ("body_ssim", "SSIM, body", ""),
    ("body_rmse_hu", "RMSE, body", "HU"),
)


def evaluate(recon: Path, reference: Path, json_file: Path | None, console: Console) -> dict:
    """Print the figures of `recon` against `reference` with their conventions; write them to `json_file` too."""
    figures = figures_of(formats.read_volume(absolute(recon)), formats.read_ct(absolute(reference)))
    table = Table("figure", "value", "convention")
    for name, title, unit in _ROWS:
        value = "infinite" if figures[name] is None else f"{figures[name]:.4g} {unit}".strip()
        table.add_row(title, value, figures["conventions"][name])
    console.print(table)
    if figures["compared_fraction"] < 1:
        console.print(f"{100 * figures['compared_fraction']:.1f} % of the grid lies within the reference; the rest does not count.")
    if json_file:
        write_json(absolute(json_file), figures)
    return figures
