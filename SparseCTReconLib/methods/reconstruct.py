"""From a scan to a volume: the checks before, the drive of a method's states, and how the volume says where it came from."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from .. import __version__, methods
from ..classical.truncation import is_truncated
from ..corrections.redundancy import is_weighed
from ..errors import InputError
from ..geometry import Geometry, default_grid
from ..grid import Grid, Volume
from ..machine import out_of_memory
from ..scan import Scan
from ..units import mu_to_hu
from .base import Method, MethodOptions, State
from .budget import Budget
from .cautions import cautions
from .checks import check_memory, coverage_warnings, fits_memory, free_bytes, halved, rays_meet, triple
from .domain import Cut, Domain, domain, whole
from .last_good import LastGood, not_finite

DISCLAIMER = "research use only; generated detail may be false"
UNITS = ("HU", "1/mm")
PREFIX = "SparseCTRecon."

log = logging.getLogger(__name__)


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
    warnings : tuple of str
        What the user should know before it runs.
    domain : Domain, optional
        Where the method works: the grid and what lies around it; the grid alone by default.
    """

    scan: Scan
    method: Method
    options: MethodOptions
    grid: Grid
    device: str
    preset: str = ""
    warnings: tuple[str, ...] = ()
    domain: Domain | None = None

    def __post_init__(self):
        object.__setattr__(self, "domain", self.domain or whole(self.grid))

    @cached_property
    def scan_hash(self) -> str:
        return self.scan.content_hash()

    @cached_property
    def projector(self):
        """The operator of the scan's geometry on the domain, with which the residual is computed."""
        from ..operators import projector

        return projector(self.scan.geometry, self.domain.grid, self.device)

    @cached_property
    def measured(self) -> Scan:
        """The scan, without what is known of the object beyond the domain."""
        from .surroundings import without_surroundings

        return without_surroundings(self.scan, self.domain)

    @cached_property
    def field_of_view(self) -> np.ndarray:
        """How well the views see each voxel of the grid, uint8 [z, y, x]: see `operators.field_of_view`."""
        from ..operators.field_of_view import field_of_view

        return field_of_view(self.scan.geometry, self.grid)

    @property
    def backend(self) -> str:
        """Name of the projector that runs on the device."""
        return self.projector.backend

    def states(self, budget_s: float | None = None, resume: Mapping[str, np.ndarray] | None = None) -> Iterator[State]:
        """Yield the method's states; stop once the next one would probably end after `budget_s` seconds.

        The first state always comes, with a note where it took longer than the budget. Where the method's numbers cease to be finite,
        the last state is one with the last good volume, and its note says so; FloatingPointError where there is none. So it is where
        the memory gives out, with what to lower; without a good volume the error itself is raised. To cancel, do not
        ask for the next one. A method that wants to know how much of the budget is spent (a learning rate that decays) finds it, 0 to 1,
        as the value of its ``yield``; None where there is no budget.
        """
        if budget_s is not None and not budget_s > 0:
            raise InputError(f"a budget of {budget_s} s: give a positive number of seconds", "bad-budget")
        budget = Budget(budget_s)
        kept = LastGood(lambda mu: residual(self.projector, mu, self.measured.projections) < 1)
        run = self.method.run(self.measured, self.domain.grid, self.options, self.device, resume)
        try:
            with contextlib.closing(run):
                yield from map(Cut(self.domain), self._driven(run, budget, kept))
        except FloatingPointError as error:
            yield Cut(self.domain)(self._last_good(kept, str(error) or "its numbers ceased to be finite"))
        except Exception as error:
            where = out_of_memory(error)
            state = kept.state(f"the {where} ran out of memory{self._smaller()}") if where else None
            if state is None:
                raise
            log.warning("%s: %s", self.method.name, state.note)
            yield Cut(self.domain)(state)

    def _smaller(self) -> str:
        """What to lower to take less memory, in brackets; empty where the method has nothing but the grid."""
        ways = (f"--set {name}={value}" for name, value in halved(self.method, self.options))
        return f" (give {', or '.join(ways)}, or a coarser grid)" if self.method.memory_options else ""

    def _driven(self, run, budget: Budget, kept: LastGood) -> Iterator[State]:
        """States of `run` within the budget; raises FloatingPointError with the reason when one is not finite."""
        while True:
            try:
                state = run.send(budget.begin_step())
            except StopIteration:
                return
            budget.end_step()
            if reason := not_finite(state.metrics):
                raise FloatingPointError(reason)
            note = budget.too_short(state)
            if note:
                log.warning("%s: %s", self.method.name, note)
            yield kept.guard(replace(state, note=note))
            kept.look_if_due()
            if kept.spoiled:
                raise FloatingPointError("its volume had values that are not finite")
            if budget.is_spent():
                return

    def _last_good(self, kept: LastGood | None, reason: str) -> State:
        """The state with the last good volume.

        Raises
        ------
        FloatingPointError
            Where there is none.
        """
        state = kept.state(reason) if kept else None
        if state is None:
            raise FloatingPointError(f"{self.method.name} diverged before it had a good volume: {reason}")
        log.warning("%s: %s", self.method.name, state.note)
        return state

    def settle(self, state: State) -> State:
        """`state` with its volume found; if that is not finite, the last good state of the same run.

        Raises
        ------
        FloatingPointError
            Where no volume is finite.
        """
        mu = np.asarray((state.whole or state.volume)(), dtype=np.float32)
        if not np.isfinite(mu).all():
            return Cut(self.domain)(self._last_good(state.last_good, "its volume had values that are not finite"))
        return replace(Cut(self.domain)(replace(state, volume=lambda: mu, others={})), others=state.others)

    def volume(self, state: State, seconds: float, unit: str = "HU") -> Volume:
        """The volume of `state` (or of the last good one, see `settle`) with its provenance; `seconds` is what it took."""
        state = self.settle(state)
        attributes = self.provenance(state, seconds, residual(self.projector, (state.whole or state.volume)(), self.measured.projections))
        return Volume(to_unit(state.volume(), unit, self.scan.mu_water), self.grid, attributes | {PREFIX + "unit": unit}, unit)

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
            "warnings": "; ".join(filter(None, [*self.warnings, *state.warnings, state.note])),
            "weights": "",
            "versions": json.dumps(versions()),
            "device": self.device,
            "backend": self.backend,
            "scan_sha256": self.scan_hash,
            "seconds": f"{seconds:.2f}",
            "reprojection_residual": f"{reprojection_residual:.6g}",
            "geometry": geometry_summary(self.scan.geometry),
            "domain": self.domain.said,
            "mu_water_per_mm": f"{self.scan.mu_water:.6g}",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "disclaimer": DISCLAIMER,
        } | state.facts
        return {PREFIX + key: str(value) for key, value in facts.items()}


