"""The tables of a report in HTML."""

from __future__ import annotations

from html import escape

from ..methods.reconstruct import PREFIX

_IMAGE = (
    # figure, heading, unit, digits, whether more is better
    ("psnr_db", "PSNR", "dB", 2, True),
    ("ssim", "SSIM", "", 4, True),
    ("rmse_hu", "RMSE", "HU", 1, False),
    ("vif", "VIF", "", 4, True),
    ("body_psnr_db", "PSNR, body", "dB", 2, True),
    ("body_ssim", "SSIM, body", "", 4, True),
    ("body_rmse_hu", "RMSE, body", "HU", 1, False),
)
_IN_VIEW = (
    ("fov_psnr_db", "PSNR, in view", "dB", 2, True),
    ("fov_ssim", "SSIM, in view", "", 4, True),
    ("fov_rmse_hu", "RMSE, in view", "HU", 1, False),
)
_TISSUE = (
    ("dice", "Dice", "", 3),
    ("volume_ml", "volume", "ml", 1),
    ("reference_volume_ml", "reference", "ml", 1),
    ("mean_hu", "mean", "HU", 1),
    ("error_hu", "error", "HU", 1),
    ("rmse_hu", "RMSE", "HU", 1),
)
_RUN = (("reprojection_residual", "residual", "", 4), ("seconds", "time", "s", 1))


def image_table(found: dict) -> str:
    """A row for each result: PSNR, SSIM, RMSE, VIF, those within a field of view that cuts, and residual and time where the volume says
    them."""
    results = found["results"]
    figures = (*_IMAGE, *(_IN_VIEW if cuts(found) else ()))
    best = {name: _best([result["image"].get(name) for result in results], more) for name, *_, more in figures}
    run = [each for each in _RUN if any(PREFIX + each[0] in result["attributes"] for result in results)]
    head = "".join(_heading(title, unit) for _, title, unit, *_ in (*figures, *run))
    rows = []
    for number, result in enumerate(results, start=1):
        cells = [_cell(result["image"].get(name), digits, result["image"].get(name) == best[name]) for name, _, _, digits, _ in figures]
        cells += [_cell(_number(result["attributes"].get(PREFIX + name)), digits) for name, _, _, digits in run]
        rows.append(f"<tr>{_name(number, result['name'])}{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr><th>result</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def cuts(found: dict) -> bool:
    """Whether the field of view of any result leaves some of its voxels out."""
    return any((result.get("image") or {}).get("fov_fraction", 1.0) < 1 for result in found["results"])


def tissues_table(found: dict) -> str:
    """The results below each other for each tissue that the reference has."""
    head = "".join(_heading(title, unit) for _, title, unit, _ in _TISSUE)
    rows = []
    for index, tissue in enumerate(found["results"][0]["tissues"]):
        for number, result in enumerate(found["results"], start=1):
            own = result["tissues"][index]
            first = f'<th rowspan="{len(found["results"])}">{escape(tissue["name"])}<span class="unit">{_range(tissue)}</span></th>'
            cells = "".join(_cell(own[name], digits, signed=name == "error_hu") for name, _, _, digits in _TISSUE)
            opening = f'<tr class="group">{first}' if number == 1 else "<tr>"
            rows.append(f"{opening}{_name(number, result['name'], 'td')}{cells}</tr>")
    return f'<table><thead><tr><th>tissue</th><th class="text">result</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def organs_table(found: dict) -> str:
    """A row for each structure: the segmenter's noise floor, then Dice, ASSD and HD95 of each result."""
    results = found["results"]
    by_label = [{organ["label"]: organ for organ in result["organs"]} for result in results]
    known = {label: organ for each in by_label for label, organ in sorted(each.items())}
    floor = any(organ["noise_dice"] is not None for organ in known.values())
    groups = "".join(f'<th colspan="3">{_swatch(number)}{escape(result["name"])}</th>' for number, result in enumerate(results, start=1))
    single = _heading("Dice", "") + _heading("ASSD", "mm") + _heading("HD95", "mm")
    lead = _heading("reference", "ml") + (_heading("noise floor", "Dice") if floor else "")
    head = f'<tr><th></th><th colspan="{1 + floor}"></th>{groups}</tr><tr><th>structure</th>{lead}{single * len(results)}</tr>'
    rows = [_organ_row(label, organ, by_label, floor) for label, organ in sorted(known.items(), key=lambda item: item[1]["name"])]
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _organ_row(label: int, organ: dict, by_label: list[dict], floor: bool) -> str:
    cut = '<span class="cut" title="touches the border of the volume or of the field of view">cut</span>'
    own = [each.get(label) for each in by_label]
    marked = cut if any(each and each["at_border"] for each in own) else ""
    cells = [_cell(organ["reference_volume_ml"], 1)]
    cells += [_cell(organ["noise_dice"], 3)] if floor else []
    best = _best([each and each["dice"] for each in own], True)
    for each in own:
        each = each or {}
        cells.append(_cell(each.get("dice"), 3, each.get("dice") is not None and each.get("dice") == best))
        cells += [_cell(each.get(figure), 2) for figure in ("assd_mm", "hd95_mm")]
    return f"<tr><td>{escape(organ['name'].replace('_', ' '))}{marked}</td>{''.join(cells)}</tr>"


def _best(values: list, more: bool):
    """The best of several values; None where there is nothing to choose."""
    given = [value for value in values if value is not None]
    if len(values) < 2 or not given:
        return None
    return (max if more else min)(given)


def _cell(value: float | None, digits: int, best: bool = False, signed: bool = False) -> str:
    text = "–" if value is None else f"{value:{'+' if signed else ''}.{digits}f}"
    return f'<td class="best">{text}</td>' if best and value is not None else f"<td>{text}</td>"


def _heading(title: str, unit: str) -> str:
    return f'<th>{escape(title)}<span class="unit">{unit or "&nbsp;"}</span></th>'


def _name(number: int, name: str, tag: str = "th") -> str:
    return f'<{tag} class="text">{_swatch(number)}{escape(name)}</{tag}>'


def _swatch(number: int) -> str:
    return f'<i class="s{number} swatch"></i>'


def _range(tissue: dict) -> str:
    low, high = tissue["low_hu"], tissue["high_hu"]
    if low is None:
        return f"below {high:g} HU"
    return f"from {low:g} HU" if high is None else f"{low:g} to {high:g} HU"


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
