"""train slice-fixer: what is made on the way lies in a working folder, from which the same command goes on after a stop."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from rich.console import Console

from .. import formats
from ..errors import InputError
from ..formats.files import written_beside
from ..grid import Volume
from ..jobs.files import check_place, write_json
from .scan import absolute
from .train import check_seed, finite, watched, weights_place

NAMED, STATE = "training.json", "state.pt"
SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
STEPS_BETWEEN_STATES = 200


def train_slice_fixer(
    cts: Iterable[Path], out: Path, pairs: int, steps: int, seed: int, make: dict, work: Path | None, credit: str, console: Console
) -> float:
    """Make pairs of stacks from CTs, train a SliceFixer on them and write its weights to `out`.

    Parameters
    ----------
    cts : iterable of Path
        CTs in HU, or folders of them.
    make : dict
        "start", weights of the compact make to go on from or None; or "sd_turbo", the folder of SD-Turbo, and "licence_accepted"; "clip",
        the folder of CLIP, whose losses are added, or "".
    work : Path or None
        Working folder; beside `out` by default. It is emptied when all is done.
    credit : str
        Which CTs they are, for the card; the names of their files where empty.

    Returns
    -------
    float
        By how many dB slices came closer to the truth, mean over the last tenth of the steps.
    """
    from ..training.slice_fixer import SliceTraining

    out, files = weights_place(out), cts_among(cts)
    if not files or pairs < 1 or steps < 1:
        raise InputError("nothing to train on: give at least one CT, one pair and one step", "bad-arguments")
    check_seed(seed)
    check_place(out)
    perceptual = _perceptual(make.pop("clip", ""))
    learner = _learner(seed, **make)
    folder = absolute(work) if work else out.with_suffix(".training")
    claim(folder, {"cts": [file.name for file in files], "seed": seed})
    made = _pairs(files, pairs, seed, folder, console)
    training = SliceTraining(made, learner, steps, seed, perceptual)
    state = folder / STATE
    if state.exists():
        training.restore_state(state)
    gains = []
    for gain in watched(training.gains(), steps, "SliceFixer", "train slice-fixer", console, lambda: training.done):
        gains.append(gain)
        if training.done % STEPS_BETWEEN_STATES == 0 and training.done < steps and not training.astray:
            training.save_state(state)
    gain = float(np.mean(gains[-max(1, steps // 10) :])) if gains else 0.0
    anatomies = sorted({pair.organ for pair in made})
    card = {
        "credit": credit or ", ".join(file.name for file in files),
        "anatomies": anatomies,
        "pairs": pairs,
        "steps": steps,
        "seed": seed,
    }
    with written_beside(out) as beside:
        training.save(beside, {**card, "gain_db": round(gain, 3)})
    _clear(folder)
    return gain


def cts_among(paths: Iterable[Path]) -> list[Path]:
    """The CTs that are meant by files and folders: a folder stands for the CTs in it, or for itself where it is a DICOM series."""
    found = []
    for path in map(absolute, paths):
        inside = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES)) if path.is_dir() else []
        found += inside or [path]
    return found


def _learner(seed: int, start: Path | None = None, sd_turbo: str = "", licence_accepted: bool = False):
    """What learns: a fresh or a given compact network, or SD-Turbo's adapters."""
    import torch

    from .. import weight_files
    from ..networks import compact_fixer
    from ..networks import sd_turbo as turbo
    from ..training.slice_fixer import CompactLearner, SDTurboLearner

    torch.manual_seed(seed)
    if sd_turbo:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if start:
            return SDTurboLearner(turbo.load(sd_turbo, absolute(start), device, licence_accepted))
        return SDTurboLearner(turbo.begin(sd_turbo, device, licence_accepted))
    if start:
        return CompactLearner(
            compact_fixer.from_file(weight_files.read(absolute(start), compact_fixer.FORMAT, "weights of a compact fixer"))
        )
    return CompactLearner()


def _perceptual(folder: str):
    """The losses that CLIP gives, if its folder is given; the discriminator begins the same each time."""
    if not folder:
        return None
    import torch

    from ..networks import perceptual

    clip = perceptual.load(folder, "cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return perceptual.PerceptualLoss(clip)


def claim(folder: Path, named: dict, how: str = "--work") -> None:
    """Make the working folder, or go on in it if it is of the same training; `how` another one is given.

    Raises
    ------
    InputError
        Where it is another training's, or cannot be written.
    """
    place = folder / NAMED
    check_place(place)
    if not place.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} holds something else: give another folder with {how}", "bad-output")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(place, named)
    elif _named(place) != named:
        raise InputError(
            f"{folder} belongs to a training with other CTs or another seed: delete it, or give another with {how}", "bad-output"
        )


def _named(place: Path) -> dict | None:
    """What a working folder says that it is of; None where that is damaged."""
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _pairs(files: list[Path], count: int, seed: int, folder: Path, console: Console) -> list:
    """The pairs, those that lie in the folder already taken from it."""
    from ..training import slice_pairs

    opened: list[tuple[Volume, str]] = []

    def pair(number: int, kind: str):
        place = folder / f"{number:05d}.npz"
        if place.exists():
            return slice_pairs.read(place)
        if not opened:
            volumes = [finite(formats.read_ct(file), file) for file in files]
            opened.extend((volume, slice_pairs.organ_of(volume)) for volume in volumes)
        made = slice_pairs.make_stack_pair(*map(list, zip(*opened)), seed + number, kind)
        with written_beside(place) as beside:
            slice_pairs.write(made, beside)
        return made

    kinds = islice(cycle(slice_pairs.KINDS), count)
    making = (pair(number, kind) for number, kind in enumerate(kinds))
    return list(watched(making, count, "pairs", "train slice-fixer", console))


def _clear(folder: Path) -> None:
    """Delete what this command wrote into the working folder, and the folder if nothing else is in it."""
    for place in (*folder.glob("[0-9]" * 5 + ".npz"), folder / STATE, folder / NAMED):
        place.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
