"""train: what is learnt before any scan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from .. import formats
from ..errors import InputError, nearest_name
from ..fields import mci
from ..formats.files import written_beside
from ..grid import Volume
from ..jobs.files import check_place
from ..weight_files import SUFFIX
from .running import view_of
from .scan import absolute


def train_mci(ct: Path, out: Path, presets: Iterable[str], values: dict, credit: str, console: Console) -> dict[str, float]:
    """Pretrain heads on `ct` and write them with their card to `out`, and the card in words beside it.

    Parameters
    ----------
    presets : iterable of str
        Of "naf", out of `training.mci.PRESETS`.
    values : dict
        steps, voxels and seed of `training.mci.Pretraining`.
    credit : str
        Which CT it is, for the card; the name of its file where empty.

    Returns
    -------
    dict of str to float
        Mean error of each network at the end, in shares of water's attenuation.
    """
    from ..training.mci import PRESETS, Pretraining, network_for

    out, presets = weights_place(out), list(dict.fromkeys(presets))
    check_seed(values["seed"])
    for name in presets:
        if name not in PRESETS:
            raise InputError(f"no preset {name!r} that starts from nothing{nearest_name(name, PRESETS)}", "unknown-preset")
    if not presets:
        raise InputError(f"no preset to train for: give one or more of {', '.join(PRESETS)}", "bad-arguments")
    check_place(out)
    volume = formats.read_ct(absolute(ct))
    records, heads = {}, {}
    for name in presets:
        training = Pretraining(volume, network_for(name, volume.grid), **values)
        _follow(training, name, console)
        records[name], heads[name] = training.record(), training.field.head_parameters()
    with written_beside(out) as beside:
        mci.write(beside, {"credit": credit or ct.name, "presets": records}, heads)
    with written_beside(out.with_suffix(".md")) as beside:
        beside.write_text(mci.markdown(mci.read(out)), encoding="utf-8")
    return {name: record["last_loss"] for name, record in records.items()}


def train_restoration(
    cts: Iterable[Path], out: Path, pairs: int, steps: int, seed: int, start: Path | None, credit: str, console: Console
) -> float:
    """Make pairs from CTs, train the restoration network on them and write its weights to `out`.

    Parameters
    ----------
    start : Path or None
        Weights to go on from.
    credit : str
        Which CTs they are, for the card; the names of their files where empty.

    Returns
    -------
    float
        By how many dB crops came closer to the truth, mean over the last tenth of the steps.
    """
    from ..networks import restoration
    from ..training.pairs import make_pair
    from ..training.restoration import Restoration

    out, cts = weights_place(out), list(cts)
    if not cts or pairs < 1 or steps < 1:
        raise InputError("nothing to train on: give at least one CT, one pair and one step", "bad-arguments")
    check_seed(seed)
    check_place(out)
    network, weights = restoration.load(absolute(start) if start else restoration.NONE)
    volumes = [finite(formats.read_ct(absolute(ct)), ct) for ct in cts]
    made = list(watched((make_pair(volumes, seed + number) for number in range(pairs)), pairs, "pairs", "train restoration", console))
    training = Restoration(made, steps, seed=seed, network=network)
    gains = list(watched(training.gains(), steps, "network", "train restoration", console))
    gain = float(np.mean(gains[-max(1, steps // 10) :]))
    card = {"credit": credit or ", ".join(ct.name for ct in cts), "pairs": pairs, "steps": steps, "seed": seed, "gain_db": round(gain, 3)}
    if weights:
        card["start"] = weights.source
    with written_beside(out) as beside:
        restoration.save(training.average, beside, card)
    return gain


def weights_place(out: Path) -> Path:
    """`out` as an absolute path, with the ending that weights have."""
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: weights are written as {SUFFIX}; give this ending", "bad-output")
    return absolute(out)


def check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"--seed {seed}: give 0 or more", "bad-arguments")


def finite(ct: Volume, path: Path) -> Volume:
    """`ct`, if all of its voxels are numbers."""
    if not np.isfinite(ct.array).all():
        raise InputError(f"{path} has voxels that are not finite: mend it first", "bad-volume")
    return ct


def _follow(training, name: str, console: Console) -> None:
    """Train to the end and show how far it is."""
    for _ in watched(training.losses(), training.steps, f"network of {name}", "train mci", console, lambda: training.done):
        pass


def watched(items: Iterable, count: int, stage: str, command: str, console: Console, done=None) -> Iterator:
    """Pass items on and show how many of `count` there were, or what `done` says."""
    start, passed = time.monotonic(), 0
    with view_of(command, console) as view:
        view.take({"event": "stage", "name": stage})
        for item in items:
            passed = done() if done else passed + 1
            fraction, elapsed = passed / count, time.monotonic() - start
            event = {"event": "progress", "stage": stage, "step": passed, "steps": count, "fraction": fraction}
            view.take({**event, "remaining_s": elapsed * (1 / fraction - 1)})
            yield item
