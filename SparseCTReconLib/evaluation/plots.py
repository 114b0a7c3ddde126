"""Plots of a report as inline SVG: lines and dots whose colours follow the page's style sheet (classes s0, the reference, to s6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH = 860
_LANE, _LEFT, _RIGHT, _TOP, _FOOT = 24, 190, 24, 10, 40


class Lane(NamedTuple):
    """A row of a dot plot: values from 0 to 1 in the order of the results, None for none, and the noise floor."""

    title: str
    values: Sequence[float | None]
    floor: float | None = None


def dots(lanes: Sequence[Lane], names: Sequence[str], axis: str) -> str:
    """A row for each of `lanes`, a dot in it for each result, a bar where the noise floor lies; higher is better, to the right."""
    shown = [value for lane in lanes for value in (*lane.values, lane.floor) if value is not None]
    low = max(0.0, math.floor(10 * min(shown, default=0.0) - 0.2) / 10)
    height = _TOP + _LANE * len(lanes) + _FOOT

    def x(value: float) -> float:
        return _LEFT + (max(value, low) - low) / (1 - low) * (_WIDTH - _LEFT - _RIGHT)

    ticks = [round(low + k / 10, 1) for k in range(round((1 - low) * 10) + 1)]
    ticks = ticks if len(ticks) <= 6 else ticks[:: math.ceil((len(ticks) - 1) / 5)]
    bottom = height - _FOOT
    parts = [_tick(x(tick), _TOP, bottom, f"{tick:g}") for tick in ticks]
    for number, lane in enumerate(lanes):
        parts += _lane(lane, names, _TOP + _LANE * (number + 0.5), x)
    parts.append(f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{height - 4}" text-anchor="middle">{escape(axis)}</text>')
    return _svg(height, parts, axis)


def _lane(lane: Lane, names: Sequence[str], y: float, x) -> list[str]:
    parts = [
        f'<text class="label" x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(lane.title)}</text>',
        f'<line class="rail" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
    ]
    if lane.floor is not None:
        said = f"{lane.title}: the segmenter against itself {lane.floor:.3f}"
        parts.append(
            f'<rect class="floor" x="{x(lane.floor) - 1.5:.1f}" y="{y - 9:.1f}" width="3" height="18"><title>{escape(said)}</title></rect>'
        )
    for number, (name, value) in enumerate(zip(names, lane.values), start=1):
        if value is not None:
            said = escape(f"{lane.title}, {name}: {value:.3f}")
            parts.append(f'<circle class="s{number} dot" cx="{x(value):.1f}" cy="{y:.1f}" r="5.5"><title>{said}</title></circle>')
    return parts


def lines(at_mm: Sequence[float], series: Sequence[Sequence[float]], axes: tuple[str, str], limits: tuple[float, float]) -> str:
    """A line for each of `series` over `at_mm`, the first (the reference) drawn last and strongest.

    Parameters
    ----------
    at_mm : sequence of float
        Abscissae, growing.
    series : sequence of sequences of float
        Ordinates.
    axes : tuple of str
        What is written beside the abscissa and the ordinate.
    limits : tuple of float
        Lowest and highest ordinate shown; what lies beyond is drawn at the edge.
    """
    left, height, (low, high) = 64, 300, limits
    bottom, start, length = height - _FOOT, at_mm[0], max(at_mm[-1] - at_mm[0], 1e-9)

    def x(value: float) -> float:
        return left + (value - start) / length * (_WIDTH - left - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - min(max(value, low), high)) / (high - low) * (bottom - _TOP)

    parts = [_tick(x(tick), _TOP, bottom, f"{tick:g}") for tick in _round_ticks(at_mm[0], at_mm[-1])]
    for tick in _round_ticks(low, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number in [*range(1, len(series)), 0]:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(at_mm, series[number]))
        parts.append(f'<polyline class="s{number} line" points="{points}"/>')
    parts.append(f'<text class="axis" x="{(left + _WIDTH) / 2:.0f}" y="{height - 4}" text-anchor="middle">{escape(axes[0])}</text>')
    middle = (_TOP + bottom) / 2
    parts.append(f'<text class="axis" transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(axes[1])}</text>')
    return _svg(height, parts, f"{axes[1]} over {axes[0]}")


def legend(names: Sequence[str], reference: str = "", floor: bool = False) -> str:
    """What the colours mean."""
    entries = [(0, reference)] if reference else []
    entries += list(enumerate(names, start=1))
    items = [f'<span class="key"><i class="s{number} swatch"></i>{escape(name)}</span>' for number, name in entries]
    if floor:
        items.append('<span class="key"><i class="floor-key"></i>the segmenter against itself (noise floor)</span>')
    return f'<p class="legend">{"".join(items)}</p>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return head + "".join(parts) + "</svg>"


def _tick(x: float, top: float, bottom: float, text: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
    return f'{line}<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'


def _round_ticks(low: float, high: float) -> list[float]:
    """About six round numbers from `low` to `high`."""
    raw = (high - low) / 6
    size = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
