"""SliceFixer (DiffNR): repairs the axial slices of a sparse-view volume in one step, told of the organ and of two orthogonal X-rays.

There are two makes. The compact one ships; SD-Turbo's is loaded where its weights are and its licence is accepted. Both keep attenuation
absolute: no slice is stretched to its own minimum and maximum, as the authors' code does.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from .. import resources, weight_files
from ..errors import InputError
from ..formats.files import named
from ..grid import Grid
from ..scan import Scan
from . import compact_fixer
from . import sd_turbo as turbo
from .biplanar import biplanar

WEIGHTS = "Weights/slice_fixer.safetensors"
SHIPPED = "shipped"

log = logging.getLogger(__name__)


class Fixer(Protocol):
    """What repairs slices.

    Parameters
    ----------
    make : str
        "compact" or "sd-turbo".
    source : str
        Name and checksum of its weights.
    anatomies : tuple of str
        Parts of the body that it has learnt from.
    edge : int or None
        Pixels along the edges of the slices that it takes; None for any.
    """

    make: str
    source: str
    anatomies: tuple[str, ...]
    edge: int | None

    def repair(self, stack: np.ndarray, xrays: np.ndarray, organ: str) -> np.ndarray:
        """Axial slices [z, y, x], attenuation relative to water, repaired; `xrays` (2, z, w) are those of `biplanar`."""


class VolumeRepair:
    """A fixer with all that a scan tells it.

    Parameters
    ----------
    fixer : Fixer
    scan, grid
        Of the volumes that are to be repaired.
    organ : str
        Part of the body; another one than the fixer has learnt from is said in the log.
    finer : int
        Factor by which slices are interpolated before the repair and averaged behind it, for a fixer that takes any size.
    """

    def __init__(self, fixer: Fixer, scan: Scan, grid: Grid, organ: str, finer: int = 1):
        self.fixer, self.organ, self.mu_water = fixer, organ, scan.mu_water
        self.xrays = biplanar(scan, grid)
        self.finer = finer
        if organ not in fixer.anatomies:
            known = ", ".join(fixer.anatomies)
            log.warning("the SliceFixer has learnt from %s, and this seems to be %s: do not trust what it adds", known, organ)

    def __call__(self, mu: np.ndarray) -> np.ndarray:
        """The pseudo-reference of a volume in 1/mm [z, y, x]: interpolated, repaired, averaged, never negative."""
        relative = torch.from_numpy(np.asarray(mu, dtype=np.float32) / np.float32(self.mu_water))
        ny, nx = relative.shape[1:]
        size = (self.fixer.edge,) * 2 if self.fixer.edge else (self.finer * ny, self.finer * nx)
        repaired = torch.from_numpy(self.fixer.repair(_resampled(relative, size).numpy(), self.xrays, self.organ))
        return (_resampled(repaired, (ny, nx)).clamp_(min=0) * self.mu_water).numpy()


def _resampled(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Slices [z, y, x] on other pixels, bilinear; averaged where they become fewer."""
    if stack.shape[1:] == size:
        return stack
    return functional.interpolate(stack[:, None], size, mode="bilinear", antialias=True)[:, 0]


def load(choice: str = SHIPPED, device: str = "cpu", sd_turbo: str = "", licence_accepted: bool = False) -> Fixer:
    """The fixer with the weights of a file.

    Parameters
    ----------
    choice : str
        "shipped" for those of the library (the compact make), or a file that `train slice-fixer` wrote.
    device : str
        For SD-Turbo's make; the compact one runs on the CPU.
    sd_turbo : str
        Folder or name on the hub of SD-Turbo, which a file of that make is an addition to.
    licence_accepted : bool
        Of SD-Turbo.

    Raises
    ------
    InputError
        For a file that is missing, damaged or holds something else; for SD-Turbo, where its weights are missing, its licence is not
        accepted or its packages are not installed.
    """
    path = resources.find(WEIGHTS) if choice == SHIPPED else Path(choice).expanduser()
    file = weight_files.read(path, (compact_fixer.FORMAT, turbo.FORMAT), "weights of a SliceFixer")
    if file.form == turbo.FORMAT:
        return turbo.load(sd_turbo, path, device, licence_accepted)
    if sd_turbo:
        raise InputError(f"{path} holds a compact fixer, which needs no SD-Turbo: leave sd_turbo out", "bad-option")
    with named(path):
        return compact_fixer.CompactFixer(compact_fixer.from_file(file), file)


__all__ = ["Fixer", "VolumeRepair", "load"]
