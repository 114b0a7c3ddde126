"""weights: list, get, convert."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import __version__, downloads, weight_files, weights
from ..errors import InputError
from ..formats.files import written_beside
from ..jobs.files import check_place
from .running import view_of
from .scan import absolute
from .train import weights_place

PRETRAINED_VIEWS = (6, 24)
"""That the published code trains with before it is finetuned."""


def list_weights(as_json: bool, report: Console) -> None:
    """Print what weights there are, with what their cards say, and what can be fetched."""
    found, listed = weights.known(), downloads.listed()
    if as_json:
        here = [{"name": each.name, "path": str(each.path), "kind": each.form, "card": each.card, "fault": each.fault} for each in found]
        there = [{"name": name, "url": of.url, "licence": of.licence, "megabytes": of.megabytes} for name, of in listed.items()]
        print(json.dumps({"here": here, "to_fetch": there}, indent=1))
        return
    table = Table("weights", "for", "views", "held out, dB", "MB", box=None, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    good = [each for each in found if not each.fault]
    for each in good:
        table.add_row(each.name, *_said(each.card), f"{each.path.stat().st_size / 1e6:.1f}")
    report.print(table)
    lines = [f"{each.name}, {each.form}, trained on: {_credit(each.card)}" for each in good]
    lines += [f"no good: {each.fault}" for each in found if each.fault]
    lines += [f"to fetch: {name} ({of.megabytes:.1f} MB, {of.licence})" for name, of in listed.items()]
    for line in lines:
        report.print(line, markup=False, highlight=False, soft_wrap=True)


def _said(card: dict) -> tuple[str, str, str]:
    """Of a card: for which parts of the body, for how many views, and for numbers of views the PSNR of CTs that were held out."""
    try:
        few, many = card["range"]["numbers"]["views"]
        views = f"{few:g} to {many:g}"
    except (KeyError, TypeError, ValueError):
        views = ""
    try:
        figures = ", ".join(f"{of['views']:d}: {of['psnr_db']:.1f}" for of in card["held_out"]["figures"])
    except (KeyError, TypeError, ValueError):
        figures = ""
    return ", ".join(card.get("anatomies", ())), views, figures


def _credit(card: dict) -> str:
    """Of a card: training data and licence."""
    return "; ".join(str(card[key]) for key in ("credit", "source", "licence") if card.get(key))


def get_weights(asked: str, sha256: str, licence_accepted: bool, console: Console) -> tuple[Path, str]:
    """Fetch weights; returns their file and the licence in its card."""
    of = downloads.source(asked, sha256)
    with view_of("weights get", console) as view:
        path = downloads.fetch(of, licence_accepted, _shown(view.take, of.name))
    return path, weight_files.read_card(path)[1].get("licence", of.licence)


def _shown(take: Callable[[dict], None], name: str) -> Callable[[int, int], None]:
    start = time.monotonic()

    def progress(done: int, size: int) -> None:
        fraction, elapsed = done / max(size, done), time.monotonic() - start
        event = {"event": "progress", "stage": name, "step": done // 1000, "steps": max(size, done) // 1000, "fraction": fraction}
        take({**event, "remaining_s": elapsed * (1 / fraction - 1) if fraction else None})

    return progress


def convert_weights(checkpoint: Path, out: Path, anatomy: str, views: tuple[int, int] | None) -> Path:
    """Make a published checkpoint into a file of ours; returns its place."""
    from ..networks import dice_release

    out = weights_place(out)
    check_place(out)
    few, many = views or PRETRAINED_VIEWS
    if not 1 <= few <= many:
        raise InputError(f"--views {few} {many}: give the fewest views, and the most", "bad-arguments")
    numbers = {"views": [few, many], "arc_deg": [180.0, 180.0], "offset": [0.0, 0.0], "tilt_deg": [0.0, 0.0]}
    card = {"version": __version__, "range": {"numbers": numbers}}
    with written_beside(out) as beside:
        dice_release.convert(absolute(checkpoint), beside, anatomy, card)
    return out
