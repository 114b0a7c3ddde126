"""train dice, train xgrm, train finetune: from a plan to weights, in as many goes and processes as it takes."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from ..errors import InputError
from ..jobs.files import check_place
from ..machine import cache_folder
from .scan import absolute
from .train import watched, weights_place
from .train_slice_fixer import NAMED, claim


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Parameters
    ----------
    name : str
        Of a plan, see `training.plan.PLANS`.
    config : Path or None
    changes : dict of str to str
        Values by their keys, that go over the file's.
    cts : sequence of Path
        In the place of the plan's.
    out, start : Path or None
        Likewise.
    """

    name: str
    config: Path | None
    changes: dict[str, str]
    cts: Sequence[Path] = ()
    out: Path | None = None
    start: Path | None = None


def train_network(asked: Asked, console: Console, report: Console) -> Path:
    """Train, write the weights and say how fast and how good it was; returns the file.

    Raises
    ------
    InputError
        Where the plan cannot be followed, or a loss is no number.
    """
    from ..training import machines
    from ..training.course import course
    from ..training.held_out import parted

    plan = plan_of(asked)
    out = weights_place(plan.output.weights)
    work = absolute(plan.output.work) if plan.output.work else out.with_suffix(".training")
    going = course(plan, work)
    network = going.network()
    going.check(network)
    paths = parted([absolute(path) for path in plan.data.cts], plan.data.held_out)
    fabric = machines.begin(plan.machine)
    machines.by_the_first(fabric, lambda: check_place(out))
    if fabric.global_rank:
        console, report = Console(quiet=True), Console(quiet=True)
    cts, held_out = _prepared(plan, paths, fabric, console)
    names = sorted({ct.source for ct in cts})
    machines.by_the_first(fabric, lambda: claim(work, going.identity(names), "--set output.work=FOLDER"))
    for part in going.parts:
        if not going.place(part).exists():
            learner = _learnt(going, part, network, cts, fabric, (console, report))
            machines.by_the_first(fabric, partial(_save, going, learner, part, names))
        network, _ = going.load(going.place(part))
    machines.by_the_first(fabric, lambda: _finish(going, network.to(fabric.device), held_out, out, asked, report))
    return out


def plan_of(asked: Asked):
    """The plan that a command line asks for.

    Raises
    ------
    InputError
        Where something in it is wrong, or it names no file for the weights.
    """
    from ..training import plan as plans

    changes = dict(asked.changes)
    for key, value in (("data.cts", [str(path) for path in asked.cts]), ("output.weights", asked.out), ("network.start", asked.start)):
        if value:
            changes[key] = value if isinstance(value, list) else str(value)
    plan = plans.read(asked.name, asked.config, changes)
    if plan.output.weights is None:
        raise InputError("no file for the weights: give --out FILE.safetensors, or output.weights in the configuration", "bad-output")
    return plan


def _prepared(plan, paths: tuple[list[Path], list[Path]], fabric, console: Console) -> tuple[list, list]:
    """CTs to learn from, made alike, and those that are kept out, if figures on them are wanted; what is no CT is listed."""
    from ..training import machines
    from ..training.bodies import MadeUpLimb
    from ..training.prepared import Prepared, prepare

    data, (learnt_from, kept_out) = plan.data, paths
    cache = absolute(data.cache) if data.cache else cache_folder() / "cts"

    def alike() -> tuple[Prepared, list]:
        found = prepare(learnt_from, data.how(), cache) if learnt_from or not data.made_up_limbs else Prepared([], {})
        return found, prepare(kept_out, data.how(), cache).cts if kept_out and plan.card.figures else []

    found, held_out = machines.by_the_first(fabric, alike) or alike()
    if found.skipped:
        console.print(f"{len(found.skipped)} left out:", markup=False, highlight=False)
        for why in found.skipped.values():
            console.print(f"  {why}", markup=False, highlight=False, soft_wrap=True)
    return [*found.cts, *(MadeUpLimb(seed) for seed in range(data.made_up_limbs))], held_out


def _learnt(going, part: str, network, cts: list, fabric, consoles: tuple[Console, Console]):
    """A network that has gone through a part, from where it was stopped."""
    from ..training import logs, machines
    from ..training.course import learnt
    from ..training.throughput import Meter

    (console, report), output = consoles, going.plan.output
    learner = going.learner(part, network, cts, fabric, machines.workers(going.plan.machine))
    if going.state(part).exists():
        learner.restore_state(going.state(part))
    writing = output.logs and machines.by_the_first(fabric, lambda: logs.Logs(absolute(output.logs) / part, learner.done))
    written = writing or logs.Silent()
    meter = Meter(learner)
    plain = {"markup": False, "highlight": False, "soft_wrap": True}
    steps = learnt(learner, going.state(part), output.checkpoint_s, lambda text: console.print(f"warning: {text}", **plain))
    for losses in watched(steps, learner.settings.steps, part, f"train {part}", console, lambda: learner.done):
        written.add({**losses, "rate": learner.rate(), **meter.speed()._asdict()}, learner.done)
    written.close()
    report.print(f"{part}: {learner.done} steps, {meter.speed()}", **plain)
    return learner


def _save(going, learner, part: str, names: list[str]) -> None:
    """Write a part's averaged weights with their card; only the last part's tells what scans they have learnt from."""
    last = part == going.parts[-1]
    learner.save(going.place(part), going.card(names, learner.averaged(), learner.examples) if last else {})
    going.state(part).unlink(missing_ok=True)


def _finish(going, network, held_out: list, out: Path, asked: Asked, report: Console) -> None:
    """Put the weights in their place, with figures on CTs that were kept out if they are wanted, and clear the working folder."""
    from .. import weight_files
    from ..formats.files import written_beside
    from ..training.held_out import figures

    made = going.place(going.parts[-1])
    file = weight_files.read(made, going.form, going.method)
    card = file.card
    if held_out:
        few, most = going.views()
        found = figures(held_out, sorted({few, (few + most) // 2, most}), lambda scan, grid: going.reconstruct(network, scan, grid))
        card = {**card, "held_out": {**found, "command": command_of(asked)}}
        for row in found["figures"]:
            said = f"{row['views']} views, {row['voxels']} voxels: {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.3f}"
            report.print(f"held out, {said}", markup=False, highlight=False)
    with written_beside(out) as beside:
        weight_files.write(beside, file.form, card, file.arrays)
    for part in going.parts:
        for place in (going.place(part), going.state(part)):
            place.unlink(missing_ok=True)
        shutil.rmtree(going.work / f"{part}-examples", ignore_errors=True)
    (going.work / NAMED).unlink(missing_ok=True)
    if not any(going.work.iterdir()):
        going.work.rmdir()


def command_of(asked: Asked) -> str:
    """The command that trains the same again, for a shell; files without their folders, which may name people."""
    words = ["sparsectrecon", "train", asked.name, *(path.name for path in asked.cts)]
    for name, path in (("config", asked.config), ("start", asked.start), ("out", asked.out)):
        words += [f"--{name}", path.name] if path else []
    told = {key: value for key, value in asked.changes.items() if not key.startswith(("output.", "data.c", "machine."))}
    changes = [f"{key}={Path(value).name if key == 'network.start' else value}" for key, value in told.items()]
    return shlex.join([*words, *(["--set", *changes] if changes else [])])
