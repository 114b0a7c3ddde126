"""One self-contained HTML page of a comparison: pictures, plots, tables, how each volume was made, warnings, conventions."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..formats.files import written_beside
from ..units import AIR_HU
from . import plots
from .assess import Assessment
from .compare import resample
from .report_made import how_made
from .report_slices import DIFFERENCE_HU, WINDOWS, View
from .report_style import CSS
from .report_tables import cuts, image_table, organs_table, tissues_table

if TYPE_CHECKING:
    from .trust import Trust

_MOST_LANES = 30


def write_report(assessment: Assessment, found: dict, path: Path, trusts: Mapping[str, Trust] | None = None) -> None:
    """Write the page.

    Parameters
    ----------
    assessment : Assessment
        Whose volumes are shown, on the grid of its first result.
    found : dict
        What `assessment.run` gave.
    path : Path
        .html to write; it refers to nothing outside itself.
    trusts : mapping, optional
        What the measurements support of results, by their names.
    """
    names = [result["name"] for result in found["results"]]
    parts = [_head(found, names), _warnings(found), _image(found, names), _pictures(assessment, names), _tissues(found, names)]
    parts += _trust(assessment, trusts or {})
    parts += [_organs(found, names), how_made(found), _conventions(found)]
    title = escape(f"{', '.join(names)} against {found['reference']['name']}")
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style></head><body><main>{''.join(filter(None, parts))}</main></body></html>\n"
    )
    with written_beside(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _trust(assessment: Assessment, trusts: Mapping[str, Trust]) -> list[str]:
    if not trusts:
        return []
    from .report_trust import trust_section  # brings torch, which other reports do without

    volumes = {result.name: result.volume for result in assessment.results}
    return [trust_section(trust, volumes[name], name) for name, trust in trusts.items()]


def _head(found: dict, names: list[str]) -> str:
    now = datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    said = "reconstruction" if len(names) == 1 else "reconstructions"
    return (
        f"<header><h1>{len(names)} {said} against {escape(found['reference']['name'])}</h1>"
        f'<p class="sub">{escape(", ".join(names))}. Written by SparseCTRecon {__version__} on {now}.</p>'
        f'<span class="badge">{escape(_sentence(found["disclaimer"]))}</span></header>'
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _section(title: str, *parts: str, note: str = "", kind: str = "") -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    opening = f'<section class="{kind}">' if kind else "<section>"
    return f"{opening}<h2>{escape(title)}</h2>{said}{''.join(parts)}</section>"


def _warnings(found: dict) -> str:
    said = [(result["name"], text) for result in found["results"] for text in result["warnings"]]
    items = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in said)
    return _section("Warnings", f"<ul>{items}</ul>", kind="warnings") if said else ""


def _image(found: dict, names: list[str]) -> str:
    if not all(result.get("image") for result in found["results"]):
        return ""
    return _section("Image quality", image_table(found), note="Best of each column in green. What each figure is: see Conventions.")


def _pictures(assessment: Assessment, names: list[str]) -> str:
    pair = assessment.pairs[0]
    view = View.of(pair.truth, pair.grid)
    volumes = [pair.truth, pair.image]
    for result, own in zip(assessment.results[1:], assessment.pairs[1:]):
        volumes.append(own.image if own.grid.matches(pair.grid) else resample(result.volume, pair.grid)[0])
    panes = [_pane(number, names, view, volumes, window) for number, window in enumerate(WINDOWS.values())]
    inputs = "".join(f'<input class="tab" type="radio" name="w" id="w{n}"{" checked" if n == 0 else ""}>' for n in range(len(WINDOWS)))
    labels = "".join(f'<label class="t{n}" for="w{n}">{name}, {w:g} / {c:g} HU</label>' for n, (name, (w, c)) in enumerate(WINDOWS.items()))
    scale = (
        f'<div class="scale"></div><div class="ends"><span>-{DIFFERENCE_HU:g} HU</span><span>difference to the reference</span>'
        f"<span>+{DIFFERENCE_HU:g} HU</span></div>"
    )
    positions, truth = view.profile(pair.truth)
    series = [truth, *(view.profile(each)[1] for each in volumes[1:])]
    drawn = plots.lines(positions, series, ("mm, from the patient's right to left", "HU"), _limits(truth))
    return _section(
        "Pictures",
        f'{inputs}<div class="tabs">{labels}</div><div class="panes">{"".join(panes)}</div>{scale}',
        "<h3>Profile through the middle of the axial slices</h3>",
        plots.legend(names, "reference"),
        drawn,
        note="Through the middle of the body, on the voxels of the first result; the patient's right is on the left.",
    )


def _pane(number: int, names: list[str], view: View, volumes: list[np.ndarray], window: tuple[float, float]) -> str:
    width, level = window
    cells = [f'<div class="head">{escape(name)}</div>' for name in ("reference", *names)]
    shown = [view.pictures(volume, window) for volume in volumes]
    differences = [view.differences(volume, volumes[0]) for volume in volumes[1:]]
    for plane, said in enumerate(("axial", "coronal")):
        cells += [_figure(pictures[plane], f"{name}, {said}") for name, pictures in zip(("reference", *names), shown)]
    for plane, said in enumerate(("axial", "coronal")):
        cells.append(f'<div class="empty">{said} difference: reconstruction - reference</div>')
        cells += [_figure(pictures[plane], f"{name} - reference, {said}") for name, pictures in zip(names, differences)]
    columns = f"grid-template-columns:repeat({len(volumes)},minmax(150px,1fr))"
    return f'<div class="pane pictures p{number}" style="{columns}" data-window="{width:g}/{level:g}">{"".join(cells)}</div>'


def _figure(uri: str, said: str) -> str:
    return f'<figure><img src="{uri}" alt="{escape(said, quote=True)}"></figure>'


def _limits(profile: np.ndarray) -> tuple[float, float]:
    """HU that the profile's plot shows: from air to somewhat above the reference's highest."""
    return AIR_HU - 100, float(np.ceil(max(profile.max(), 100) / 100) * 100 + 200)


def _tissues(found: dict, names: list[str]) -> str:
    results = found["results"]
    if not all(result.get("tissues") for result in results):
        return ""
    lanes = [
        plots.Lane(tissue["name"], [result["tissues"][number]["dice"] for result in results])
        for number, tissue in enumerate(results[0]["tissues"])
        if tissue["reference_volume_ml"]
    ]
    return _section("Tissues", plots.legend(names), plots.dots(lanes, names, "Dice"), f'<div class="wide">{tissues_table(found)}</div>')


def _organs(found: dict, names: list[str]) -> str:
    results = found["results"]
    if not all(result.get("organs") is not None for result in results):
        return ""
    by_label = [{organ["label"]: organ for organ in result["organs"]} for result in results]
    known = {label: organ for each in by_label for label, organ in each.items() if organ["reference_volume_ml"]}
    largest = sorted(known.values(), key=lambda organ: -organ["reference_volume_ml"])[:_MOST_LANES]
    lanes = [
        plots.Lane(_plain(organ["name"]), [each.get(organ["label"], {}).get("dice") for each in by_label], organ["noise_dice"])
        for organ in largest
    ]
    said = found["segmenter"]
    of = ", ".join(filter(None, [f"TotalSegmentator {said['version']}", f"task {said['task']}", f"quality {said['quality']}"]))
    more = f"; of {len(known)} structures the largest {len(lanes)} are drawn" if len(known) > len(lanes) else ""
    note = f"{of}, with the same settings for all{more}. Medians: {_medians(results)}; structures that are cut do not count in them."
    parts = [plots.legend(names, floor=any(lane.floor is not None for lane in lanes)), plots.dots(lanes, names, "Dice")] if lanes else []
    listed = f'<details open><summary>All structures</summary><div class="wide">{organs_table(found)}</div></details>'
    return _section("Organs", *parts, listed, note=note)


def _medians(results: list[dict]) -> str:
    said = []
    for result in results:
        dice = [organ["dice"] for organ in result["organs"] if not organ["at_border"] and organ["reference_volume_ml"]]
        said.append(f"{result['name']} Dice {statistics.median(dice):.3f} (n = {len(dice)})" if dice else f"{result['name']} none")
    return ", ".join(said)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _conventions(found: dict) -> str:
    said = found["conventions"]
    lines = [text for name, text in said.items() if not name.startswith(("body_", "fov_"))]
    parts = (("Body", "body_rmse_hu", True), ("In view", "fov_rmse_hu", cuts(found)))
    lines += [f"{part}: {said[name].split('; ', 1)[1]}" for part, name, shown in parts if shown and name in said]
    if (segmenter := found["segmenter"]) and segmenter["noise_floor"]:
        lines.append(f"Noise floor: {segmenter['noise_floor']}; no reconstruction can be asked for more")
    items = "".join(f"<li>{escape(text)}.</li>" for text in lines)
    return _section("Conventions", f'<ul class="note">{items}</ul>')
