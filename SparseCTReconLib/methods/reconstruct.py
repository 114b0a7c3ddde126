"""From a scan to a volume: the checks before, the drive of a method's states, and how the volume says where it came from."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from .. import __version__, methods
from ..errors import InputError
from ..geometry import Geometry, default_grid
from ..grid import Grid, Volume
from ..machine import available_memory_bytes
from ..scan import Scan
from ..units import mu_to_hu
from .base import Method, MethodOptions, State

DISCLAIMER = "research use only; generated detail may be false"
UNITS = ("HU", "1/mm")
PREFIX = "SparseCTRecon."

# Float32 copies that an iterative method holds at once, and what python, torch and the kernels take.
_VOLUMES_HELD, _STACKS_HELD, _BASE_BYTES = 10, 6, 0.5e9


@dataclass(frozen=True)
class Reconstruction:
    """A reconstruction that is checked and ready to run; `prepare` makes it.

    Parameters
    ----------
    scan : Scan
    method : Method
    options : MethodOptions
    grid : Grid
    device : str
        "cpu" or "cuda", never "auto".
    preset : str
        Name of the preset that `options` were put on.
    """

    scan: Scan
    method: Method
    options: MethodOptions
    grid: Grid
    device: str
    preset: str = ""

    @cached_property
    def scan_hash(self) -> str:
        return self.scan.content_hash()

    @cached_property
    def projector(self):
        """The operator of the scan's geometry on the grid, with which the residual is computed."""
        from ..operators import projector

        return projector(self.scan.geometry, self.grid, self.device)

    @property
    def backend(self) -> str:
        """Name of the projector that runs on the device."""
        return self.projector.backend

    def states(self, budget_s: float | None = None, resume: Mapping[str, np.ndarray] | None = None) -> Iterator[State]:
        """Yield the method's states; stop once the next one would probably end after `budget_s` seconds.

        The first state always comes. To cancel, do not ask for the next one. A method that wants to know how much of the budget is
        spent (a learning rate that decays) finds it, 0 to 1, as the value of its ``yield``; None where there is no budget.
        """
        start = asked = time.monotonic()
        recent: deque[float] = deque(maxlen=3)  # not all: the first state's time holds the compilation of kernels
        run = self.method.run(self.scan, self.grid, self.options, self.device, resume)
        spent = None
        with contextlib.suppress(StopIteration), contextlib.closing(run):
            while True:
                state = run.send(spent)
                recent.append(time.monotonic() - asked)
                yield state
                asked = time.monotonic()
                if budget_s is not None:
                    if asked - start + max(recent) > budget_s:
                        return
                    spent = (asked - start) / budget_s

    def volume(self, state: State, seconds: float, unit: str = "HU") -> Volume:
        """The volume of `state` with its provenance; `seconds` is what it took."""
        mu = np.asarray(state.volume(), dtype=np.float32)
        if not np.isfinite(mu).all():
            raise FloatingPointError(f"{self.method.name} diverged: its volume has values that are not finite")
        attributes = self.provenance(state, seconds, residual(self.projector, mu, self.scan.projections))
        return Volume(to_unit(mu, unit, self.scan.mu_water), self.grid, attributes | {PREFIX + "unit": unit}, unit)

    def provenance(self, state: State, seconds: float, reprojection_residual: float) -> dict[str, str]:
        """How the volume came about, as attribute keys and values."""
        options = self.options.model_dump(mode="json")
        facts = {
            "method": self.method.name,
            "method_title": self.method.title,
            "preset": self.preset,
            "options": json.dumps(options),
            "seed": options.get("seed", ""),
            "steps": f"{state.step} of {state.steps}",
            "weights": ", ".join(self.method.weights),
            "versions": json.dumps(versions()),
            "device": self.device,
            "backend": self.backend,
            "scan_sha256": self.scan_hash,
            "seconds": f"{seconds:.2f}",
            "reprojection_residual": f"{reprojection_residual:.6g}",
            "geometry": geometry_summary(self.scan.geometry),
            "mu_water_per_mm": f"{self.scan.mu_water:.6g}",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "disclaimer": DISCLAIMER,
        }
        return {PREFIX + key: str(value) for key, value in facts.items()}


