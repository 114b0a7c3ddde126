"""What was measured, and what it recommends: the rows of Resources/Evidence/evidence.json. Standard library only.

A row is one run: method, preset, volume, views, budget_s, size, device; psnr_db, ssim, seconds, peak_memory_mb, steps; whether a learned
prior has seen the volume (training: "seen", "held out" or "unknown"); machine and date. `Testing/Benchmarks/evidence.py` writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from . import resources
from .errors import InputError

EVIDENCE = "Evidence/evidence.json"
BASELINE = "admm-tv"
KEY = ("method", "preset", "volume", "views", "budget_s", "size", "device")
NEEDED = (*KEY, "psnr_db", "seconds")
"""What a row must have to recommend anything."""

_FAR = 2.0
_LATE = 1.1


@dataclass(frozen=True)
class Recommendation:
    """The method with the best mean PSNR among those that were measured.

    Parameters
    ----------
    method, preset : str
    views : int
        Number of views of the measurements: the nearest one to what was asked for.
    volumes : int
        Over how many volumes the mean is.
    psnr_db, seconds : float
        Means over the volumes.
    gain_db : float or None
        Mean difference to ADMM-TV on the same volumes in the same time; None where ADMM-TV has no rows.
    held_out, seen : bool
        Whether all of these volumes are known to be held out of the training of any prior; whether all of them were used for it.
    """

    method: str
    preset: str
    views: int
    volumes: int
    psnr_db: float
    seconds: float
    gain_db: float | None
    held_out: bool
    seen: bool


def load(path=None) -> list[dict]:
    """The rows of an evidence.json, by default of the one that comes with the library; none where there is no file.

    Raises
    ------
    InputError
        Where the file cannot be read.
    """
    if path is None:
        try:
            path = resources.find(EVIDENCE)
        except InputError:
            return []
    return list(_load(str(path), Path(path).stat().st_mtime_ns)) if Path(path).is_file() else []


@cache
def _load(path: str, changed: int) -> tuple[dict, ...]:
    try:
        rows = tuple(dict(row) for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the evidence {path} cannot be read ({error}): remove it or make it anew", "bad-evidence") from None
    if missing := next((name for row in rows for name in NEEDED if name not in row), None):
        raise InputError(f"the evidence {path} has a row without {missing}: remove it or make it anew", "bad-evidence")
    return rows


def recommend(
    rows: Iterable[dict], views: int, device: str = "cpu", budget_s: float | None = None, known: Iterable[str] | None = None
) -> Recommendation | None:
    """The method and preset with the best mean PSNR at the nearest number of views.

    Parameters
    ----------
    rows : iterable of dict
        What was measured, see `load`.
    views : int
        Of the scan.
    device : str
        "cpu" or "cuda"; rows of the other one do not count.
    budget_s : float, optional
        Seconds that a run may take; rows that took longer do not count.
    known : iterable of str, optional
        Names of the methods to choose from; all by default.

    Returns
    -------
    Recommendation or None
        None where nothing fits, or the nearest number of views is further away than a factor of two.
    """
    fitting = [row for row in rows if row["device"] == device and (known is None or row["method"] in known)]
    nearest = nearest_views(fitting, views)
    if nearest is None or is_far(nearest, views):
        return None
    fitting = [row for row in fitting if row["views"] == nearest and (budget_s is None or row["seconds"] <= _LATE * budget_s)]
    unseen = [row for row in fitting if row.get("training") != "seen"]
    runs = _comparable(_longest_runs(unseen or fitting))
    if not runs:
        return None
    psnr = {name: fmean(row["psnr_db"] for row in of) for name, of in runs.items()}
    best = max(psnr, key=psnr.__getitem__)
    baseline = max((value for (method, _), value in psnr.items() if method == BASELINE), default=None)
    return Recommendation(
        *best,
        views=nearest,
        volumes=len({row["volume"] for row in runs[best]}),
        psnr_db=round(psnr[best], 2),
        seconds=round(fmean(row["seconds"] for row in runs[best]), 1),
        gain_db=None if baseline is None else round(psnr[best] - baseline, 2),
        held_out=all(row.get("training") == "held out" for row in runs[best]),
        seen=not unseen,
    )


def expected_seconds(
    rows: Iterable[dict], method: str, preset: str, views: int, voxels: float, device: str = "cpu", budget_s: float | None = None
) -> float | None:
    """About how long a run takes, by the nearest ones that were measured, scaled by views and voxels.

    Parameters
    ----------
    rows : iterable of dict
        What was measured, see `load`.
    method, preset : str
    views : int
        Of the scan.
    voxels : float
        Of the volume.
    device : str
        "cpu" or "cuda".
    budget_s : float, optional
        Seconds after which the run ends.

    Returns
    -------
    float or None
        None where the method has not been measured with this preset on this device.
    """
    fitting = [row for row in rows if (row["method"], row["preset"], row["device"]) == (method, preset, device)]
    nearest = nearest_views(fitting, views)
    if nearest is None:
        return None
    scaled = [row["seconds"] / _done(row) * (views / nearest) * (voxels / row["size"] ** 3) for row in fitting if row["views"] == nearest]
    return fmean(scaled) if budget_s is None else min(budget_s, fmean(scaled))


def _done(row: dict) -> float:
    """The part of its steps that a run has made: those that its budget cut short would have taken longer."""
    done, _, steps = str(row.get("steps", "")).partition(" of ")
    return max(1, int(done)) / int(steps) if done.isdigit() and steps.isdigit() and int(steps) else 1.0


def nearest_views(rows: Iterable[dict], views: int) -> int | None:
    """The measured number of views nearest to `views` as a ratio; None without rows."""
    return min({row["views"] for row in rows}, key=lambda measured: (abs(math.log(measured / views)), measured), default=None)


def is_far(nearest: int, views: int) -> bool:
    """Whether what was measured at `nearest` views says nothing about `views`."""
    return max(nearest / views, views / nearest) > _FAR


def _longest_runs(rows: list[dict]) -> dict[tuple[str, str], dict[tuple, dict]]:
    """{(method, preset): {(volume, size): its row with the longest budget}}."""
    longest: dict[tuple[str, str], dict[tuple, dict]] = {}
    for row in sorted(rows, key=lambda row: row["budget_s"]):
        longest.setdefault((row["method"], row["preset"]), {})[row["volume"], row["size"]] = row
    return longest


def _comparable(runs: dict[tuple[str, str], dict[tuple, dict]]) -> dict[tuple[str, str], list[dict]]:
    """The rows on the volumes that all share; methods that were run on few of the volumes are left out."""
    most = max(map(len, runs.values()), default=0)
    runs = {name: of for name, of in runs.items() if 2 * len(of) >= most}
    while runs:
        shared = set.intersection(*(set(of) for of in runs.values()))
        if shared:
            return {name: [of[case] for case in sorted(shared)] for name, of in runs.items()}
        del runs[min(runs, key=lambda name: len(runs[name]))]
    return {}


def sentence(
    rows: Iterable[dict], views: int, device: str = "cpu", budget_s: float | None = None, known: Iterable[str] | None = None
) -> str:
    """What the evidence says, in one honest sentence; arguments as `recommend` has them."""
    rows = [row for row in rows if known is None or row["method"] in known]
    found = recommend(rows, views, device, budget_s)
    if found is not None:
        return _praise(found, views, device, budget_s)
    on_device = [row for row in rows if row["device"] == device]
    if not rows:
        return "No evidence yet: no method has been measured."
    if not on_device:
        return f"No evidence for {device.upper()}: only {' and '.join(sorted({row['device'].upper() for row in rows}))} was measured."
    nearest = nearest_views(on_device, views)
    if is_far(nearest, views):
        return f"No evidence for {views} views: the nearest number that was measured is {nearest}."
    return f"No evidence for {views} views in {budget_s:g} s: nothing that was measured ended in that time."


def _praise(found: Recommendation, views: int, device: str, budget_s: float | None) -> str:
    name = found.method if found.preset == "recommended" else f"{found.method} with the preset {found.preset}"
    within = "" if budget_s is None else f" in {budget_s:g} s"
    measured = "" if found.views == views else f", measured at {found.views}"
    volumes = f"{found.volumes} volume{'s' if found.volumes > 1 else ''}"
    if found.method == BASELINE:
        against = ""
    elif found.gain_db is None:
        against = f"; {BASELINE} was not measured beside it"
    else:
        against = f", {abs(found.gain_db):.1f} dB {'above' if found.gain_db >= 0 else 'below'} {BASELINE}"
    seen = "; a learned prior has seen these volumes" if found.seen else ""
    return (
        f"Best for {views} views{within} on {device.upper()}{measured}: {name}, {found.psnr_db:.1f} dB on {volumes} "
        f"in about {found.seconds:.0f} s{against}{seen}."
    )
