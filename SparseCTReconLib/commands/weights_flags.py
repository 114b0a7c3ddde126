"""What the command line asks of weights list, weights get and weights convert."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional

from .flags import PLAIN, place


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

    source: Positional[Annotated[str, place("NAME|URL")]]
    """A name of `weights list`, or the address of a .safetensors file."""
    sha256: Annotated[str, place("HEX")] = ""
    """Checksum of the file behind an address, as its source says."""
    accept_licence: bool = False
    """You have read the licence of the weights and accept it."""

    def run(self, console: Console, report: Console) -> None:
        from .weights import get_weights

        path, licence = get_weights(self.source, self.sha256, self.accept_licence, console)
        report.print(f"{path}: fetched, licence: {licence or 'the card says none'}", **PLAIN)


@dataclass
class WeightsConvert:
    """Make a published checkpoint of DeepSparse (ep_*.pth), which you have downloaded, into weights for deepsparse."""

    checkpoint: Positional[Annotated[Path, place("FILE.pth")]]
    """Their file; it is read without running code that it may hold."""
    out: Positional[Annotated[Path, place("OUT.safetensors")]]
    """Weights to write."""
    anatomy: Annotated[str, place("NAME")] = "abdomen"
    """That it was finetuned to: abdomen, chest, pelvis or tooth; abdomen for what was pretrained only."""
    views: Annotated[tuple[int, int] | None, place("FEWEST MOST")] = None
    """Views that it was made for, for the card; 6 24 for what was pretrained only."""

    def run(self, console: Console, report: Console) -> None:
        from .weights import convert_weights

        out = convert_weights(self.checkpoint, self.out, self.anatomy, self.views)
        report.print(f"{out}: converted", **PLAIN)
