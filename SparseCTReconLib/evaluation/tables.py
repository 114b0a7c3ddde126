"""All figures of a comparison as one CSV, a row for each."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..formats.files import written_beside

COLUMNS = ("result", "kind", "item", "figure", "value", "unit")
_UNITS = {"_db": "dB", "_hu": "HU", "_mm": "mm", "_ml": "ml"}
_NO_FIGURES = ("name", "label", "low_hu", "high_hu")


def write_csv(comparison: dict, path: Path) -> None:
    """Write the figures of `comparison` (see `assess.Assessment.run`) as UTF-8 CSV; an undefined one is empty.

    Columns: result, kind (image, tissues, organs), item (tissue or organ; empty for the image), figure, value, unit.
    """
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for result in comparison["results"]:
            writer.writerows(_rows(result))


def _rows(result: dict) -> Iterator[tuple]:
    for figure, value in (result.get("image") or {}).items():
        yield result["name"], "image", "", figure, _text(value), unit(figure)
    for kind in ("tissues", "organs"):
        for item in result.get(kind) or ():
            for figure, value in item.items():
                if figure not in _NO_FIGURES:
                    yield result["name"], kind, item["name"], figure, _text(value), unit(figure)


def unit(figure: str) -> str:
    """The unit that a figure's name ends in, empty where it has none."""
    return next((text for ending, text in _UNITS.items() if figure.endswith(ending)), "")


def _text(value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
