"""Pictures of a volume beside its trust maps: slices as PNGs for the report, and one sheet with titles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..grid import Volume
from .compare import in_hu
from .png import data_uri, diverging, grey
from .report_slices import WINDOWS, View
from .trust import STANDS_OUT, Trust

LIMITS = {"contradiction": 2 * STANDS_OUT, "prior": 300.0, "apart": 100.0}
"""Values at both ends of the colours of maps that have a sign."""

TITLES = {
    "contradiction": "contradiction, z",
    "determined": "determined, %",
    "prior": "prior, HU",
    "spread": "disagreement, HU",
    "apart": "apart, HU",
}
"""Maps that are shown, in this order."""

SPREAD_HU = 100.0
"""Largest disagreement that the greys tell apart."""


@dataclass(frozen=True)
class Slice:
    """A map cut across: its title, pixels (uint8 RGB) and the values at both ends of its colours."""

    name: str
    title: str
    pixels: np.ndarray
    ends: tuple[float, float]


def slices(trust: Trust, volume: Volume) -> list[Slice]:
    """The volume and its maps in the axial slice that holds the region of interest, or else the place that stands out most."""
    hu = in_hu(volume)
    view = _through(View.of(hu, volume.grid), trust, volume)
    width, level = WINDOWS["Soft tissue"]
    image = grey(view.axial(hu), width, level)
    found = [Slice("volume", "the volume", np.repeat(image[..., None], 3, axis=2), (level - width / 2, level + width / 2))]
    for name, title in TITLES.items():
        if name in trust.maps:
            found.append(Slice(name, title, *_coloured(name, view.axial(trust.maps[name].array))))
    return found


def _coloured(name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    if name in LIMITS:
        return diverging(values, LIMITS[name]), (-LIMITS[name], LIMITS[name])
    most = 100.0 if name == "determined" else SPREAD_HU
    return np.repeat(grey(values, most, most / 2)[..., None], 3, axis=2), (0.0, most)


def _through(view: View, trust: Trust, volume: Volume) -> View:
    """`view` with its axial slice through what matters."""
    region, places = trust.figures["region"], trust.figures["stand_out"]
    if not (region or places):
        return view
    position = region["centre_mm"] if region else places[0]["position_mm"]
    index = np.clip(np.round((volume.grid.world_to_index @ [*position, 1.0])[:3]), 0, np.array(volume.grid.size) - 1).astype(int)
    marker = np.zeros(volume.grid.shape, bool)
    marker[tuple(index[::-1])] = True
    return View(view.order, view.flips, view.spacing_mm, (int(np.argwhere(view.turned(marker))[0][0]), *view.at[1:]), view.shown)


def uris(trust: Trust, volume: Volume) -> list[tuple[Slice, str]]:
    """`slices` with the URI of each."""
    return [(each, data_uri(each.pixels)) for each in slices(trust, volume)]


def draw(trust: Trust, volume: Volume, path) -> None:
    """Write `slices` side by side as one PNG with titles and the colours' ends."""
    from .pictures import Sheet, write_above

    shown = slices(trust, volume)
    sheet = Sheet([max(each.pixels.shape[0] / each.pixels.shape[1] for each in shown)], len(shown))
    for column, each in enumerate(shown):
        axes = sheet.axes(0, column)
        axes.imshow(each.pixels, aspect="equal", interpolation="lanczos" if each.name == "volume" else "nearest")
        write_above(axes, each.title, f"{each.ends[0]:g} to {each.ends[1]:g}")
    sheet.write_below("what the measurements support, not what is true; research use only")
    sheet.save(path)
