"""How far a scan is from those that a network has learnt from: what a card keeps of these, and what is said of a scan beyond them.

A training writes `of(network, scans, orbits)` into its card as "range", with some dozens of scans as it has drawn them:

    numbers             of each of `NUMBERS` the least and the most; orbits are drawn in hundreds, or the rarest would be left out
    line_integrals      of quantiles of the line integrals, and of the detector's edges: means, spreads, and the farthest scan's distance
    features            the same of the mean and the spread of each channel that the network's encoder makes of the views

    distance = root mean square of (value - mean) / spread

Nothing here looks at the volume, so that the warning comes before it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Geometry
from ..scan import Scan
from .dice import DiCE
from .dice_views import Box, upright
from .posed_views import posed
from .xgrm import XGRM

FEWEST_SCANS = 8
"""That a range is made of."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.97, 0.995)
LOOKED_AT = 8
"""Views of a scan, evenly chosen, whose features count."""

FARTHER = 1.4
"""Times the distance of the farthest scan from which on another one is unlike them."""

LEAST_SPREAD = 0.3
"""Of the root mean square of all spreads, what each is taken for at least: some dozens of scans may be alike in one value by chance."""


class Number(NamedTuple):
    """A number of a scan that has a range: how it is said, and how far beyond the range is no matter, as a share and in its unit."""

    said: str
    unit: str
    share: float
    slack: float


NUMBERS = {
    "views": Number("views", "", 0.0, 0.0),
    "arc_deg": Number("an orbit", "degrees", 0.0, 10.0),
    "gap_deg": Number("a gap between neighbouring views", "degrees", 0.15, 1.0),
    "magnification": Number("a magnification", "", 0.15, 0.0),
    "field_mm": Number("a field of view", "mm", 0.2, 0.0),
    "columns": Number("detector columns", "", 0.5, 0.0),
    "offset": Number("a detector out of its place by a share of its width", "", 0.0, 0.03),
    "tilt_deg": Number("a source off the axial plane", "degrees", 0.0, 3.0),
}

SIZES = ("field_mm", "columns")
"""Of the numbers, those that follow from the bodies."""


def numbers(geometry: Geometry) -> dict[str, float]:
    """The numbers of `NUMBERS`."""
    angles = np.sort(np.mod(geometry.gantry_angles_rad, 2 * np.pi))
    gaps = np.sort(np.diff(np.append(angles, angles[0] + 2 * np.pi)))
    full = geometry.is_full_circle()
    source = geometry.source - np.asarray(geometry.isocentre_mm)
    tilts = np.degrees(np.arcsin(np.clip(source[:, 2] / np.linalg.norm(source, axis=1), -1, 1)))
    widths = np.multiply(geometry.detector_shape, geometry.pixel_mm)[::-1]
    return {
        "views": float(geometry.views),
        "arc_deg": 360.0 if full else float(np.degrees(2 * np.pi - gaps[-1])),
        "gap_deg": float(np.degrees(gaps[-1] if full or len(gaps) < 2 else gaps[-2])),
        "magnification": float((geometry.sdd_mm / geometry.sid_mm).mean()),
        "field_mm": Box.of(geometry).edges_mm[0],
        "columns": float(geometry.detector_shape[1]),
        "offset": float(np.abs(geometry.principal_point_mm.mean(axis=0) / widths).max()),
        "tilt_deg": float(np.abs(tilts).max()),
    }


def line_integrals(scan: Scan) -> np.ndarray:
    """Quantiles of the line integrals, and the mean of the detector's outermost columns and rows, in shares of what water as wide as the
    field of view gives."""
    projections, _ = upright(scan.projections, scan.geometry)
    water = scan.mu_water * Box.of(scan.geometry).edges_mm[0]
    edges = [projections[:, :, [0, -1]].mean(), projections[:, [0, -1]].mean()]
    return np.array([*np.quantile(projections, QUANTILES), *edges]) / water


@torch.no_grad()
def features(network: DiCE | XGRM, scan: Scan) -> np.ndarray:
    """Mean and spread of each channel that a network's encoder makes of some of a scan's views, on its coarsest scale."""
    if scan.views > LOOKED_AT:
        scan = scan.subset(np.linspace(0, scan.views - 1, LOOKED_AT).round().astype(int))
    box, training = Box.of(scan.geometry), network.training
    network.eval()
    if isinstance(network, DiCE):
        maps = network.encoder(network.looks(scan, box).images.to(network.device))[-1]
    else:
        views = posed(scan, box, network.size.edge, network.size.patch).to(network.device)
        maps = network.encoder(views.images).permute(0, 3, 1, 2)
    network.train(training)
    return np.concatenate([each.float().cpu().numpy() for each in (maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3)))])


