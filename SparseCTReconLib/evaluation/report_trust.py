"""The part of a report that says what the measurements support: figures, maps, views; and a page of it alone."""

from __future__ import annotations

from html import escape
from pathlib import Path

from .. import __version__
from ..formats.files import written_beside
from ..grid import Volume
from . import plots
from .report_style import CSS
from .trust import MEANINGS, WHERE, Trust
from .trust_picture import uris


def write_trust_report(trust: Trust, volume: Volume, path: Path) -> None:
    """Write a page about `volume` that refers to nothing outside itself."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>What the measurements support</title><style>{CSS}</style></head><body><main><header>"
        f'<h1>What the measurements support</h1><p class="sub">Written by SparseCTRecon {__version__}.</p>'
        f'<span class="badge">{escape(_sentence(trust.figures["disclaimer"]))}</span></header>{trust_section(trust, volume)}'
        "</main></body></html>\n"
    )
    with written_beside(path) as beside:
        beside.write_text(page, encoding="utf-8")


def trust_section(trust: Trust, volume: Volume, name: str = "") -> str:
    """The sections of one volume, called `name` where there are several."""
    found = trust.figures
    about = f" ({name})" if name else ""
    parts = [_warnings(found), _pictures(trust, volume, about), _numbers(found, about), _places(found), _views(found), _meanings(found)]
    return "".join(parts)


def _section(title: str, body: str, note: str = "", kind: str = "") -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{said}{body}</section>' if body else ""


def _warnings(found: dict) -> str:
    return _section("Warnings", _list(found["warnings"]), kind="warnings") if found["warnings"] else ""


def _pictures(trust: Trust, volume: Volume, about: str) -> str:
    cells = uris(trust, volume)
    heads = "".join(f'<div class="head">{escape(each.title)}<small>{each.ends[0]:g} to {each.ends[1]:g}</small></div>' for each, _ in cells)
    images = "".join(f'<figure><img src="{uri}" alt="{escape(each.title, quote=True)}"></figure>' for each, uri in cells)
    columns = f"grid-template-columns:repeat({len(cells)},minmax(150px,1fr))"
    note = "Axial, through the region of interest or else the place that stands out most. The maps say what the measurements support, not "
    note += "what is true: where the views determine little, nothing can contradict them."
    return _section("Trust" + about, f'<div class="pictures" style="{columns}">{heads}{images}</div>', note)


def _numbers(found: dict, about: str) -> str:
    whole, scan, region = found["residual"], found["scan"], found["region"]
    rows = [
        ("residual, relative", _text(100 * whole["relative"], "%", 2)),
        ("residual over the noise alone", _text(whole["noise_ratio"], "", 2)),
        ("residual over noise and allowance for the voxels", _text(whole["allowed_ratio"], "", 2)),
        ("pixels beyond 3 standard deviations (0.27 % by chance)", _text(whole["beyond_percent"], "%", 2)),
        ("noise", scan["noise_from"]),
        (
            f"a {found['size_mm']:g} mm mean in the body is determined by the views, on average, to",
            _text(found["determined_percent"], "%", 0),
        ),
        ("the body within the field of view, of the voxels", _text(found["examined_percent"], "%", 0)),
    ]
    if region:
        rows += [
            (f"in the region: a {found['size_mm']:g} mm mean in its middle is determined to", _text(region["determined_percent"], "%", 0)),
            ("in the region: of what the volume shows, the views determine", _text(region["split_percent"], "% of its variance", 0)),
            ("in the region: left to the prior", _text(region["prior_hu"], "HU", 1)),
            ("in the region: highest z", _text(region["highest_z"], "", 1)),
        ]
    if other := found.get("disagreement"):
        rows.append((f"disagreement with {', '.join(other['others'])}", _text(other["spread_hu"], "HU", 1)))
    if held := found.get("held_back"):
        rows.append(("views held back, predicted: residual over the noise", _text(held["predicted"], "", 2)))
        rows.append(("the same views, seen", _text(held["seen"], "", 2)))
    body = "".join(f"<dt>{escape(title)}</dt><dd>{escape(value)}</dd>" for title, value in rows)
    return _section("Figures" + about, f"<dl>{body}</dl>")


def _places(found: dict) -> str:
    if not found["stand_out"]:
        return _section("Places that stand out", "<p>None.</p>")
    head = "<tr><th>x</th><th>y</th><th>z, mm (LPS)</th><th>in the</th><th>z score</th><th>the data ask for, HU</th></tr>"
    rows = []
    for place in found["stand_out"]:
        cells = [f"{value:.1f}" for value in place["position_mm"]]
        cells += [WHERE[place["where"]], f"{place['z']:+.1f}", f"{place['asked_hu']:+.0f}"]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    note = "Below zero: the volume shows more there than the measurements support; above: it lacks something. Real edges can stand out too."
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    return _section("Places that stand out", table, note)


def _views(found: dict) -> str:
    own = [view["noise_ratio"] or 0.0 for view in found["views"]]
    held = found.get("held_back")
    names = ["the volume", "predicted, held back"] if held else ["the volume"]
    series = [own]
    if held:
        predicted = {view["view"]: view["predicted"] or 0.0 for view in held["views"]}
        series.append([predicted.get(view, 0.0) for view in range(len(own))])
    if len(own) < 2:
        return ""
    top = max(max(each) for each in series)
    noise = [1.0] * len(own)
    drawn = plots.lines(range(len(own)), [noise, *series], ("view", "residual / noise"), (0.0, max(1.5, 1.1 * top)))
    return _section("Views", plots.legend(names, "what the noise allows") + drawn)


def _meanings(found: dict) -> str:
    lines = [f"{name}: {MEANINGS[name]}" for name in found["meanings"]]
    lines.append("residual over the noise: 1 would be all that photons allow; voxels and the projector alone make more of it")
    return _section("What the maps hold", _list(lines))


def _list(lines) -> str:
    return f'<ul class="note">{"".join(f"<li>{escape(_sentence(line))}</li>" for line in lines)}</ul>'


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _text(value: float | None, unit: str, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f} {unit}".strip()
