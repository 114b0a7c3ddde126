"""train: what is learnt before any scan."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from .. import formats
from ..errors import InputError, nearest_name
from ..fields import mci
from ..jobs.files import check_place, written_beside
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

    out, presets = absolute(out), list(dict.fromkeys(presets))
    if out.suffix != mci.SUFFIX:
        raise InputError(f"{out}: weights are written as {mci.SUFFIX}; give this ending", "bad-output")
    for name in presets:
        if name not in PRESETS:
            raise InputError(f"no preset {name!r} that starts from nothing{nearest_name(name, PRESETS)}", "unknown-preset")
    if not presets:
        raise InputError(f"no preset to train for: give one or more of {', '.join(PRESETS)}", "bad-arguments")
    check_place(out)
    volume = formats.read_ct(absolute(ct))
    trained = {}
    for name in presets:
        trained[name] = Pretraining(volume, network_for(name, volume.grid), **values)
        _follow(trained[name], name, console)
    card = {"credit": credit or ct.name, "presets": {name: training.record() for name, training in trained.items()}}
    with written_beside(out) as beside:
        mci.write(beside, card, {name: training.field.head_parameters() for name, training in trained.items()})
    with written_beside(out.with_suffix(".md")) as beside:
        beside.write_text(mci.markdown(mci.read(out)), encoding="utf-8")
    return {name: training.last_loss for name, training in trained.items()}


def _follow(training, name: str, console: Console) -> None:
    """Train to the end and show how far it is."""
    start = time.monotonic()
    with view_of("train mci", console) as view:
        view.take({"event": "stage", "name": f"network of {name}"})
        for _ in training.losses():
            fraction, elapsed = training.done / training.steps, time.monotonic() - start
            event = {
                "event": "progress",
                "stage": f"network of {name}",
                "step": training.done,
                "steps": training.steps,
                "fraction": fraction,
            }
            view.take({**event, "remaining_s": elapsed * (1 / fraction - 1)})
