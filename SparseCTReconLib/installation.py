"""What this installation and this machine have, what is missing, and what to do about it. It finds faults; it never fails on one.

`python -m SparseCTReconLib.installation` prints it as one line of JSON: a panel runs that in a process of its own, so that nothing heavy
is imported where it shows it. Standard library only, until something is tried.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__
from .machine import available_memory_bytes, cache_folder, cores
from .resources import SAMPLE_CT, find, kept

OK, OPTIONAL, WARNING, FAULT = "ok", "optional", "warning", "fault"
NEEDED = ("numpy", "scipy", "numba", "torch", "pydantic", "safetensors", "SimpleITK", "tyro", "rich", "matplotlib")
EXTRAS = {
    "pydicom": ("write DICOM series", "pip install pydicom"),
    "itk-rtk": ("compare with RTK", "pip install itk-rtk"),
    "tinycudann": ("faster neural fields on NVIDIA GPUs", "see https://github.com/NVlabs/tiny-cuda-nn"),
    "gsplat": ("faster Gaussians on NVIDIA GPUs", "pip install gsplat"),
    "tigre": ("GPU projectors", "see https://github.com/CERN/TIGRE"),
    "diffusers": ("repair by a diffusion model", 'pip install "sparsectrecon[sd-turbo]"'),
    "TotalSegmentator": ("organs in a comparison", "pip install TotalSegmentator"),
    "lightning": ("training on many GPUs", "pip install lightning"),
    "pooch": ("fetch pretrained weights", 'pip install "sparsectrecon[download]"'),
}
_MODULES = {"PyYAML": "yaml", "pillow": "PIL"}
"""Modules whose name is not that of their package."""
_LOW_MEMORY, _LOW_DISK = 2e9, 2e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    state : str
        "ok", "optional" (not there, and not needed), "warning" or "fault" (a reconstruction will fail).
    found : str
        What is there, or what is wrong: a phrase.
    next_step : str
        What to do; empty where nothing has to be done.
    """

    name: str
    state: str
    found: str
    next_step: str = ""


def examine(needed: tuple[str, ...] = NEEDED, folder: str | os.PathLike | None = None) -> dict:
    """Look at packages, devices, kernels, memory, disk and files.

    Parameters
    ----------
    needed : tuple of str
        Names of the packages that must be there.
    folder : path, optional
        Where volumes will be written; the present folder if not given.

    Returns
    -------
    dict
        JSON values: "findings" (each a `Finding` as a dict), "warnings" (a sentence for each that is no good), and the facts one by one:
        version, python, platform, packages, optional, devices, kernel_cache, cores, free_memory_gb, free_disk_gb.
    """
    packages = {name: _version(name) for name in needed}
    devices, torch = _devices()
    memory, disk = available_memory_bytes(), shutil.disk_usage(folder or Path.cwd()).free
    findings = [*map(_package, packages, packages.values()), *torch, *_kernels(), _memory(memory), _disk(disk), _resources(), *_segmenter()]
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": packages,
        "optional": {name: {"version": _version(name), "for": use, "install": install} for name, (use, install) in EXTRAS.items()},
        "devices": devices,
        "kernel_cache": _kernel_cache(),
        "cores": cores(),
        "free_memory_gb": None if memory is None else round(memory / 1e9, 2),
        "free_disk_gb": round(disk / 1e9, 2),
        "findings": [asdict(finding) for finding in findings],
        "warnings": [f"{one.found}: {one.next_step}" for one in findings if one.state in (WARNING, FAULT)],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _package(name: str, number: str | None) -> Finding:
    if number is None:
        return Finding(name, FAULT, f"{name} is missing", f"pip install {name}")
    if name == "torch":
        return Finding(name, OK, number)
    try:
        importlib.import_module(_MODULES.get(name, name))
    except Exception as error:
        return Finding(name, FAULT, f"{name} {number} cannot be loaded ({error})", f"pip install --force-reinstall {name}")
    return Finding(name, OK, number)


def _devices() -> tuple[list[dict], list[Finding]]:
    devices = [{"name": "cpu", "what": platform.processor() or platform.machine()}]
    try:
        import torch

        devices += [{"name": f"cuda:{i}", "what": torch.cuda.get_device_name(i)} for i in range(torch.cuda.device_count())]
        build = torch.version.cuda
    except Exception as error:
        return devices, [Finding("device", FAULT, f"torch cannot be loaded ({error})", "pip install torch")]
    found = f"torch {torch.__version__}, {f'CUDA {build}' if build else 'no CUDA'}: {', '.join(one['what'] for one in devices)}"
    if len(devices) == 1 and (seen := _nvidia()):
        hint = "a driver that fits" if build else "a CUDA build of torch (see https://pytorch.org/get-started/locally)"
        unused = f"there is a GPU ({seen}) that torch {torch.__version__} cannot use"
        return devices, [Finding("device", WARNING, unused, f"install {hint}")]
    return devices, [Finding("device", OK, found)]


