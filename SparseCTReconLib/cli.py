"""The command `sparsectrecon`. Exit 0: done; 2: the input is wrong, one sentence says what; 1: it failed, the log's place is said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, UseAppendAction, arg

from .commands.parsing import parse
from .commands.train_flags import TrainDiCE, TrainFinetune, TrainXGRM
from .commands.weights_flags import NovelViews, WeightsConvert, WeightsGet, WeightsList
from .errors import InputError

PROGRAM = "sparsectrecon"


def _place(name: str):
    return arg(metavar=name)


@dataclass
class Demo:
    """Simulate a scan of the bundled head, reconstruct it with FDK, ADMM-TV and NAF, and compare."""

    out: Annotated[Path, _place("DIR")] = Path("demo")
    """Folder for volumes, metrics.json and demo.png."""
    budget: Annotated[float, _place("SECONDS")] = 40.0
    """Seconds for NAF."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.demo import demo

        _positive("--budget", self.budget)
        demo(self.out, self.budget, console, report)


@dataclass
class Simulate:
    """Simulate a noisy cone-beam scan of a CT."""

    ct: Positional[Annotated[Path, _place("CT")]]
    """CT in Hounsfield units: NRRD, NIfTI, MetaImage, or the folder of a DICOM series."""
    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder to write."""
    views: Annotated[int, _place("N")] = 50
    """Number of views."""
    preset: Annotated[str, _place("NAME")] = "linac"
    """Machine: linac, linac-half-fan, c-arm, dental or lab."""
    arc: Annotated[float | None, _place("DEG")] = None
    """Length of the orbit in degrees; the preset's where not given."""
    photons: Annotated[float | None, _place("I0")] = 1e5
    """Photons per pixel without an object; None for a scan without noise."""
    detector: Annotated[tuple[int, int] | None, _place("U V")] = None
    """Columns and rows of the detector."""
    pixel: Annotated[tuple[float, float] | None, _place("U V")] = None
    """Pixel pitch in mm along a row and along a column."""
    offset: Annotated[tuple[float, float] | None, _place("U V")] = None
    """Displacement of the detector in mm along a row and along a column."""
    seed: Annotated[int, _place("S")] = 0
    """Seed of the noise."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.scan import simulate

        values = {"views": self.views, "preset": self.preset, "photons": self.photons, "seed": self.seed, "arc_deg": self.arc}
        values |= {"offset_mm": self.offset}
        values |= {"detector_shape": self.detector and self.detector[::-1], "pixel_mm": self.pixel and self.pixel[::-1]}
        summary = simulate(values, self.ct, self.scan, console)
        report.print(f"{self.scan}: {summary['views']} views in {summary['seconds']:.1f} s", **_PLAIN)


@dataclass
class Calibrate:
    """Find the detector's offset (the centre of rotation) from a scan's own data and print it; --out applies it."""

    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Annotated[Path | None, _place("SCAN2")] = None
    """Scan folder to write, with what was found in its geometry."""
    tilt: bool = False
    """Find the detector's turn in its plane too."""
    json: bool = False
    """Print JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.correct import calibrate

        calibrate(self.scan, self.out, self.tilt, self.json, (console, report))


@dataclass
class Correct:
    """Correct a scan: dark field, I0, dead pixels, lag, scatter, beam hardening, rings, detector offset and so on."""

    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Positional[Annotated[Path, _place("OUT")]]
    """Scan folder to write."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], _place("key=value")] = ()
    """Corrections, as NAME=on, NAME=measured or NAME.parameter=value, several after one --set or one each."""
    config: Annotated[Path | None, _place("FILE.json")] = None
    """The same from a file: {"rings": "measured", "scatter": {"fraction": 0.2}}, or a list with names, in order."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.correct import correct
        from .corrections.chain import said

        summary = correct(self.scan, self.out, [text for group in self.set for text in group], self.config, console)
        for entry in summary["corrections"]:
            report.print(f"{entry['name']}: {said(entry)}", **_PLAIN)
        report.print(f"{self.out}: {summary['views']} views in {summary['seconds']:.1f} s", **_PLAIN)


@dataclass
class Reconstruct:
    """Reconstruct a volume from a scan, in a process of its own."""

    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    output: Positional[Annotated[str, _place("OUT.nrrd")]]
    """Volume to write: .nrrd, .mha, .nii or .nii.gz, or a new folder/ for an anonymous DICOM series."""
    method: Annotated[str, _place("NAME")] = "naf"
    """Name of a method; `sparsectrecon methods` lists them with their options."""
    preset: Annotated[str | None, _place("NAME")] = None
    """One of the method's presets; `sparsectrecon methods` lists them."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], _place("key=value")] = ()
    """Options of the method, several after one --set or one each; they come before the preset's."""
    size: Annotated[tuple[int, int, int] | None, _place("X Y Z")] = None
    """Voxels; the field of view at the given spacing where not given."""
    spacing: Annotated[tuple[float, float, float] | None, _place("X Y Z")] = None
    """Voxel spacing in mm."""
    like: Annotated[Path | None, _place("VOLUME")] = None
    """Volume whose grid the output takes exactly."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; cuda fails where there is none."""
    budget: Annotated[float | None, _place("SECONDS")] = None
    """Stop after about this many seconds with what there is."""
    mu: bool = False
    """Write attenuation in 1/mm, not HU."""
    json: Annotated[Path | None, _place("FILE")] = None
    """Write method, backend, seconds, peak_memory_mb, reprojection_residual and options there."""
    field_of_view: Annotated[Path | None, _place("FILE")] = None
    """Write a label map of the grid there: 2 where every view sees a voxel, 1 where enough do, 0 elsewhere."""
    previews: Annotated[Path | None, _place("DIR")] = None
    """Folder for volumes on the way, and for what a method shows beside them, such as a pseudo-reference."""
    resume: bool = False
    """Go on from where the same command was stopped."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.reconstruct import parse_settings, reconstruct

        if self.budget is not None:
            _positive("--budget", self.budget)
        values = {
            "method": self.method,
            "options": self._options(parse_settings(text for group in self.set for text in group)),
            "size": self.size,
            "spacing_mm": self.spacing,
            "device": self.device,
            "budget_s": self.budget,
            "unit": "1/mm" if self.mu else "HU",
            **{key: str(path.expanduser().absolute()) for key, path in self._paths() if path},
        }
        summary = reconstruct(values, self.scan, self.output, console, self.resume)
        residual, seconds = summary["reprojection_residual"], summary["seconds"]
        report.print(f"{self.output}: {self.method} in {seconds:.1f} s, reprojection residual {residual:.4f}", **_PLAIN)

    def _options(self, settings: dict[str, str]) -> dict[str, str]:
        if self.preset is not None and "preset" in settings:
            raise InputError("the preset is given twice, with --preset and --set: keep one", "bad-option")
        return settings if self.preset is None else settings | {"preset": self.preset}

    def _paths(self):
        files = ("like", self.like), ("summary", self.json), ("previews", self.previews)
        return *files, ("field_of_view", self.field_of_view)


@dataclass
class Evaluate:
    """Compare a reconstruction with its reference, which is resampled onto the reconstruction's grid."""

    recon: Positional[Annotated[Path, _place("RECON")]]
    """Reconstructed volume."""
    reference: Positional[Annotated[Path, _place("REFERENCE")]]
    """CT that it should be like."""
    scan: Annotated[Path | None, _place("SCAN")] = None
    """Scan that it was made from: gives the figures within the field of view too."""
    tissues: bool = False
    """Compare air, lung, fat, soft tissue and bone too, by their HU."""
    organs: bool = False
    """Compare organs too, segmented in both by TotalSegmentator, which must be installed (minutes; its weights are fetched once)."""
    quality: Literal["normal", "fast", "fastest"] = "normal"
    """Resolution of TotalSegmentator's models: 1.5, 3 or 6 mm."""
    only: Annotated[tuple[str, ...], _place("ORGAN ...")] = ()
    """Segment these organs only, by TotalSegmentator's names."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where TotalSegmentator runs; gpu fails where there is none."""
    report: Annotated[Path | None, _place("FILE.html")] = None
    """Write a report with pictures there, one file that needs no other."""
    csv: Annotated[Path | None, _place("FILE")] = None
    """Write all figures there, a row for each."""
    json: Annotated[Path | None, _place("FILE")] = None
    """Write psnr_db, ssim, rmse_hu, vif and the conventions' names there, and tissues and organs where asked for."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.evaluate import Evaluation, evaluate

        segmenter = {"quality": self.quality, "organs": self.only, "device": self.device}
        if not self.organs and segmenter != {"quality": "normal", "organs": (), "device": "auto"}:
            raise InputError("--quality, --only and --device are for the segmentation of organs: add --organs", "bad-arguments")
        asked = Evaluation(self.tissues, self.organs, segmenter, self.json, self.csv, self.report, self.scan)
        evaluate(self.recon, self.reference, asked, (console, report))


@dataclass
class Compare:
    """Reconstruct a scan with several methods and compare them with its reference: table, picture, report."""

    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    reference: Positional[Annotated[Path, _place("REFERENCE")]]
    """CT that the scan was made of."""
    methods: Annotated[tuple[str, ...], _place("A B C")] = ("fdk", "admm-tv", "naf")
    """Names of methods, each with a preset behind a colon where it is not the first one: naf:paper."""
    out: Annotated[Path, _place("DIR")] = Path("comparison")
    """Folder for volumes, metrics.json, comparison.csv, compare.png and report.html."""
    size: Annotated[tuple[int, int, int] | None, _place("X Y Z")] = None
    """Voxels; the field of view at the given spacing where not given."""
    spacing: Annotated[tuple[float, float, float] | None, _place("X Y Z")] = None
    """Voxel spacing in mm."""
    like: Annotated[Path | None, _place("VOLUME")] = None
    """Volume whose grid the reconstructions take exactly; the reference's own voxels make iterative methods look better than they are."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where they run; cuda fails where there is none."""
    budget: Annotated[float | None, _place("SECONDS")] = None
    """Seconds for each method."""
    trust: bool = False
    """Say in the report what the measurements support of each volume, too; see `sparsectrecon trust`."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.compare import compare

        if self.budget is not None:
            _positive("--budget", self.budget)
        values = {"size": self.size, "spacing_mm": self.spacing, "device": self.device, "budget_s": self.budget}
        values["like"] = None if self.like is None else str(self.like.expanduser().absolute())
        compare(values, self.methods, self.scan, self.reference, self.out, (console, report), self.trust)


@dataclass
class Trust:
    """Say what the measurements support of a volume: residual, contradictions, what the views determine, disagreement."""

    volume: Positional[Annotated[Path, _place("VOLUME")]]
    """Reconstructed volume, in HU or 1/mm."""
    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan that it was made from."""
    out: Annotated[Path, _place("DIR")] = Path("trust")
    """Folder for maps, trust.json, trust.png and trust.html."""
    size: Annotated[float, _place("MM")] = 10.0
    """Diameter of the detail that matters."""
    region: Annotated[tuple[float, float, float, float] | None, _place("X Y Z RADIUS")] = None
    """Region of interest: centre in LPS and radius, mm."""
    others: Annotated[tuple[Path, ...], _place("VOLUME ...")] = ()
    """Volumes of the same scan by other seeds or methods: where do they disagree?"""
    groups: Annotated[int | None, _place("N")] = None
    """Make the volume anew without each of N groups of the views: are those predicted, and where do the volumes disagree?"""
    seeds: Annotated[int | None, _place("N")] = None
    """Make the volume anew with N other seeds: where do they disagree?"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the volume is made anew."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.trust import trust

        others = [str(path.expanduser().absolute()) for path in self.others]
        values = {"size_mm": self.size, "region_mm": self.region, "others": others}
        values |= {"groups": self.groups, "seeds": self.seeds, "device": self.device}
        trust(values, self.volume, self.scan, self.out, self.json, (console, report))


@dataclass
class TrainMCI:
    """Pretrain the head of neural fields on a CT, for --set mci=OUT (minutes)."""

    ct: Positional[Annotated[Path, _place("CT")]]
    """CT in Hounsfield units: NRRD, NIfTI, MetaImage, or the folder of a DICOM series."""
    out: Positional[Annotated[Path, _place("OUT.safetensors")]]
    """Weights to write; a card in words, OUT.md, lands beside them."""
    presets: Annotated[tuple[str, ...], _place("NAME ...")] = ("from-scratch", "paper")
    """Presets of naf whose networks to train for."""
    steps: Annotated[int, _place("N")] = 1500
    """Steps of training of each network."""
    voxels: Annotated[int, _place("N")] = 16384
    """Voxels in a step, at most."""
    seed: Annotated[int, _place("S")] = 0
    """Seed of the start and of the voxels drawn."""
    credit: Annotated[str, _place("TEXT")] = ""
    """Which CT it is, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.train import train_mci

        values = {"steps": self.steps, "voxels": self.voxels, "seed": self.seed}
        errors = train_mci(self.ct, self.out, self.presets, values, self.credit, console)
        said = ", ".join(f"{name} to a mean error of {1000 * error:.0f} HU" for name, error in errors.items())
        report.print(f"{self.out}: trained {said}", **_PLAIN)


