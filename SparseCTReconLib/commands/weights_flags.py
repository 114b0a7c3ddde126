"""What the command line asks of weights list, weights get, weights convert, and of novel-views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

_PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}


def _place(name: str):
    return arg(metavar=name)


@dataclass
class WeightsList:
    """List pretrained weights: what is here and for what, and what can be fetched."""

    json: bool = False
    """Print JSON: of each its name, path, card and fault."""

    def run(self, console: Console, report: Console) -> None:
        from .weights import list_weights

        list_weights(self.json, report)


@dataclass
class WeightsGet:
    """Fetch weights into the user's cache folder; a fetch that stopped goes on."""

    source: Positional[Annotated[str, _place("NAME|URL")]]
    """A name of `weights list`, or the address of a .safetensors file."""
    sha256: Annotated[str, _place("HEX")] = ""
    """Checksum of the file behind an address, as its source says."""
    accept_licence: bool = False
    """You have read the licence of the weights and accept it."""

    def run(self, console: Console, report: Console) -> None:
        from .weights import get_weights

        path, licence = get_weights(self.source, self.sha256, self.accept_licence, console)
        report.print(f"{path}: fetched, licence: {licence or 'the card says none'}", **_PLAIN)


@dataclass
class WeightsConvert:
    """Make a published checkpoint of DeepSparse (ep_*.pth), which you have downloaded, into weights for deepsparse."""

    checkpoint: Positional[Annotated[Path, _place("FILE.pth")]]
    """Their file; it is read without running code that it may hold."""
    out: Positional[Annotated[Path, _place("OUT.safetensors")]]
    """Weights to write."""
    anatomy: Annotated[str, _place("NAME")] = "abdomen"
    """That it was finetuned to: abdomen, chest, pelvis or tooth; abdomen for what was pretrained only."""
    views: Annotated[tuple[int, int] | None, _place("FEWEST MOST")] = None
    """Views that it was made for, for the card; 6 24 for what was pretrained only."""

    def run(self, console: Console, report: Console) -> None:
        from .weights import convert_weights

        out = convert_weights(self.checkpoint, self.out, self.anatomy, self.views)
        report.print(f"{out}: converted", **_PLAIN)


@dataclass
class NovelViews:
    """Render X-rays of a scan's patient from where none was taken, by X-GRM; they are learnt, not measured."""

    scan: Positional[Annotated[Path, _place("SCAN")]]
    """Scan folder, or any file that a reader recognises."""
    out: Positional[Annotated[Path, _place("OUT_SCAN")]]
    """Scan folder to write."""
    views: Annotated[int, _place("N")] = 50
    """Number of X-rays."""
    arc: Annotated[float, _place("DEG")] = 360.0
    """Length of their orbit in degrees."""
    start: Annotated[float, _place("DEG")] = 0.0
    """Gantry angle of the first one."""
    weights: Annotated[str, _place("NAME|FILE")] = "auto"
    """X-GRM's, see weights list; auto for what the scan seems to show."""
    size: Annotated[tuple[int, int, int] | None, _place("X Y Z")] = None
    """Gaussians along each edge of the field of view; 1 for each of its default voxels where not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; cuda fails where there is none."""

    def run(self, console: Console, report: Console) -> None:
        from .novel_views import write_novel_views

        made = write_novel_views(self.scan, self.out, self.views, (self.arc, self.start), self.weights, self.size, self.device, console)
        report.print(f"{self.out}: {made.views} X-rays, rendered, not measured", **_PLAIN)
