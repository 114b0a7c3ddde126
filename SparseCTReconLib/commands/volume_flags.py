"""What the command line asks about volumes: reconstruct, evaluate, compare, trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, UseAppendAction

from ..errors import InputError
from .flags import PLAIN, place, positive


@dataclass
class Reconstruct:
    """Reconstruct a volume from a scan, in a process of its own."""

    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    output: Positional[Annotated[str, place("OUT.nrrd")]]
    """Volume to write: .nrrd, .mha, .nii or .nii.gz, or a new folder/ for an anonymous DICOM series."""
    method: Annotated[str, place("NAME")] = "naf"
    """Name of a method; `sparsectrecon methods` lists them with their options."""
    preset: Annotated[str | None, place("NAME")] = None
    """One of the method's presets; `sparsectrecon methods` lists them."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], place("key=value")] = ()
    """Options of the method, several after one --set or one each; they come before the preset's."""
    size: Annotated[tuple[int, int, int] | None, place("X Y Z")] = None
    """Voxels; the field of view at the given spacing where not given."""
    spacing: Annotated[tuple[float, float, float] | None, place("X Y Z")] = None
    """Voxel spacing in mm."""
    like: Annotated[Path | None, place("VOLUME")] = None
    """Volume whose grid the output takes exactly."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; cuda fails where there is none."""
    budget: Annotated[float | None, place("SECONDS")] = None
    """Stop after about this many seconds with what there is."""
    mu: bool = False
    """Write attenuation in 1/mm, not HU."""
    json: Annotated[Path | None, place("FILE")] = None
    """Write method, backend, seconds, peak_memory_mb, reprojection_residual and options there."""
    field_of_view: Annotated[Path | None, place("FILE")] = None
    """Write a label map of the grid there: 2 where every view sees a voxel, 1 where enough do, 0 elsewhere."""
    previews: Annotated[Path | None, place("DIR")] = None
    """Folder for volumes on the way, and for what a method shows beside them, such as a pseudo-reference."""
    resume: bool = False
    """Go on from where the same command was stopped."""

    def run(self, console: Console, report: Console) -> None:
        from .reconstruct import parse_settings, reconstruct

        if self.budget is not None:
            positive("--budget", self.budget)
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
        report.print(f"{self.output}: {self.method} in {seconds:.1f} s, reprojection residual {residual:.4f}", **PLAIN)

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

    recon: Positional[Annotated[Path, place("RECON")]]
    """Reconstructed volume."""
    reference: Positional[Annotated[Path, place("REFERENCE")]]
    """CT that it should be like."""
    scan: Annotated[Path | None, place("SCAN")] = None
    """Scan that it was made from: gives the figures within the field of view too."""
    tissues: bool = False
    """Compare air, lung, fat, soft tissue and bone too, by their HU."""
    organs: bool = False
    """Compare organs too, segmented in both by TotalSegmentator, which must be installed (minutes; its weights are fetched once)."""
    quality: Literal["normal", "fast", "fastest"] = "normal"
    """Resolution of TotalSegmentator's models: 1.5, 3 or 6 mm."""
    only: Annotated[tuple[str, ...], place("ORGAN ...")] = ()
    """Segment these organs only, by TotalSegmentator's names."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where TotalSegmentator runs; gpu fails where there is none."""
    report: Annotated[Path | None, place("FILE.html")] = None
    """Write a report with pictures there, one file that needs no other."""
    csv: Annotated[Path | None, place("FILE")] = None
    """Write all figures there, a row for each."""
    json: Annotated[Path | None, place("FILE")] = None
    """Write psnr_db, ssim, rmse_hu, vif and the conventions' names there, and tissues and organs where asked for."""

    def run(self, console: Console, report: Console) -> None:
        from .evaluate import Evaluation, evaluate

        segmenter = {"quality": self.quality, "organs": self.only, "device": self.device}
        if not self.organs and segmenter != {"quality": "normal", "organs": (), "device": "auto"}:
            raise InputError("--quality, --only and --device are for the segmentation of organs: add --organs", "bad-arguments")
        asked = Evaluation(self.tissues, self.organs, segmenter, self.json, self.csv, self.report, self.scan)
        evaluate(self.recon, self.reference, asked, (console, report))


@dataclass
class Compare:
    """Reconstruct a scan with several methods and compare them with its reference: table, picture, report."""

    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    reference: Positional[Annotated[Path, place("REFERENCE")]]
    """CT that the scan was made of."""
    methods: Annotated[tuple[str, ...], place("A B C")] = ("fdk", "admm-tv", "naf")
    """Names of methods, each with a preset behind a colon where it is not the first one: naf:paper."""
    out: Annotated[Path, place("DIR")] = Path("comparison")
    """Folder for volumes, metrics.json, comparison.csv, compare.png and report.html."""
    size: Annotated[tuple[int, int, int] | None, place("X Y Z")] = None
    """Voxels; the field of view at the given spacing where not given."""
    spacing: Annotated[tuple[float, float, float] | None, place("X Y Z")] = None
    """Voxel spacing in mm."""
    like: Annotated[Path | None, place("VOLUME")] = None
    """Volume whose grid the reconstructions take exactly; the reference's own voxels make iterative methods look better than they are."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where they run; cuda fails where there is none."""
    budget: Annotated[float | None, place("SECONDS")] = None
    """Seconds for each method."""
    trust: bool = False
    """Say in the report what the measurements support of each volume, too; see `sparsectrecon trust`."""

    def run(self, console: Console, report: Console) -> None:
        from .compare import compare

        if self.budget is not None:
            positive("--budget", self.budget)
        values = {"size": self.size, "spacing_mm": self.spacing, "device": self.device, "budget_s": self.budget}
        values["like"] = None if self.like is None else str(self.like.expanduser().absolute())
        compare(values, self.methods, self.scan, self.reference, self.out, (console, report), self.trust)


@dataclass
class Trust:
    """Say what the measurements support of a volume: residual, contradictions, what the views determine, disagreement."""

    volume: Positional[Annotated[Path, place("VOLUME")]]
    """Reconstructed volume, in HU or 1/mm."""
    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan that it was made from."""
    out: Annotated[Path, place("DIR")] = Path("trust")
    """Folder for maps, trust.json, trust.png and trust.html."""
    size: Annotated[float, place("MM")] = 10.0
    """Diameter of the detail that matters."""
    region: Annotated[tuple[float, float, float, float] | None, place("X Y Z RADIUS")] = None
    """Region of interest: centre in LPS and radius, mm."""
    others: Annotated[tuple[Path, ...], place("VOLUME ...")] = ()
    """Volumes of the same scan by other seeds or methods: where do they disagree?"""
    groups: Annotated[int | None, place("N")] = None
    """Make the volume anew without each of N groups of the views: are those predicted, and where do the volumes disagree?"""
    seeds: Annotated[int | None, place("N")] = None
    """Make the volume anew with N other seeds: where do they disagree?"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the volume is made anew."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .trust import trust

        others = [str(path.expanduser().absolute()) for path in self.others]
        values = {"size_mm": self.size, "region_mm": self.region, "others": others}
        values |= {"groups": self.groups, "seeds": self.seeds, "device": self.device}
        trust(values, self.volume, self.scan, self.out, self.json, (console, report))
