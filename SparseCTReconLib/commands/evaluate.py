"""evaluate: figures of a reconstruction against its reference."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import formats
from ..evaluation.compare import evaluate as figures_of
from ..evaluation.metrics import BODY
from ..jobs.files import check_place, write_json
from .scan import absolute

_ROWS = (("psnr_db", "PSNR", "dB"), ("ssim", "SSIM", ""), ("rmse_hu", "RMSE", "HU"))


def evaluate(recon: Path, reference: Path, json_file: Path | None, console: Console) -> dict:
    """Print the figures of `recon` against `reference` with their conventions; write them to `json_file` too."""
    if json_file:
        check_place(absolute(json_file))
    figures = figures_of(formats.read_volume(absolute(recon)), formats.read_ct(absolute(reference)))
    table = Table("figure", "whole grid", "body")
    for name, title, unit in _ROWS:
        table.add_row(title, *(_text(figures[key], unit) for key in (name, "body_" + name)))
    console.print(table)
    for name, *_ in _ROWS:
        console.print(f"{figures['conventions'][name]}.", highlight=False, markup=False)
    console.print(f"Body: {BODY}.", highlight=False, markup=False)
    if figures["compared_fraction"] < 1:
        console.print(f"{100 * figures['compared_fraction']:.1f} % of the grid lies within the reference; the rest does not count.")
    if json_file:
        write_json(absolute(json_file), figures)
    return figures


def _text(value: float | None, unit: str) -> str:
    return "infinite" if value is None else f"{value:.4g} {unit}".strip()