def prepare(
    scan: Scan,
    method: str = "naf",
    grid: Grid | None = None,
    device: str = "auto",
    options: dict | None = None,
    extended: bool = True,
) -> Reconstruction:
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
    extended : bool
        Whether the method may work on a larger grid where the object reaches beyond the one that is asked for.

    Raises
    ------
    InputError
        For an unknown method, option, preset or device, a device that is not there, a grid that no ray meets or that memory cannot hold.
    """
    chosen = methods.get(method)
    parsed, preset = methods.parse_options(chosen, options or {}), methods.preset_name(chosen, options or {})
    grid = grid or default_grid(scan.geometry)
    if is_weighed(scan):
        raise InputError("the scan's rows are weighed for another program's filter: reconstruct the scan from before", "weighed")
    if not rays_meet(scan.geometry, grid):
        raise InputError(
            f"no ray of the scan meets the grid about LPS {triple(grid.centre_mm)} mm (extent {triple(grid.extent_mm)} mm): "
            f"the isocentre is at {triple(scan.geometry.isocentre_mm)}; centre the grid there",
            "grid-missed",
        )
    device = choose_device(device, chosen)
    free = free_bytes(device)
    check_memory(chosen, scan, grid, parsed, free)
    warnings = coverage_warnings(scan.geometry, grid) + cautions(chosen, scan.geometry, is_truncated(scan))
    for sentence in warnings:
        log.warning(sentence)
    works_on = whole(grid)
    if extended and chosen.needs_whole_object:
        works_on = domain(scan, grid, lambda larger: fits_memory(chosen, scan, larger, parsed, free))
    if works_on.said:
        log.info("%s works on %s", chosen.name, works_on.said)
    return Reconstruction(scan, chosen, parsed, grid, device, preset, tuple(warnings), works_on)


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
        f"detector {nu} x {nv} pixels of {du:g} x {dv:g} mm (u x v), isocentre {triple(geometry.isocentre_mm)} mm LPS"
    )