@dataclass
class TrainRestoration:
    """Train the network that restores ADMM-TV's volumes on CTs (an hour or more on a CPU)."""

    cts: Positional[Annotated[tuple[Path, ...], _place("CT ...")]]
    """CTs in Hounsfield units: NRRD, NIfTI, MetaImage, or folders of DICOM series."""
    out: Annotated[Path, _place("FILE.safetensors")]
    """Weights to write."""
    pairs: Annotated[int, _place("N")] = 200
    """Random scans to reconstruct and to learn from."""
    steps: Annotated[int, _place("N")] = 10_000
    """Steps of training."""
    start: Annotated[Path | None, _place("FILE")] = None
    """Weights to go on from."""
    seed: Annotated[int, _place("S")] = 0
    """Seed of the pairs, of the start and of the crops."""
    credit: Annotated[str, _place("TEXT")] = ""
    """Which CTs they are, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.train import train_restoration

        gain = train_restoration(self.cts, self.out, self.pairs, self.steps, self.seed, self.start, self.credit, console)
        report.print(f"{self.out}: trained, {gain:+.2f} dB on crops of the training pairs", **_PLAIN)


@dataclass
class TrainSliceFixer:
    """Train what repairs the slices in DiffNR on CTs (some hours on a CPU); after a stop the same command goes on."""

    cts: Positional[Annotated[tuple[Path, ...], _place("CT ...")]]
    """CTs in Hounsfield units, or folders of them: NRRD, NIfTI, MetaImage, or folders of DICOM series."""
    out: Annotated[Path, _place("FILE.safetensors")]
    """Weights to write."""
    pairs: Annotated[int, _place("N")] = 200
    """Random scans to reconstruct and to learn from."""
    steps: Annotated[int, _place("N")] = 10_000
    """Steps of training."""
    start: Annotated[Path | None, _place("FILE")] = None
    """Weights to go on from."""
    sd_turbo: Annotated[str, _place("FOLDER")] = ""
    """SD-Turbo's weights, to train adapters to them; a compact network by default."""
    accept_sd_turbo_licence: bool = False
    """You accept the licence of SD-Turbo's weights."""
    clip: Annotated[str, _place("FOLDER")] = ""
    """CLIP's weights, whose perceptual and adversarial losses are added; SSIM and squares alone by default."""
    work: Annotated[Path | None, _place("FOLDER")] = None
    """Working folder, emptied at the end; beside FILE by default."""
    seed: Annotated[int, _place("S")] = 0
    """Seed of the pairs and of the slices."""
    credit: Annotated[str, _place("TEXT")] = ""
    """Which CTs they are, from whom and under which terms, for the card."""

    def run(self, console: Console, report: Console) -> None:
        from .commands.train_slice_fixer import train_slice_fixer

        make = {"start": self.start, "sd_turbo": self.sd_turbo, "licence_accepted": self.accept_sd_turbo_licence, "clip": self.clip}
        gain = train_slice_fixer(self.cts, self.out, self.pairs, self.steps, self.seed, make, self.work, self.credit, console)
        report.print(f"{self.out}: trained, {gain:+.2f} dB on slices of the training pairs", **_PLAIN)


