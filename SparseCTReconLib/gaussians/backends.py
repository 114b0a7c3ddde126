"""Which implementation of the Gaussians runs: numba on the CPU; Triton on CUDA, or torch where Triton does not run, which the log says.

A training asks at every step, so what is found out about a machine is kept and said once.
"""

from __future__ import annotations

import functools
import importlib.util
import logging

import torch

from ..errors import InputError, nearest_name
from ..fields.backends import triton_fails
from ..geometry import Geometry
from ..grid import Grid
from . import tile_lists

log = logging.getLogger("SparseCTReconLib.gaussians")

BACKENDS = ("numba", "triton", "torch")


def choose(device: str = "cpu") -> str:
    """The fastest backend that runs on "cpu" or "cuda"; the log says why where it is not the usual one.

    Raises
    ------
    InputError
        Where the device is not there.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(f"device {device!r}: give cpu or cuda", "bad-device")
    if device == "cpu":
        return "numba"
    if not torch.cuda.is_available():
        raise InputError(f"device cuda was asked for, but torch {torch.__version__} finds no GPU: give device cpu", "no-device")
    if reason := triton_fails(device):
        _warn("Gaussians run by torch, which is many times slower than triton, because: %s", reason)
        return "torch"
    return "triton"


def rasteriser(geometry: Geometry, grid: Grid, device: str = "cpu", backend: str | None = None):
    """What makes projections of Gaussians on a device, see `rasteriser.Rasteriser`; its attribute `backend` says what runs it.

    Parameters
    ----------
    geometry, grid
        As `Rasteriser` takes them.
    device : str
        "cpu" or "cuda", where the Gaussians are.
    backend : str, optional
        One of `BACKENDS`; the fastest that is there by default.

    Raises
    ------
    InputError
        Where the device is not there, or the backend does not run on it.
    """
    backend = _known(device, backend)
    if backend == "numba":
        from .rasteriser import Rasteriser

        return Rasteriser(geometry, grid)
    if backend == "torch":
        from .torch_twin import TorchRasteriser

        return TorchRasteriser(geometry, grid)
    from .triton_rasteriser import TritonRasteriser

    return TritonRasteriser(geometry, grid, device, _list_maker(device))


def voxeliser(grid: Grid, device: str = "cpu", backend: str | None = None):
    """What makes volumes of Gaussians on a device, see `voxeliser.Voxeliser`; for the arguments and errors see `rasteriser`."""
    backend = _known(device, backend)
    if backend == "numba":
        from .voxeliser import Voxeliser

        return Voxeliser(grid)
    if backend == "torch":
        from .torch_twin import TorchVoxeliser

        return TorchVoxeliser(grid)
    from .triton_voxeliser import TritonVoxeliser

    return TritonVoxeliser(grid, device)


def _known(device: str, backend: str | None) -> str:
    """The backend that was asked for, if it runs on the device, or the one to choose."""
    if backend is None:
        return choose(device)
    if backend not in BACKENDS:
        raise InputError(f"no backend {backend!r}{nearest_name(backend, BACKENDS)}", "bad-option")
    if backend == "numba" and device != "cpu":
        raise InputError("backend numba runs on the cpu alone: give device cpu, or the backend triton or torch", "no-device")
    if backend == "triton" and (reason := triton_fails(device)):
        raise InputError(f"backend triton does not run here: {reason}; take the backend torch", "no-backend")
    return backend


@functools.cache
def _warn(text: str, reason: str) -> None:
    """Say something once in a process."""
    log.warning(text, reason)


@functools.cache
def _list_maker(device: str):
    """What makes the lists of an image's tiles: gsplat where it is installed and works."""
    if importlib.util.find_spec("gsplat") is None:
        return tile_lists.by_torch
    if reason := tile_lists.gsplat_fails(device):
        _warn("gsplat is installed but torch makes the lists of tiles, because: %s", reason)
        return tile_lists.by_torch
    return tile_lists.by_gsplat