def prepare(scan: Scan, method: str = "naf", grid: Grid | None = None, device: str = "auto", options: dict | None = None) -> Reconstruction:
    """Check everything that can be checked before the work starts.

    Parameters
    ----------
    scan : Scan
    method : str
        Name of a method, see `methods.names`.
    grid : Grid, optional
        Voxels to reconstruct; by default those of the scan's field of view.
    device : str
        "auto", "cpu" or "cuda".
    options : dict, optional
        Options of the method by name, put on those of the preset that it names under "preset".

    Raises
    ------
    InputError
        For an unknown method, option, preset or device, a device that is not there, a grid that no ray meets or that memory cannot hold.
    """
    chosen = methods.get(method)
    parsed, preset = methods.parse_options(chosen, options or {}), methods.preset_name(chosen, options or {})
    grid = grid or default_grid(scan.geometry)
    if not rays_meet(scan.geometry, grid):
        raise InputError(
            f"no ray of the scan meets the grid about LPS {_triple(grid.centre_mm)} mm (extent {_triple(grid.extent_mm)} mm): "
            f"the isocentre is at {_triple(scan.geometry.isocentre_mm)}; centre the grid there",
            "grid-missed",
        )
    check_memory(grid, scan.projections.size)
    return Reconstruction(scan, chosen, parsed, grid, choose_device(device, chosen), preset)


def reconstruct(
    scan: Scan,
    method: str = "naf",
    grid: Grid | None = None,
    device: str = "auto",
    budget_s: float | None = None,
    progress: Callable[[State], None] | None = None,
    unit: str = "HU",
    preset: str | None = None,
    **options,
) -> Volume:
    """Reconstruct a volume from a scan.

    Parameters
    ----------
    scan : Scan
        Line integrals and poses.
    method : str
        Name of a method, see `methods.names`.
    grid : Grid, optional
        Voxels to reconstruct; by default those of the scan's field of view.
    device : str
        "auto" takes the GPU where there is one that the method can use; "cuda" fails where there is none.
    budget_s : float, optional
        Stop after about this many seconds with what there is.
    progress : callable, optional
        Called with each `State`.
    unit : str
        "HU" or "1/mm".
    preset : str, optional
        Name of one of the method's presets; its first one by default.
    **options
        Options of the method, put on the preset's.

    Returns
    -------
    Volume
        float32 [z, y, x], with how it was made in its attributes.

    Raises
    ------
    InputError
        See `prepare`.
    """
    if unit not in UNITS:
        raise InputError(f"unit {unit!r}: a volume is in 'HU' or in '1/mm'", "bad-unit")
    if budget_s is not None and not budget_s > 0:
        raise InputError(f"a budget of {budget_s} s: give a positive number of seconds", "bad-budget")
    job = prepare(scan, method, grid, device, options | {"preset": preset})
    start = time.monotonic()
    state = None
    for state in job.states(budget_s):
        if progress:
            progress(state)
    return job.volume(state, time.monotonic() - start, unit)


def residual(A, mu: np.ndarray, projections: np.ndarray) -> float:
    """Relative reprojection residual |A mu - p| / |p| of a volume `mu` (1/mm, [z, y, x]) on line integrals `projections`."""
    import torch

    with torch.no_grad():
        computed = A(A.volume(mu)).cpu().numpy()
    norm = float(np.linalg.norm(projections.ravel()))
    return float(np.linalg.norm((computed - projections).ravel())) / norm if norm else 0.0


def to_unit(mu: np.ndarray, unit: str, mu_water: float) -> np.ndarray:
    """`mu` (1/mm) in `unit`, float32."""
    return np.asarray(mu_to_hu(mu, mu_water) if unit == "HU" else mu, dtype=np.float32)