@dataclass
class Methods:
    """List the methods with their options, and with --views say which one the evidence recommends."""

    views: Annotated[int | None, _place("N")] = None
    """Number of views of the scan that a method is wanted for."""
    budget: Annotated[float | None, _place("SECONDS")] = None
    """Seconds that it may take."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is to run."""
    json: bool = False
    """Print JSON: the list of methods, or with --views an object with recommendation, sentence and methods."""

    def run(self, console: Console, report: Console) -> None:
        from .commands import listing

        if self.budget is not None:
            _positive("--budget", self.budget)
        advice = listing.advise(self.views, self.device, self.budget)
        if self.json:
            listed = listing.describe_all()
            print(json.dumps(listed if advice is None else advice | {"methods": listed}, indent=1))
            return
        listing.print_methods(report)
        if advice:
            report.print(f"\n{advice['sentence']}", **_PLAIN)


@dataclass
class Doctor:
    """Say what this installation and this machine have, and what is missing."""

    json: bool = False
    """Print JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .commands import doctor

        found = doctor.examine()
        if self.json:
            print(json.dumps(found, indent=1))
        else:
            doctor.print_report(found, report)


COMMANDS = {
    "demo": Demo,
    "simulate": Simulate,
    "calibrate": Calibrate,
    "correct": Correct,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "compare": Compare,
    "trust": Trust,
    "train mci": TrainMCI,
    "train restoration": TrainRestoration,
    "train slice-fixer": TrainSliceFixer,
    "train dice": TrainDiCE,
    "train xgrm": TrainXGRM,
    "train finetune": TrainFinetune,
    "weights list": WeightsList,
    "weights get": WeightsGet,
    "weights convert": WeightsConvert,
    "novel-views": NovelViews,
    "methods": Methods,
    "doctor": Doctor,
}
_PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console, report = Console(stderr=True), Console()
    try:
        with _terminable():
            command = parse(arguments, COMMANDS, PROGRAM)
            if command is not None:
                command.run(console, report)
    except InputError as error:
        _complain(console, f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _complain(console, "stopped")
        return 1
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        _complain(console, _failure(error))
        return 1
    return 0


def _positive(flag: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{flag} {value:g}: give a positive number of seconds", "bad-arguments")


def _drop_output() -> None:
    """Let what is left for standard output go nowhere: its reader has gone, as behind `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(console: Console, text: str) -> None:
    console.print(text, style="red", **_PLAIN)


def _failure(error: Exception) -> str:
    from .commands.running import Failed, Stopped

    if isinstance(error, (Failed, Stopped)):
        return str(error)
    from .jobs.failures import explain

    with tempfile.NamedTemporaryFile("w", prefix="sparsectrecon-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
    failure = explain(error)
    return " ".join(filter(None, [f"failed: {failure.message}.", failure.next_step, f"Log: {log.name}"]))


@contextlib.contextmanager
def _terminable():
    """Let SIGTERM stop a command as Ctrl-C does, so that its worker is not left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
