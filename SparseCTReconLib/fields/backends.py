"""Which implementation of a neural field runs: numba on the CPU; tinycudann, else Triton, else torch on CUDA; torch for wide networks."""

from __future__ import annotations

import functools
import importlib.util
import logging

import numpy as np
import torch

from ..errors import InputError, nearest_name
from .field import AttenuationField, Field
from .hash_grid import HashGrid
from .networks import FourierReLU, HashNetwork, Siren

log = logging.getLogger("SparseCTReconLib.fields")

BACKENDS = ("numba", "torch", "triton", "tinycudann")


def make_field(
    architecture: HashNetwork | Siren | FourierReLU, scale: float, device: str = "cpu", backend: str | None = None, seed: int = 0
) -> Field:
    """A field with fresh parameters; the log says what runs it.

    Parameters
    ----------
    architecture : HashNetwork, Siren or FourierReLU
        What the network is.
    scale : float
        Attenuation in 1/mm of an output of 1.
    device : str
        "cpu" or "cuda".
    backend : str, optional
        "numba", "torch", "triton" or "tinycudann"; the fastest that is there if None.
    seed : int
        Of the start, which is the same on numba, torch and triton.

    Raises
    ------
    InputError
        Where the device is not there, or the backend does not run that architecture on it or is not installed.
    """
    _check(architecture, device, backend)
    backend = backend or _choose(architecture, device)
    field = _make(architecture, scale, device, backend, np.random.default_rng(seed))
    log.info("%s runs on %s by %s", type(architecture).__name__, device, backend)
    return field


def _make(architecture, scale: float, device: str, backend: str, rng: np.random.Generator) -> Field:
    if backend == "numba":
        return AttenuationField(architecture.grid, architecture.head, scale, rng)
    if backend == "tinycudann":
        from .tinycudann_field import tinycudann_field

        return tinycudann_field(architecture, scale, rng, device)
    from .torch_field import TorchField

    if backend == "triton":
        if reason := triton_fails(device):
            instead = "torch" if device == "cuda" else "numba"
            raise InputError(f"backend triton does not run here: {reason}; take the backend {instead}", "no-backend")
        from . import triton_hash

        return TorchField(architecture.module(rng, triton_hash.encode), scale, device, "triton", update=triton_hash.update)
    return TorchField(architecture.module(rng), scale, device)


def _check(architecture, device: str, backend: str | None) -> None:
    """Refuse what cannot be, with what to do."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"device {device!r}: give cpu or cuda", "bad-device")
    if backend is not None and backend not in BACKENDS:
        raise InputError(f"no backend {backend!r}{nearest_name(backend, BACKENDS)}", "bad-option")
    if backend == "numba" and device == "cuda":
        raise InputError("backend numba runs on the cpu alone: give device cpu, or the backend tinycudann, triton or torch", "no-device")
    if backend == "tinycudann" and device == "cpu":
        raise InputError("backend tinycudann runs on cuda alone: give device cuda, or the backend numba", "no-device")
    if backend not in (None, "torch") and not isinstance(architecture, HashNetwork):
        kind = type(architecture).__name__
        raise InputError(f"backend {backend} runs hash networks alone: give the backend torch for {kind}", "bad-option")
    if device == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "CPU only"
        raise InputError(
            f"device cuda was asked for, but torch {torch.__version__} (CUDA build: {build}) finds no GPU: give device cpu, or install a "
            "CUDA build of torch and the driver",
            "no-device",
        )


def _choose(architecture, device: str) -> str:
    if not isinstance(architecture, HashNetwork):
        return "torch"
    if device == "cpu":
        return "numba"
    if importlib.util.find_spec("tinycudann"):
        if not (reason := tinycudann_fails()):
            return "tinycudann"
        log.warning("tinycudann is installed but does not encode, because: %s", reason)
    if reason := triton_fails(device):
        log.warning("the hash encoding runs by torch, which is slower than triton, because: %s", reason)
        return "torch"
    return "triton"


@functools.cache
def tinycudann_fails() -> str | None:
    """Why tiny-cuda-nn does not run here, None where it does."""
    from .tinycudann_field import library

    try:
        library()
    except InputError as error:
        return str(error)
    return None


@functools.cache
def triton_fails(device: str) -> str | None:
    """Why Triton's kernels do not run on `device`, None where they do."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton, on Linux)"
    from triton import knobs

    if device == "cpu" and not knobs.runtime.interpret:
        return "triton runs on cuda alone, but for tests with TRITON_INTERPRET=1"
    from . import triton_hash

    grid, point = HashGrid(levels=2), torch.zeros(3, 1, device=device)
    table = torch.from_numpy(grid.initial_table(np.random.default_rng(0))).to(device)
    try:
        triton_hash.encode(point, table, grid).sum().item()
    except Exception as error:  # a missing C compiler, a driver that is too old: whatever it is, torch is there
        return f"{type(error).__name__}: {error}"
    return None
