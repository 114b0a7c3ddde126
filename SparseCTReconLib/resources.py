"""Files that come with the library (the sample CT, pretrained weights), and the user's folder for what is made or
fetched. Standard library only."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from .errors import InputError

_HERE = Path(__file__).resolve().parent
_SCHEMES = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
_PLACES = (
    _HERE / "Resources",  # beside the code: a wheel, a Slicer extension
    _HERE.parent / "Resources",  # a checkout
    *(Path(sysconfig.get_path("data", scheme)) / "share" / "sparsectrecon" / "Resources" for scheme in _SCHEMES),
)

SAMPLE_CT = "SampleData/head_vhp_female_2mm.nrrd"


def find(name: str) -> Path:
    """Path of a file below Resources.

    Raises
    ------
    InputError
        Where this installation does not have it.
    """
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    raise InputError(f"this installation has no {name} (looked in {', '.join(map(str, _PLACES))}): install it again", "missing-resource")


KEPT = {"kernels": "kernels-*", "weights": "weights", "totalsegmentator": "totalsegmentator"}
"""What may lie in `cache_root`, and below which names: compiled kernels, fetched weights, TotalSegmentator's own home."""


def cache_root() -> Path:
    """The user's folder for what can be made or fetched again; the environment variable SPARSECTRECON_CACHE moves it."""
    if moved := os.environ.get("SPARSECTRECON_CACHE"):
        return Path(moved)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "sparsectrecon"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sparsectrecon"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparsectrecon"


def kept(kind: str) -> list[Path]:
    """Folders of `cache_root` that hold things of a `kind` of `KEPT`; of every version."""
    return sorted(path for path in cache_root().glob(KEPT[kind]) if path.is_dir())
