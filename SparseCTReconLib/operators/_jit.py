"""Compiled CPU kernels: numba without the interpreter lock, run on a pool of threads, cached for every later process.

Kernels take a range (start, stop) of independent work; `run_threaded` hands ranges to the pool. The cache lies in the user's cache
folder, since an installed package may be read-only and a package's update must not leave stale code behind. Helpers that kernels of
several files share lie in files whose names begin with an underscore: numba compiles a cached kernel again when its own file has
changed, not when theirs have, so that their contents go into the folder's name.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba

from .. import __version__, machine

log = logging.getLogger("SparseCTReconLib.kernels")

_ANNOUNCED: set = set()
_pools: dict[int, ThreadPoolExecutor] = {}
_pool_lock = threading.Lock()


def cache_folder() -> Path:
    """The folder of compiled kernels, of this version and for these helpers."""
    return machine.cache_folder() / f"kernels-{__version__}-{_shared_digest(os.environ.get('SPARSECTRECON_SIMD_LANES', ''))}"


@functools.cache
def _shared_digest(lanes: str) -> str:
    """Short hash of the helpers that kernels are compiled with, and of the number of lanes that was asked for."""
    digest = hashlib.sha256(lanes.encode())
    for file in sorted(Path(__file__).parents[1].glob("*/_[a-z]*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]


def kernel(function=None, *, inline: bool = False):
    """Compile `function` without the interpreter lock; `inline` for small helpers, which the
    kernel that calls them caches with itself."""
    if function is None:
        return lambda f: kernel(f, inline=inline)
    if inline:
        return numba.njit(fastmath=FAST_MATH, error_model="numpy")(function)
    previous = numba.config.CACHE_DIR
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        numba.config.CACHE_DIR = str(folder)
        return numba.njit(nogil=True, cache=True, fastmath=FAST_MATH, error_model="numpy")(function)
    except OSError as error:
        log.warning("kernels cannot be cached in %s (%s): every process will compile them", cache_folder(), error)
        return numba.njit(nogil=True, fastmath=FAST_MATH, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = previous


FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""No assumption that numbers are finite: a NaN must stay one."""


def threads() -> int:
    """Threads that kernels use: those that torch uses."""
    import torch

    return torch.get_num_threads()


def run_threaded(compiled, count: int, *arguments, chunk: int | None = None) -> None:
    """Call ``compiled(start, stop, *arguments)`` for ranges that cover ``range(count)``.

    Parameters
    ----------
    compiled : kernel
        Writes to places that belong to its range alone.
    count : int
        Number of independent pieces of work.
    chunk : int, optional
        Pieces per call; by default eight calls per thread, which evens out ranges of unequal cost.
    """
    workers = threads()
    chunk = chunk or max(1, -(-count // (8 * workers)))
    ranges = [(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    if not ranges:
        return
    _announce(compiled)
    if workers == 1 or len(ranges) == 1:
        for start, stop in ranges:
            compiled(start, stop, *arguments)
        return
    for _ in _pool(workers).map(lambda r: compiled(r[0], r[1], *arguments), ranges):
        pass


def _announce(compiled) -> None:
    """Say once per process that a kernel is compiled on its first use."""
    if compiled not in _ANNOUNCED:
        _ANNOUNCED.add(compiled)
        if not compiled.signatures and not any(cache_folder().glob(f"**/*.{compiled.py_func.__name__}-*.nbi")):
            log.info("compiling kernel %s (first use on this machine)", compiled.py_func.__name__)


def _pool(workers: int) -> ThreadPoolExecutor:
    with _pool_lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="sparsectrecon")
        return _pools[workers]