def _nvidia() -> str | None:
    """The first GPU that the driver names, whether torch can use it or not."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return listed.splitlines()[0].split("(UUID")[0].strip() if listed.strip() else None


def _kernels() -> list[Finding]:
    """Whether the kernels' folder can be written, and whether a projection and its adjoint agree once they are compiled."""
    place = next(parent for parent in (cache_folder(), *cache_folder().parents) if parent.exists())
    if not os.access(place, os.W_OK):
        fault = f"the kernels' cache {cache_folder()} cannot be written"
        return [Finding("kernels", WARNING, fault, "set SPARSECTRECON_CACHE to a folder that can")]
    try:
        error = _adjoint_error()
    except ImportError as fault:
        package = fault.name or "torch"
        return [Finding("kernels", FAULT, f"the kernels cannot be tried without {package}", f"pip install {package}")]
    except Exception as fault:
        said = str(fault).strip().splitlines() or [type(fault).__name__]
        return [Finding("kernels", FAULT, f"the projector's kernels cannot be compiled ({said[0]})", "pip install --upgrade numba")]
    if not error < 1e-4:
        wrong = f"the projector and its adjoint do not agree ({error:.0e})"
        return [Finding("kernels", FAULT, wrong, "delete the compiled kernels, and report it if that does not help")]
    return [Finding("kernels", OK, f"compiled; projector and adjoint agree to {max(error, 1e-7):.0e}")]


def _adjoint_error() -> float:
    """|<Ax, y> - <x, A'y>| / (|Ax| |y|) of the CPU projector on a tiny scan."""
    import torch

    from .geometry import Geometry
    from .grid import Grid
    from .operators import projector

    A = projector(Geometry.circular(3, detector_shape=(8, 8), pixel_mm=(8, 8)), Grid.centred((8, 8, 8), (4, 4, 4)))
    numbers = torch.Generator().manual_seed(0)
    x, y = torch.rand(A.volume_shape, generator=numbers), torch.rand(A.projection_shape, generator=numbers)
    Ax = A(x)
    return float(abs((Ax * y).sum() - (x * A.T(y)).sum()) / (Ax.norm() * y.norm()))


def _kernel_cache() -> dict:
    files = [file for folder in kept("kernels") for file in folder.rglob("*") if file.is_file()]
    return {"folder": str(cache_folder()), "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 2)}


def _memory(free: float | None) -> Finding:
    if free is None:
        return Finding("memory", OK, "the system does not say")
    found = f"{free / 1e9:.1f} GB of memory are free"
    if free < _LOW_MEMORY:
        return Finding("memory", WARNING, f"only {found}", "close other programs or take a coarse grid")
    return Finding("memory", OK, f"{found}, {cores()} cores")


def _disk(free: float) -> Finding:
    found = f"{free / 1e9:.1f} GB of disk are free here"
    if free < _LOW_DISK:
        return Finding("disk", WARNING, f"only {found}", "make room or work elsewhere")
    return Finding("disk", OK, found)


def _resources() -> Finding:
    try:
        weights = len(list((find(SAMPLE_CT).parents[1] / "Weights").glob("*.safetensors")))
    except Exception as error:
        return Finding("files", WARNING, "the sample CT is not there", str(error).rpartition(": ")[2])
    if not weights:
        return Finding("files", WARNING, "the pretrained weights are not there, and naf runs without them", "install it again")
    return Finding("files", OK, f"sample CT, {weights} files of pretrained weights")


def _segmenter() -> list[Finding]:
    number = _version("TotalSegmentator")
    use, install = EXTRAS["TotalSegmentator"]
    if number:
        return [Finding("TotalSegmentator", OK, number)]
    return [Finding("TotalSegmentator", OPTIONAL, f"not installed; for {use}", install)]


def main(arguments: list[str] | None = None) -> None:
    """Print what `examine` finds as the last line of stdout."""
    parser = argparse.ArgumentParser(prog="python -m SparseCTReconLib.installation", description=__doc__.partition("\n")[0])
    parser.add_argument("--needed", nargs="+", default=NEEDED, metavar="PACKAGE")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where volumes will be written")
    chosen = parser.parse_args(arguments)
    print(json.dumps(examine(tuple(chosen.needed), chosen.folder)), flush=True)


if __name__ == "__main__":
    main()
