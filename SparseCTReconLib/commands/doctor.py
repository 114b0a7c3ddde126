"""doctor: what this installation and this machine have. It finds faults; it never fails on one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import __version__
from ..machine import available_memory_bytes, cores

_NEEDED = ("numpy", "scipy", "numba", "torch", "pydantic", "safetensors", "SimpleITK", "tyro", "rich", "matplotlib")
_OPTIONAL = {
    "itk-rtk": ("compare with RTK", "pip install itk-rtk"),
    "tinycudann": ("faster neural fields on NVIDIA GPUs", "see https://github.com/NVlabs/tiny-cuda-nn"),
    "gsplat": ("faster Gaussians on NVIDIA GPUs", "pip install gsplat"),
    "tigre": ("GPU projectors", "see https://github.com/CERN/TIGRE"),
    "diffusers": ("repair by a diffusion model", "pip install diffusers peft"),
    "TotalSegmentator": ("organs in a comparison", "pip install TotalSegmentator"),
    "lightning": ("training on many GPUs", "pip install lightning"),
}
_LOW_MEMORY, _LOW_DISK = 2e9, 2e9


def examine() -> dict:
    """Versions, devices, kernels' cache, optional packages, memory, cores, disk, and warnings: one sentence each."""
    warnings: list[str] = []
    needed = {name: _version(name) for name in _NEEDED}
    warnings += [f"{name} is missing: pip install {name}" for name, found in needed.items() if found is None]
    memory, disk = available_memory_bytes(), shutil.disk_usage(Path.cwd()).free
    if memory is not None and memory < _LOW_MEMORY:
        warnings.append(f"only {memory / 1e9:.1f} GB of memory are free: close other programs or take a coarse grid")
    if disk < _LOW_DISK:
        warnings.append(f"only {disk / 1e9:.1f} GB of disk are free here: make room or work elsewhere")
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": needed,
        "optional": {
            name: {"version": _version(name), "for": purpose, "install": install} for name, (purpose, install) in _OPTIONAL.items()
        },
        "devices": _devices(warnings),
        "kernel_cache": _kernel_cache(warnings),
        "cores": cores(),
        "free_memory_gb": None if memory is None else round(memory / 1e9, 2),
        "free_disk_gb": round(disk / 1e9, 2),
        "warnings": warnings,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices(warnings: list[str]) -> list[dict]:
    devices = [{"name": "cpu", "what": platform.processor() or platform.machine()}]
    try:
        import torch

        devices += [{"name": f"cuda:{i}", "what": torch.cuda.get_device_name(i)} for i in range(torch.cuda.device_count())]
        build = torch.version.cuda
    except Exception as error:
        warnings.append(f"torch cannot be loaded ({error}): pip install torch")
        return devices
    if len(devices) == 1 and (seen := _nvidia()):
        hint = "a driver that fits" if build else "a CUDA build of torch (see https://pytorch.org/get-started/locally)"
        warnings.append(f"there is a GPU ({seen}) that torch {torch.__version__} cannot use: install {hint}")
    return devices


def _nvidia() -> str | None:
    """The first GPU that the driver names, whether torch can use it or not."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return listed.splitlines()[0].split("(UUID")[0].strip() if listed.strip() else None


def _kernel_cache(warnings: list[str]) -> dict:
    try:
        from ..operators._jit import cache_folder

        folder = cache_folder()
    except Exception as error:
        warnings.append(f"the compiled kernels cannot be loaded ({error}): pip install numba")
        return {"folder": None, "megabytes": 0.0}
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        warnings.append(f"the kernels' cache {folder} cannot be written: set SPARSECTRECON_CACHE to a folder that can")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
    return {"folder": str(folder), "megabytes": round(size / 1e6, 2)}


def print_report(found: dict, console: Console) -> None:
    """What `examine` found, for a person."""
    table = Table("what", "found", box=None, padding=(0, 2, 0, 0))
    table.add_row("sparsectrecon", f"{found['version']} on Python {found['python']}, {found['platform']}")
    table.add_row("packages", ", ".join(f"{name} {number or 'missing'}" for name, number in found["packages"].items()))
    table.add_row("devices", ", ".join(f"{device['name']} ({device['what']})" for device in found["devices"]))
    table.add_row("kernels' cache", f"{found['kernel_cache']['folder']} ({found['kernel_cache']['megabytes']} MB)")
    table.add_row("cores, memory, disk", f"{found['cores']}, {found['free_memory_gb']} GB free, {found['free_disk_gb']} GB free")
    for name, package in found["optional"].items():
        table.add_row(f"optional: {name}", package["version"] or f"not installed; for {package['for']}: {package['install']}")
    console.print(table, highlight=False)
    for warning in found["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    if not found["warnings"]:
        console.print("all well", style="green")
