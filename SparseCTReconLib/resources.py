"""Files that come with the library (the sample CT, pretrained weights), and the user's folder for what is made or
fetched. Standard library only."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from .errors import InputError
from .machine import cache_folder

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


def folders(name: str) -> list[Path]:
    """The folders below Resources that are called so; none where this installation has none."""
    return [place / name for place in _PLACES if (place / name).is_dir()]


KEPT = {"kernels": "kernels-*", "weights": "weights", "totalsegmentator": "totalsegmentator"}
"""What may lie in the user's cache folder, and below which names: compiled kernels, fetched weights, TotalSegmentator's own home."""


def kept(kind: str) -> list[Path]:
    """Folders of the user's cache folder that hold things of a `kind` of `KEPT`; of every version."""
    return sorted(path for path in cache_folder().glob(KEPT[kind]) if path.is_dir())
