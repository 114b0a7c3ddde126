"""What the command line asks of train dice, train xgrm and train finetune."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rich.console import Console
from tyro.conf import Positional, UseAppendAction, arg


def _place(name: str):
    return arg(metavar=name)


@dataclass
class _TrainNetwork:
    cts: Positional[Annotated[tuple[Path, ...], _place("CT ...")]] = ()
    """CTs in Hounsfield units, or folders with CTs and whatever else, in the place of the configuration's."""
    config: Annotated[Path | None, _place("FILE.toml")] = None
    """What to train and how; there are examples in Resources/Training."""
    out: Annotated[Path | None, _place("FILE.safetensors")] = None
    """Weights to write."""
    start: Annotated[Path | None, _place("FILE")] = None
    """Weights to go on from."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], _place("key=value")] = ()
    """Values that go over the configuration's, several after one --set or one each: training.steps=100."""
    keys: bool = False
    """List the configuration's keys with defaults, units and bounds, and end."""

    name: ClassVar[str]

    def run(self, console: Console, report: Console) -> None:
        from .reconstruct import parse_settings
        from .train_network import Asked, train_network

        if self.keys:
            from ..training.plan import described

            for key, default, what in described(self.name):
                report.print(f"{key} = {default}\n    {what}", markup=False, highlight=False, soft_wrap=True)
            return
        changes = parse_settings(text for group in self.set for text in group)
        out = train_network(Asked(self.name, self.config, changes, self.cts, self.out, self.start), console, report)
        report.print(f"{out}: trained", markup=False, highlight=False, soft_wrap=True)


@dataclass
class TrainDiCE(_TrainNetwork):
    """Train DeepSparse's network on CTs, from scratch or further; after a stop the same command goes on."""

    name: ClassVar[str] = "dice"


@dataclass
class TrainXGRM(_TrainNetwork):
    """Train X-GRM's network on CTs, from scratch or further; after a stop the same command goes on."""

    name: ClassVar[str] = "xgrm"


@dataclass
class TrainFinetune(_TrainNetwork):
    """Finetune DeepSparse's network on CTs of yours: adapt it to them, then to few views; after a stop the same command goes on."""

    name: ClassVar[str] = "finetune"
