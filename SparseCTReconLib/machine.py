"""What this machine has: memory, cores, a place for caches, and what this process took of it. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
"""The command that lists the GPUs; `parse_gpus` reads what it says. Whoever has an event loop runs it in its own way."""


class GPU(NamedTuple):
    """A GPU as its driver describes it; memory in bytes, None where the driver does not say."""

    name: str
    memory: int | None
    free: int | None


def parse_gpus(text: str) -> list[GPU]:
    """The GPUs in the output of `NVIDIA_SMI`; lines that are no GPU, such as a driver's complaint, are passed over."""
    found = []
    for line in text.splitlines():
        name, *memory = (part.strip() for part in line.rsplit(",", 2))
        if name and len(memory) == 2:
            found.append(GPU(name, *(int(part) << 20 if part.isdigit() else None for part in memory)))
    return found


def cores() -> int:
    """Cores that this process may use."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path:
    """The user's folder for what can be made or fetched again; the environment variable SPARSECTRECON_CACHE moves it."""
    if moved := os.environ.get("SPARSECTRECON_CACHE"):
        return Path(moved)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "sparsectrecon"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sparsectrecon"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparsectrecon"


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping, within a container's limit; None where the system does not say."""
    if sys.platform == "win32":
        return _windows_available()
    if sys.platform == "darwin":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = [n for n in (_proc("/proc/meminfo", "MemAvailable"), _container_free()) if n is not None]
    return min(free) if free else None


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not say."""
    if sys.platform == "win32":
        return _windows_peak()
    # getrusage counts what the parent held before this process became its own; the kernel's high-water mark does not.
    if (peak := _proc("/proc/self/status", "VmHWM")) is not None:
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _proc(file: str, key: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return None


def _container_free() -> int | None:
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return None


def _windows_available() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "available", "page_total", "page_available", "virtual_total", "virtual_available", "extended")
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    return status.available if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _windows_peak() -> int | None:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("size", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t) for name in ("peak", "working", "a", "b", "c", "d", "pagefile", "peak_pagefile")
        ]

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel32, psapi = ctypes.windll.kernel32, ctypes.windll.psapi
    kernel32.GetCurrentProcess.restype = wintypes.HANDLE
    psapi.GetProcessMemoryInfo.argtypes = [wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD]
    found = psapi.GetProcessMemoryInfo(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.size)
    return counters.peak if found else None


def out_of_memory(error: BaseException) -> str | None:
    """What ran out of memory, "machine" or "GPU", if that is what an exception says; None otherwise."""
    text = str(error)
    if type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") and "out of memory" in text:
        return "GPU"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in text):
        return "machine"
    return None
