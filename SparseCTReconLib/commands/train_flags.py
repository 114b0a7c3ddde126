"""What the command line asks of the trainings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rich.console import Console
from tyro.conf import Positional, UseAppendAction

from .flags import PLAIN, place


@dataclass
class _TrainNetwork:
    cts: Positional[Annotated[tuple[Path, ...], place("CT ...")]] = ()
    """CTs in Hounsfield units, or folders with CTs and whatever else, in the place of the configuration's."""
    config: Annotated[Path | None, place("FILE.toml")] = None
    """What to train and how; there are examples in Resources/Training."""
    out: Annotated[Path | None, place("FILE.safetensors")] = None
    """Weights to write."""
    start: Annotated[Path | None, place("FILE")] = None
    """Weights to go on from."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], place("key=value")] = ()
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
                report.print(f"{key} = {default}\n    {what}", **PLAIN)
            return
        changes = parse_settings(text for group in self.set for text in group)
        out = train_network(Asked(self.name, self.config, changes, self.cts, self.out, self.start), console, report)
        report.print(f"{out}: trained", **PLAIN)


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


@dataclass
class TrainMCI:
    """Pretrain the head of neural fields on a CT, for --set mci=OUT (minutes)."""

    ct: Positional[Annotated[Path, place("CT")]]
    """CT in Hounsfield units: NRRD, NIfTI, MetaImage, or the folder of a DICOM series."""
    out: Positional[Annotated[Path, place("OUT.safetensors")]]
    """Weights to write; a card in words, OUT.md, lands beside them."""
    presets: Annotated[tuple[str, ...], place("NAME ...")] = ("from-scratch", "paper")
    """Presets of naf whose networks to train for."""
    steps: Annotated[int, place("N")] = 1500
    """Steps of training of each network."""
    voxels: Annotated[int, place("N")] = 16384
    """Voxels in a step, at most."""
    seed: Annotated[int, place("S")] = 0
    """Seed of the start and of the voxels drawn."""
    credit: Annotated[str, place("TEXT")] = ""
    """Which CT it is, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .train import train_mci

        values = {"steps": self.steps, "voxels": self.voxels, "seed": self.seed}
        errors = train_mci(self.ct, self.out, self.presets, values, self.credit, console)
        said = ", ".join(f"{name} to a mean error of {1000 * error:.0f} HU" for name, error in errors.items())
        report.print(f"{self.out}: trained {said}", **PLAIN)


@dataclass
class TrainRestoration:
    """Train the network that restores ADMM-TV's volumes on CTs (an hour or more on a CPU)."""

    cts: Positional[Annotated[tuple[Path, ...], place("CT ...")]]
    """CTs in Hounsfield units: NRRD, NIfTI, MetaImage, or folders of DICOM series."""
    out: Annotated[Path, place("FILE.safetensors")]
    """Weights to write."""
    pairs: Annotated[int, place("N")] = 200
    """Random scans to reconstruct and to learn from."""
    steps: Annotated[int, place("N")] = 10_000
    """Steps of training."""
    start: Annotated[Path | None, place("FILE")] = None
    """Weights to go on from."""
    seed: Annotated[int, place("S")] = 0
    """Seed of the pairs, of the start and of the crops."""
    credit: Annotated[str, place("TEXT")] = ""
    """Which CTs they are, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .train import train_restoration

        gain = train_restoration(self.cts, self.out, self.pairs, self.steps, self.seed, self.start, self.credit, console)
        report.print(f"{self.out}: trained, {gain:+.2f} dB on crops of the training pairs", **PLAIN)


@dataclass
class TrainSliceFixer:
    """Train what repairs the slices in DiffNR on CTs (some hours on a CPU); after a stop the same command goes on."""

    cts: Positional[Annotated[tuple[Path, ...], place("CT ...")]]
    """CTs in Hounsfield units, or folders of them: NRRD, NIfTI, MetaImage, or folders of DICOM series."""
    out: Annotated[Path, place("FILE.safetensors")]
    """Weights to write."""
    pairs: Annotated[int, place("N")] = 200
    """Random scans to reconstruct and to learn from."""
    steps: Annotated[int, place("N")] = 10_000
    """Steps of training."""
    start: Annotated[Path | None, place("FILE")] = None
    """Weights to go on from."""
    sd_turbo: Annotated[str, place("FOLDER")] = ""
    """SD-Turbo's weights, to train adapters to them; a compact network by default."""
    accept_sd_turbo_licence: bool = False
    """You accept the licence of SD-Turbo's weights."""
    clip: Annotated[str, place("FOLDER")] = ""
    """CLIP's weights, whose perceptual and adversarial losses are added; SSIM and squares alone by default."""
    work: Annotated[Path | None, place("FOLDER")] = None
    """Working folder, emptied at the end; beside FILE by default."""
    seed: Annotated[int, place("S")] = 0
    """Seed of the pairs and of the slices."""
    credit: Annotated[str, place("TEXT")] = ""
    """Which CTs they are, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .train_slice_fixer import train_slice_fixer

        make = {"start": self.start, "sd_turbo": self.sd_turbo, "licence_accepted": self.accept_sd_turbo_licence, "clip": self.clip}
        gain = train_slice_fixer(self.cts, self.out, self.pairs, self.steps, self.seed, make, self.work, self.credit, console)
        report.print(f"{self.out}: trained, {gain:+.2f} dB on slices of the training pairs", **PLAIN)
