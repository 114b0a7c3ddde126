"""Sparse-view cone-beam CT reconstruction: from a few dozen X-ray projections to a volume.

>>> import SparseCTReconLib as sct
>>> scan = sct.simulate(sct.read_ct("head.nrrd"), views=50)
>>> volume = sct.reconstruct(scan, method="naf")
>>> sct.write_volume(volume, "head-naf.nrrd")

Everything is imported when it is first asked for: `import SparseCTReconLib` needs numpy alone.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_HOMES = {
    "InputError": "errors",
    "Geometry": "geometry",
    "default_grid": "geometry",
    "Grid": "grid",
    "Volume": "grid",
    "Scan": "scan",
    "read_ct": "formats",
    "read_volume": "formats",
    "write_volume": "formats",
    "read_scan": "formats",
    "write_scan": "formats",
    "simulate": "simulate",
    "reconstruct": "methods.reconstruct",
    "novel_views": "methods.novel_views",
    "evaluate": "evaluation.compare",
}
_MODULES = ("evaluation", "formats", "jobs", "methods", "operators", "units")

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The import of the module `simulate` must not put it in the place of the function `simulate`."""

    def __setattr__(self, name, value):
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
