"""How each volume of a report was made, from its own attributes."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from ..formats.files import options_without_folders
from ..grid import Grid
from ..methods.reconstruct import PREFIX


def how_made(found: dict) -> str:
    """The report's section: method, options, weights, machine, scan of each result, and what the reference says of itself."""
    parts = [_described(result["name"], facts_of(result), number) for number, result in enumerate(found["results"], start=1)]
    reference = found["reference"]
    parts.append(_described("reference", {"file": _file(reference["path"]), **_other(reference["attributes"])}, 0))
    return f"<section><h2>How each was made</h2>{''.join(parts)}</section>"


def facts_of(result: dict) -> dict[str, str]:
    """What a volume says of how it was made, in the order in which one reads it; what it does not say is left out."""
    said = {key.removeprefix(PREFIX): value for key, value in result["attributes"].items() if key.startswith(PREFIX)}
    grid = Grid.from_dict(result["grid"])
    voxels = " x ".join(map(str, grid.size)) + " voxels of " + " x ".join(f"{spacing:.4g}" for spacing in grid.spacing_mm) + " mm"
    preset = f", preset {said['preset']}" if said.get("preset") else ""
    steps = f", {said['steps']} steps" if said.get("steps") else ""
    ran = ", ".join(filter(None, [said.get("device"), said.get("backend"), f"{said['seconds']} s" if said.get("seconds") else ""]))
    facts = {
        "method": f"{said.get('method_title') or said.get('method')}{preset}{steps}" if said.get("method") else "the volume does not say",
        "voxels": voxels,
        "options": options_without_folders(said.get("options", "")),
        "weights": said.get("weights"),
        "ran on": ran,
        "field ran by": said.get("field_backend"),
        "Gaussians ran by": said.get("gaussian_backend"),
        "date": said.get("date"),
        "versions": _pairs(said.get("versions")),
        "geometry": said.get("geometry"),
        "scan": f"SHA-256 {said['scan_sha256']}" if said.get("scan_sha256") else "",
        "residual": said.get("reprojection_residual"),
        "file": _file(result["path"]),
    }
    return {key: value for key, value in facts.items() if value}


def _file(path: str) -> str:
    """Its name alone: a report goes to others, whom the folders of this machine do not concern."""
    return Path(path).name


def _other(attributes: dict[str, str]) -> dict[str, str]:
    """What a reference says in our words, where it is short; all else may name the patient."""
    ours = {key: str(value) for key, value in sorted(attributes.items()) if key.startswith(PREFIX) and key != PREFIX + "request"}
    if PREFIX + "options" in ours:
        ours[PREFIX + "options"] = options_without_folders(ours[PREFIX + "options"])
    return {key: value for key, value in ours.items() if len(value) < 200}


def _pairs(text: str | None) -> str:
    """JSON of an object as "key value, ..."; the text itself where it is none."""
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return text or ""
    return ", ".join(f"{key} {value}" for key, value in values.items()) if isinstance(values, dict) else str(values)


def _described(name: str, facts: dict[str, str], number: int) -> str:
    rows = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    return f'<h3><i class="s{number} swatch"></i>{escape(name)}</h3><dl>{rows}</dl>'
