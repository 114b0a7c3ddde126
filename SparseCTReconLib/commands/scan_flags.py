"""What the command line asks where a scan comes out: simulate, calibrate, correct, novel-views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, UseAppendAction

from .flags import PLAIN, place


@dataclass
class Simulate:
    """Simulate a noisy cone-beam scan of a CT."""

    ct: Positional[Annotated[Path, place("CT")]]
    """CT in Hounsfield units: NRRD, NIfTI, MetaImage, or the folder of a DICOM series."""
    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder to write."""
    views: Annotated[int, place("N")] = 50
    """Number of views."""
    preset: Annotated[str, place("NAME")] = "linac"
    """Machine: linac, linac-half-fan, c-arm, dental or lab."""
    arc: Annotated[float | None, place("DEG")] = None
    """Length of the orbit in degrees; the preset's where not given."""
    photons: Annotated[float | None, place("I0")] = 1e5
    """Photons per pixel without an object; None for a scan without noise."""
    detector: Annotated[tuple[int, int] | None, place("U V")] = None
    """Columns and rows of the detector."""
    pixel: Annotated[tuple[float, float] | None, place("U V")] = None
    """Pixel pitch in mm along a row and along a column."""
    offset: Annotated[tuple[float, float] | None, place("U V")] = None
    """Displacement of the detector in mm along a row and along a column."""
    seed: Annotated[int, place("S")] = 0
    """Seed of the noise."""

    def run(self, console: Console, report: Console) -> None:
        from .scan import simulate

        values = {"views": self.views, "preset": self.preset, "photons": self.photons, "seed": self.seed, "arc_deg": self.arc}
        values |= {"offset_mm": self.offset}
        values |= {"detector_shape": self.detector and self.detector[::-1], "pixel_mm": self.pixel and self.pixel[::-1]}
        summary = simulate(values, self.ct, self.scan, console)
        report.print(f"{self.scan}: {summary['views']} views in {summary['seconds']:.1f} s", **PLAIN)


@dataclass
class Calibrate:
    """Find the detector's offset (the centre of rotation) from a scan's own data and print it; --out applies it."""

    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Annotated[Path | None, place("SCAN2")] = None
    """Scan folder to write, with what was found in its geometry."""
    tilt: bool = False
    """Find the detector's turn in its plane too."""
    json: bool = False
    """Print JSON."""

    def run(self, console: Console, report: Console) -> None:
        from .correct import calibrate

        calibrate(self.scan, self.out, self.tilt, self.json, (console, report))


@dataclass
class Correct:
    """Correct a scan: dark field, I0, dead pixels, lag, scatter, beam hardening, rings, detector offset and so on."""

    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Positional[Annotated[Path, place("OUT")]]
    """Scan folder to write."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], place("key=value")] = ()
    """Corrections, as NAME=on, NAME=measured or NAME.parameter=value, several after one --set or one each."""
    config: Annotated[Path | None, place("FILE.json")] = None
    """The same from a file: {"rings": "measured", "scatter": {"fraction": 0.2}}, or a list with names, in order."""

    def run(self, console: Console, report: Console) -> None:
        from ..corrections.chain import said
        from .correct import correct

        summary = correct(self.scan, self.out, [text for group in self.set for text in group], self.config, console)
        for entry in summary["corrections"]:
            report.print(f"{entry['name']}: {said(entry)}", **PLAIN)
        report.print(f"{self.out}: {summary['views']} views in {summary['seconds']:.1f} s", **PLAIN)


@dataclass
class NovelViews:
    """Render X-rays of a scan's patient from where none was taken, by X-GRM; they are learnt, not measured."""

    scan: Positional[Annotated[Path, place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Positional[Annotated[Path, place("OUT_SCAN")]]
    """Scan folder to write."""
    views: Annotated[int, place("N")] = 50
    """Number of X-rays."""
    arc: Annotated[float, place("DEG")] = 360.0
    """Length of their orbit in degrees."""
    start: Annotated[float, place("DEG")] = 0.0
    """Gantry angle of the first one."""
    weights: Annotated[str, place("NAME|FILE")] = "auto"
    """X-GRM's, see weights list; auto for what the scan seems to show."""
    size: Annotated[tuple[int, int, int] | None, place("X Y Z")] = None
    """Gaussians along each edge of the field of view; 1 for each of its default voxels where not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; cuda fails where there is none."""

    def run(self, console: Console, report: Console) -> None:
        from .novel_views import write_novel_views

        made = write_novel_views(self.scan, self.out, self.views, (self.arc, self.start), self.weights, self.size, self.device, console)
        report.print(f"{self.out}: {made.views} X-rays, rendered, not measured", **PLAIN)
