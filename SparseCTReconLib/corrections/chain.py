"""Corrections one after the other, in an order that makes sense, and what they did in the scan's provenance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, nearest_name, within_sentence
from ..scan import Scan
from .air import UnattenuatedBeam
from .base import HISTORY, INTENSITIES, LINE_INTEGRALS, Acquisition, Correction, history
from .beam_hardening import BeamHardening
from .dead_pixels import DeadPixels
from .fields import DarkFlat
from .intensities import Intensities
from .lag import Lag
from .logarithm import Logarithm
from .offset import DetectorOffset
from .redundancy import DisplacedDetector, ShortScan, is_weighed
from .rings import Rings
from .scatter import Scatter
from .truncation import Truncation

log = logging.getLogger("SparseCTReconLib.corrections")

ORDER: tuple[type[Correction], ...] = (
    DarkFlat,
    DeadPixels,
    Lag,
    UnattenuatedBeam,
    Scatter,
    Logarithm,
    BeamHardening,
    Rings,
    DetectorOffset,
    Truncation,
    DisplacedDetector,
    ShortScan,
)
"""The order in which the physics happened, backwards: the detector's faults, the beam, what the object scattered, the logarithm, what lines
of the object are measured, and last what a reconstruction's filter wants of them."""

CORRECTIONS = {kind.name: kind for kind in ORDER}


def correct(data: Scan | Intensities, corrections: Iterable[Correction], progress: Callable[[str, int, int], None] | None = None) -> Scan:
    """Apply corrections to a scan, or to raw intensities, which become one.

    Parameters
    ----------
    data : Scan or Intensities
        Stays as it is. Line integrals are turned back into intensities (over I0) for those that correct these.
    corrections : iterable of Correction
        In an order that `check_order` accepts; those that are off are left out.
    progress : callable, optional
        Called with the correction's title, its number and how many there are, before each.

    Returns
    -------
    Scan
        Its provenance says what was applied, with which parameters, and what was found.

    Raises
    ------
    InputError
        For a wrong order, or what a correction cannot work on.
    """
    wanted = [each for each in corrections if each.mode != "off"]
    check_order(wanted)
    _check_again(data, wanted)
    state, applied = _opened(data), []
    for number, each in enumerate(wanted):
        if progress:
            progress(each.title, number, len(wanted))
        state = state.within(each.domain)
        if each.mode == "measured":
            each = each.measured(state)
        state, facts = each.apply(state)
        entry = each.record() | ({"found": facts} if facts else {})
        log.info("%s: %s", each.title, said(entry))
        applied.append(entry)
    state = state.within(LINE_INTEGRALS)
    provenance = dict(data.provenance)
    provenance[HISTORY] = [*history(data), *applied]
    return Scan(state.values, state.geometry, data.photons, data.mu_water, provenance)


def check_order(corrections: Iterable[Correction]) -> None:
    """Refuse a chain in which one comes twice, or after one that has to come behind it.

    Raises
    ------
    InputError
    """
    before: Correction | None = None
    for each in corrections:
        if before is not None:
            first, second = ORDER.index(type(before)), ORDER.index(type(each))
            if first == second:
                raise InputError(f"{each.name} stands in the chain twice: keep one", "bad-correction")
            if first > second:
                raise InputError(
                    f"{each.name} comes after {before.name} in the chain: put it before ({', '.join(kind.name for kind in ORDER)})",
                    "bad-correction",
                )
        before = each


def parse(values: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Correction]:
    """Corrections from JSON values or from the command line's texts.

    Parameters
    ----------
    values : mapping or list of mappings
        {"rings": "measured", "scatter.fraction": "0.2", "i0": {"mode": "on", "value": 1000}} in any order, or a list of
        {"name": "rings", "mode": "on", ...} in the order in which they are applied.

    Raises
    ------
    InputError
        For an unknown correction or parameter (with the nearest name) or a wrong value.
    """
    if isinstance(values, Mapping):
        parsed = [_one(name, given) for name, given in _grouped(values).items()]
        return sorted(parsed, key=lambda each: ORDER.index(type(each)))
    parsed = []
    for given in values:
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise InputError(f'a correction is {given!r}: give an object with "name" and its parameters', "bad-correction")
        parsed.append(_one(given["name"], {key: value for key, value in given.items() if key != "name"}))
    check_order([each for each in parsed if each.mode != "off"])
    return parsed


def described(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and texts of an entry of the provenance's history without its name, mode and what is nothing."""
    kept = {key: value for key, value in entry.items() if key not in ("name", "mode", "found") and value is not None}
    return kept | dict(entry.get("found", {}))


def said(entry: Mapping[str, Any]) -> str:
    """An entry of the provenance's history for a person."""
    values = ", ".join(f"{key} {_short(value)}" for key, value in described(entry).items())
    return f"{entry['mode']}" + (f" ({values})" if values else "")


def _short(value) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(map(_short, value)) if isinstance(value, (list, tuple)) else str(value)


def _grouped(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters by correction: a bare name gives its mode; a parameter alone switches its correction on."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name, dot, field = key.partition(".")
        name = name.replace("_", "-")
        group = groups.setdefault(name, {})
        given = {field.replace("-", "_"): value} if dot else dict(value) if isinstance(value, Mapping) else {"mode": value}
        if twice := group.keys() & given.keys():
            raise InputError(f"{name}: {twice.pop()} is given twice: keep one", "bad-correction")
        group.update(given)
    return groups


def _one(name: str, values: Mapping[str, Any]) -> Correction:
    if name not in CORRECTIONS:
        raise InputError(f"no correction {name!r}{nearest_name(name, CORRECTIONS)}", "bad-correction")
    kind = CORRECTIONS[name]
    for key in values:
        if key not in kind.model_fields:
            raise InputError(f"{name} has no parameter {key!r}{nearest_name(key, kind.model_fields)}", "bad-correction")
    try:
        return kind(**{key: _value(kind, key, value) for key, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise InputError(f"{name}.{key}={first['input']!r}: {within_sentence(first['msg'])}", "bad-correction") from None


def _value(kind: type[Correction], key: str, value):
    """A list of numbers may be written with commas."""
    if isinstance(value, str) and isinstance(kind.model_fields[key].default, tuple):
        try:
            return [float(number) for number in value.strip("[]() ").split(",")]
        except ValueError:
            raise InputError(f"{kind.name}.{key}={value!r}: give numbers with commas between them", "bad-correction") from None
    return value


def _opened(data: Scan | Intensities) -> Acquisition:
    if isinstance(data, Intensities):
        return Acquisition(data.values, INTENSITIES, data.geometry, data.mu_water, data.i0)
    return Acquisition(data.projections, LINE_INTEGRALS, data.geometry, data.mu_water)


def _check_again(data: Scan | Intensities, wanted: list[Correction]) -> None:
    """A correction that a scan has had already, or one behind weights, would be applied to something else than it is for."""
    done = history(data)
    if wanted and is_weighed(data):
        raise InputError("the scan's rows are weighed for a filter already: correct the scan from before", "bad-correction")
    for each in wanted:
        if any(entry["name"] == each.name for entry in done) and not isinstance(each, DetectorOffset):
            raise InputError(
                f"{each.name} was applied to this scan already, as its provenance says: correct the scan from before", "bad-correction"
            )