def of(network: DiCE | XGRM | None, scans: Iterable[Scan], orbits: Iterable[Geometry] = ()) -> dict:
    """What a card keeps of scans, as JSON values.

    Parameters
    ----------
    network : DiCE or XGRM, optional
        That has learnt from them; without one there is nothing of features.
    scans : iterable of Scan
        With the views that a network is shown, not those that are there for training alone. Some dozens; they are gone through once.
    orbits : iterable of Geometry, optional
        More that are drawn likewise, of which everything but the size of the field and of the detector counts.

    Raises
    ------
    InputError
        For fewer than `FEWEST_SCANS`.
    """
    rows, integrals, seen = [], [], []
    for scan in scans:
        rows.append(list(numbers(scan.geometry).values()))
        integrals.append(line_integrals(scan))
        if network is not None:
            seen.append(features(network, scan))
    if len(rows) < FEWEST_SCANS:
        raise InputError(f"{len(rows)} scans are too few to say what range they have: give {FEWEST_SCANS} or more", "no-data")
    ranges = {name: (min(values), max(values)) for name, values in zip(NUMBERS, zip(*rows))}
    for geometry in orbits:
        more = {name: value for name, value in numbers(geometry).items() if name not in SIZES}
        ranges |= {name: (min(ranges[name][0], value), max(ranges[name][1], value)) for name, value in more.items()}
    made = {
        "scans": len(rows),
        "numbers": {name: [_short(low), _short(high)] for name, (low, high) in ranges.items()},
        "line_integrals": _cloud(integrals),
    }
    return made | ({"features": _cloud(seen)} if seen else {})


def _cloud(values: list[np.ndarray]) -> dict:
    """Means, spreads and the farthest distance of vectors."""
    array = np.array(values, dtype=float)
    made = {"mean": [_short(n) for n in array.mean(axis=0)], "spread": [_short(n) for n in array.std(axis=0)]}
    return {**made, "farthest": _short(max(distance(made, row) for row in array))}


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def distance(cloud: dict, values: np.ndarray) -> float:
    """How far a vector is from those of a card, in their spreads."""
    mean, spread = (np.array(cloud[name], dtype=float) for name in ("mean", "spread"))
    spread = np.maximum(spread, LEAST_SPREAD * np.sqrt(np.mean(spread**2)) + 1e-6)
    return float(np.sqrt(np.mean(((values - mean) / spread) ** 2)))


def warning(card: dict, name: str, scan: Scan, seen: Callable[[], np.ndarray]) -> str:
    """A sentence where a scan is unlike those that weights have learnt from; empty where it is like them.

    Parameters
    ----------
    card : dict
        Of the weights.
    name : str
        The weights'.
    scan : Scan
    seen : callable
        Gives what `features` gives.
    """
    known = card.get("range")
    if not isinstance(known, dict):
        return f"the card of the weights {name} does not say what scans they have learnt from: compare what they make with admm-tv"
    try:
        found = [*_beyond(known.get("numbers", {}), numbers(scan.geometry)), *_unlike(known, scan, seen)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the range in the card of the weights {name} cannot be read ({error}): copy them anew", "bad-weights") from None
    if not found:
        return ""
    return f"this scan is unlike those that the weights {name} have learnt from: {'; '.join(found)}: do not trust what they add"


def _beyond(ranges: dict, found: dict[str, float]) -> list[str]:
    said = []
    if unknown := ranges.keys() - NUMBERS.keys():
        raise ValueError(f"{', '.join(unknown)} unknown")
    for name, about in NUMBERS.items():
        if name not in ranges or (name == "gap_deg" and said):  # which follows from views and orbit
            continue
        (low, high), value = ranges[name], found[name]
        slack = about.slack + 1e-6
        if low * (1 - about.share) - slack <= value <= high * (1 + about.share) + slack:
            continue
        between = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        unit = f" {about.unit}" if about.unit else ""
        if name in ("views", "columns"):
            said.append(f"it has {value:.4g} {about.said}, they {between}")
        else:
            said.append(f"it has {about.said} of {value:.3g}{unit}, they {between}{unit}")
    return said


def _unlike(known: dict, scan: Scan, seen: Callable[[], np.ndarray]) -> list[str]:
    said = []
    for name, values, text in (
        ("line_integrals", lambda: line_integrals(scan), "its line integrals are others (another part of the body, cut off, other units)"),
        ("features", seen, "its projections look otherwise to the network"),
    ):
        if name in known:
            far = distance(known[name], values()) / max(known[name]["farthest"], 1e-6)
            if far > FARTHER:
                said.append(f"{text}, {far:.1f} times as far from the mean as the farthest of them")
    return said