def choose_device(device: str, method: Method) -> str:
    """The device that runs: what was asked, or the best there is for "auto".

    Raises
    ------
    InputError
        Where "cuda" was asked and the machine or the method has none: it never falls back in silence.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r}: give auto, cpu or cuda", "bad-device")
    if device == "cpu" or (device == "auto" and "cuda" not in method.devices):
        return "cpu"
    if "cuda" not in method.devices:
        raise InputError(f"{method.name} runs on {', '.join(method.devices)}, not on cuda: give --device cpu or auto", "no-device")
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        build = torch.version.cuda or "CPU only"
        raise InputError(
            f"device cuda was asked for, but torch {torch.__version__} (CUDA build: {build}) finds no GPU: give --device cpu, or install "
            "a CUDA build of torch and the driver",
            "no-device",
        )
    return "cpu"


def check_memory(grid: Grid, pixels: int, available: int | None = None) -> None:
    """Refuse a grid that the memory cannot hold, with what it needs and a size that fits."""
    available = available_memory_bytes() if available is None else available
    voxels = float(np.prod([float(n) for n in grid.size]))
    fixed = _BASE_BYTES + 4.0 * _STACKS_HELD * pixels
    need = fixed + 4.0 * _VOLUMES_HELD * voxels
    if available is None or need <= available:
        return
    scale = (max(available - fixed, 0.0) / (need - fixed)) ** (1 / 3)
    fits = tuple(int(n * scale) for n in grid.size)
    way_out = (
        f"give --size {' '.join(map(str, fits))} or smaller (spacing {_triple(np.asarray(grid.spacing_mm) / scale)} mm)"
        if min(fits) > 0
        else "the projections alone fill it; bin the detector or take fewer views"
    )
    raise InputError(
        f"a volume of {' x '.join(map(str, grid.size))} voxels needs about {need / 1e9:.1f} GB, "
        f"{available / 1e9:.1f} GB are free: {way_out}",
        "too-large",
    )


def rays_meet(geometry: Geometry, grid: Grid) -> bool:
    """Whether the shadow of the grid's box falls on the detector in at least one view."""
    n, (nv, nu), (dv, du) = np.asarray(grid.size), geometry.detector_shape, geometry.pixel_mm
    index = np.array([[i, j, k] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * n - 0.5
    corners = index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]
    ray = corners[None] - geometry.source[:, None]
    depth = np.einsum("vcx,vx->vc", ray, geometry.normal)
    behind_source = (depth <= 0).any(axis=1)
    if behind_source.any():
        return True
    hit = ray * (geometry.sdd_mm[:, None] / depth)[..., None] + (geometry.source - geometry.detector)[:, None]
    u, v = (np.einsum("vcx,vx->vc", hit, axis) for axis in (geometry.u, geometry.v))
    half_u, half_v = nu * du / 2, nv * dv / 2
    on_detector = (u.min(1) < half_u) & (u.max(1) > -half_u) & (v.min(1) < half_v) & (v.max(1) > -half_v)
    return bool(on_detector.any())


def versions() -> dict[str, str]:
    """Versions of this library and of what it computes with."""
    found = {"SparseCTReconLib": __version__, "python": sys.version.split()[0]}
    for package in ("torch", "numba", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def geometry_summary(geometry: Geometry) -> str:
    """Views, orbit and detector in one line."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    orbit = "full circle" if geometry.is_full_circle() else "partial orbit"
    return (
        f"{geometry.views} views, {orbit}, SID {geometry.sid_mm.mean():.1f} mm, SDD {geometry.sdd_mm.mean():.1f} mm, "
        f"detector {nu} x {nv} pixels of {du:g} x {dv:g} mm (u x v), isocentre {_triple(geometry.isocentre_mm)} mm LPS"
    )


def _triple(values) -> str:
    return "(" + ", ".join(f"{float(value):.4g}" for value in values) + ")"
