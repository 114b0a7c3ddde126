"""Files that come with the library: the sample CT, pretrained weights. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path

from .errors import InputError

_HERE = Path(__file__).resolve().parent
_PLACES = (
    _HERE / "Resources",  # beside the code: a wheel, a Slicer extension
    _HERE.parent / "Resources",  # a checkout
    Path(sys.prefix) / "share" / "sparsectrecon" / "Resources",
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
