"""INR: a neural field rasterised on the grid, fitted to all rays of its views at once by least squares, filtered least squares or ADMM.

    ls     minimise  0.5 |A R(theta) - y|_W^2            + lambda TV(R(theta))
    fls    minimise  0.5 |H^(1/2) (A R(theta) - y)|_W^2  + lambda TV(R(theta))        H: ramp along rows, FDK's weights in W
    admm   minimise  0.5 |A x - y|_W^2 + lambda TV(x)  subject to  x = R(theta):
               x      <-  argmin 0.5 |A x - y|_W^2 + rho / 2 |x - R(theta) + u|^2     conjugate gradients from the last x
               theta  <-  argmin |R(theta) - prox_{lambda / rho TV}(x + u)|^2         Adam, in voxel space: no projections
               u      <-  u + x - R(theta)

(Accelerated optimization of implicit neural representations for CT reconstruction, equations 3 to 9, there in 2D and without TV.) Ordered
subsets of the views and gradients from a random share of the voxels make a step cheap. Adam's rates fall by the end of the passes or of
the time.

The paper's learning rates, omega, hash sizes and rho are not known. What was found by trial: in 2D (`Testing/Benchmarks/breast_2d.py`),
networks of 64 neurons bear rates of 5e-4 (SIREN; 1e-3 jumps, 3e-3 diverges) and 1e-2 (ReLU; wider ones less), hash grids 3e-3 to 1e-2; rho
is best between 3 and 10 without TV. In 3D (20 views of heads, knees, chests and abdomens on 64 voxels cubed) ADMM beats FLS by 4 to 6 dB in
equal time, best with rho 0.5 to 2, 6 to 10 conjugate gradients and many steps on few voxels; half of ADMM-TV's usual weight of TV is better
at 10 and 20 views, the whole at 50.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import model_validator

from ..classical.cgls import CGLSState, begin, cgls
from ..classical.data_terms import DataTerm, Weighted, filtered_metric, plain_metric
from ..classical.weights import mean_curvature, measurement_weights, total_variation_weight
from ..fields.backends import make_field
from ..fields.hash_grid import HashGrid
from ..fields.head import Head
from ..fields.networks import FourierReLU, HashNetwork, Siren
from ..fields.raster import Raster
from ..fields.rays import UnitCube
from ..fields.smoothness import total_variation_gradient
from ..operators import projector
from ..operators.averaging import neighbour_weight, voxel_means
from ..operators.tv import TotalVariationProx
from .base import Method, MethodOptions, iterate_states, option

DEFAULTS = {
    "ls": {"share": 0.25, "views_per_subset": 10},
    "fls": {"share": 0.25, "views_per_subset": 10},
    "admm": {"share": 0.05, "rho": 1.0, "cg_iterations": 10, "fit_iterations": 60},
    "hash": {"width": 32, "encoder_rate": 3e-2, "network_rate": 1e-2, "levels": 8, "log2_table": 22},
    "siren": {"width": 64, "depth": 6, "network_rate": 5e-4, "omega": 30.0},
    "relu": {"width": 64, "depth": 6, "network_rate": 5e-3, "frequencies": 8, "bandwidth": 16.0},
}
"""What an option that is left out is, by loss and architecture; one that neither has must be left out. See the module for how found."""

FINAL_RATE = 0.05
SCHEDULES = {
    "smooth": lambda progress: FINAL_RATE**progress,
    "step": lambda progress: 1.0 if progress < 0.5 else 0.1,
    "constant": lambda progress: 1.0,
}
"""Factor on the learning rates by the share of the work that is done, 0 to 1."""

ALL_VIEWS = 10_000
PROX_ITERATIONS = 10
FEWEST_VOXELS = 4096
"""That a step learns from, where the grid has as many, whatever its share."""


class INROptions(MethodOptions):
    architecture: Literal["hash", "siren", "relu"] = option("hash", "", "Network: hash grid, sines, or ReLU on Fourier features.")
    loss: Literal["ls", "fls", "admm"] = option("admm", "", "Least squares, filtered least squares, or least squares by ADMM.")
    iterations: int = option(100, "passes", "Passes over all views, each a projection and a back-projection.", ge=1, le=100_000)
    views_per_subset: int | None = option(
        None,
        "views",
        "ls, fls: views in a step; fewer make more and cheaper steps in a pass. Default 10.",
        ge=1,
        le=ALL_VIEWS,
        advanced=True,
    )
    share: float | None = option(
        None,
        "",
        "Part of the voxels, drawn anew in each step, that the field learns from. Default: admm 0.05, else 0.25.",
        gt=0,
        le=1,
        advanced=True,
    )
    smoothness: float = option(0.5, "", "Factor on the weight of total variation; 0 leaves it out.", ge=0, le=100)
    non_negative: bool = option(True, "", "Attenuation is not negative. Total variation in admm sees to that, too.", advanced=True)
    schedule: Literal["smooth", "step", "constant"] = option(
        "smooth",
        "",
        "Learning rates: falling to a twentieth; to a tenth at half the way; as they are.",
        advanced=True,
    )
    encoder_rate: float | None = option(None, "", "hash: learning rate of the tables. Default 0.03.", gt=0, le=1, advanced=True)
    network_rate: float | None = option(
        None, "", "Learning rate of the network. Default: hash 0.01, siren 0.0005, relu 0.005.", gt=0, le=1, advanced=True
    )
    rho: float | None = option(
        None, "", "admm: weight of x = R(theta), over the data term's mean curvature. Default 1.", gt=0, le=1e4, advanced=True
    )
    cg_iterations: int | None = option(
        None, "passes", "admm: conjugate gradients for x, each a pass. Default 10.", ge=1, le=1000, advanced=True
    )
    fit_iterations: int | None = option(None, "steps", "admm: steps of the field towards x. Default 60.", ge=1, le=10_000, advanced=True)
    width: int | None = option(
        None, "neurons", "Neurons of a layer. Default: hash 32, else 64.", ge=8, le=1024, multiple_of=4, advanced=True
    )
    depth: int | None = option(None, "layers", "siren, relu: hidden layers. Default 6.", ge=1, le=16, advanced=True)
    omega: float | None = option(None, "", "siren: factor within the sines. Default 30.", gt=0, le=1000, advanced=True)
    frequencies: int | None = option(None, "", "relu: frequencies along each axis. Default 8.", ge=1, le=64, advanced=True)
    bandwidth: float | None = option(
        None, "periods", "relu: highest frequency, per longest edge of the grid. Default 16.", ge=0.5, le=1024, advanced=True
    )
    levels: int | None = option(None, "levels", "hash: levels of the grid. Default 8.", ge=2, le=16, multiple_of=2, advanced=True)
    log2_table: int | None = option(
        None, "log2 rows", "hash: rows of a level's table, as a power of two. Default 22.", ge=10, le=24, advanced=True
    )
    seed: int = option(0, "", "Of the start and of the voxels drawn.", ge=0, advanced=True)

    @model_validator(mode="after")
    def _no_contradiction(self):
        taken = DEFAULTS[self.loss] | DEFAULTS[self.architecture]
        for kind, defaults in DEFAULTS.items():
            for name in defaults.keys() - taken.keys():
                if getattr(self, name) is not None:
                    setting = "loss" if kind in ("ls", "fls", "admm") else "architecture"
                    said = f"{name} means nothing to {setting}={getattr(self, setting)}"
                    raise ValueError(f"{said}: leave it out (or the preset that gives it), or give {setting}={kind}")
        if self.loss == "admm" and self.smoothness and not self.non_negative:
            raise ValueError("total variation in admm leaves nothing negative: give smoothness=0, or non_negative=True")
        return self

    def chosen(self, name: str):
        """An option's value, or its default for this loss and architecture; None where neither has it."""
        value = getattr(self, name)
        return (DEFAULTS[self.loss] | DEFAULTS[self.architecture]).get(name) if value is None else value


class INR(Method):
    name = "inr"
    title = "INR (LS, FLS, ADMM)"
    summary = "A neural field (hash grid, SIREN or ReLU) fitted to whole projections by filtered least squares or ADMM."
    citation = (
        "Najaf M, Ongie G. Accelerated optimization of implicit neural representations for CT reconstruction. ISBI 2025. arXiv:2504.13390"
    )
    devices = ("cpu", "cuda")
    poor_on = {"arc": "fills in less of what is missing; admm-tv is 2 dB better"}
    Options = INROptions
    presets = {
        "recommended": {},
        "paper": {
            "loss": "fls",
            "iterations": 1000,
            "views_per_subset": ALL_VIEWS,
            "share": 1.0,
            "smoothness": 0.0,
            "non_negative": False,
            "schedule": "step",
        },
        "paper-admm": {
            "loss": "admm",
            "iterations": 1000,
            "share": 1.0,
            "smoothness": 0.0,
            "non_negative": False,
            "schedule": "constant",
            "cg_iterations": 50,
            "fit_iterations": 50,
        },
    }

    memory_options = ("log2_table", "levels")

    def run(self, scan, grid, options, device="cpu", resume=None):
        training = (Splitting if options.loss == "admm" else Descent)(scan, grid, options, device)
        if resume:
            training.restore(resume)
        neighbour = neighbour_weight(scan, grid)
        yield from iterate_states(
            training.updates(),
            "fitting the field",
            training.steps,
            training.done,
            volume=lambda metrics: voxel_means(training.volume().cpu().numpy(), neighbour),
            metrics=lambda metrics: metrics,
            arrays=lambda metrics: training.arrays(),
            heed=training.heed,
            facts={"field_backend": training.field.backend},
        )


def architecture(options: INROptions, cube: UnitCube):
    """The network that the options ask for."""
    kind, chosen = options.architecture, options.chosen
    output = (
        "squareplus" if options.non_negative and options.loss != "admm" else "linear"
    )  # ADMM's field is fitted to what has no negatives
    if kind == "hash":
        finest = max(32, max(cube.grid.size))
        grid = HashGrid(chosen("levels"), 16, finest, chosen("log2_table"), tuple(map(float, cube.upper)))
        return HashNetwork(grid, Head(grid.channels, chosen("width"), output=output))
    if kind == "siren":
        return Siren(chosen("depth"), chosen("width"), chosen("omega"), output)
    return FourierReLU(chosen("depth"), chosen("width"), chosen("frequencies"), chosen("bandwidth"), output)


class _Training:
    """A field and the measurements that it is fitted to; `done` of `steps` steps are done.

    Parameters
    ----------
    scan, grid, options, device
        As `Method.run` takes them.
    A : Projector, optional
        The operator, by default the fastest for the geometry and the grid.
    """

    def __init__(self, scan, grid, options: INROptions, device: str = "cpu", A=None):
        self.options, self.done, self.spent = options, 0, 0.0
        self.share = max(options.chosen("share"), min(1.0, FEWEST_VOXELS / math.prod(grid.size)))
        self.A = A or projector(scan.geometry, grid, device)
        self.y = self.A.projections(scan.projections)
        weights = measurement_weights(scan, grid)
        self.weights = torch.ones_like(self.y) if weights is None else self.A.projections(weights)
        self.field = make_field(architecture(options, UnitCube(grid)), scan.mu_water, device, seed=options.seed)
        self.raster = Raster(self.field, UnitCube(grid))
        self.tv_weight = options.smoothness and options.smoothness * total_variation_weight(self.A)

    def heed(self, spent: float | None) -> None:
        """Take note of the share of the time budget that is spent, None where there is none."""
        self.spent = spent or 0.0

    def rates(self) -> tuple[float, float]:
        """Learning rates of encoder and network for the next step."""
        factor = SCHEDULES[self.options.schedule](min(1.0, max(self.spent, self.done / self.steps)))
        encoder = self.options.chosen("encoder_rate") if self.options.architecture == "hash" else 0.0
        return factor * encoder, factor * self.options.chosen("network_rate")

    def rng(self) -> np.random.Generator:
        """Random numbers of the next step, the same after a resumption."""
        return np.random.default_rng((self.options.seed, self.done))

    def updates(self) -> Iterator[dict[str, float]]:
        """Yield figures after each step, for ever."""
        while True:
            metrics = self.step()
            self.done += 1
            yield metrics

    def finite(self, error: float) -> float:
        """`error`, if it is a finite number.

        Raises
        ------
        FloatingPointError
            When the field has diverged.
        """
        if np.isfinite(error):
            return error
        rate = self.options.chosen("network_rate")
        raise FloatingPointError(f"the field diverged in step {self.done + 1}: give a network_rate smaller than {rate:g}")

    def volume(self) -> torch.Tensor:
        """Attenuation [z, y, x] in 1/mm."""
        return self.raster.volume()


class Descent(_Training):
    """Adam on the field's parameters with gradients of the (filtered) least-squares term; a step takes one subset of the views."""

    def __init__(self, scan, grid, options, device="cpu", A=None):
        super().__init__(scan, grid, options, device, A)
        metric = filtered_metric(self.weights, scan.geometry) if options.loss == "fls" else plain_metric(self.weights)
        subsets = max(1, round(scan.views / options.chosen("views_per_subset")))
        self.term = DataTerm(self.A, self.y, metric, subsets)
        self.steps = options.iterations * subsets
        self.scale = float((self.y * metric(self.y)).sum()) or 1.0
        self.square = float(self.y.square().sum()) or 1.0

    def gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Gradient [z, y, x] of the whole loss at the volume `x`, and the residual's square over the measurements', of the next subset."""
        gradient, residual = self.term.gradient(x, self.done)
        if self.tv_weight:
            gradient.add_(total_variation_gradient(x), alpha=self.tv_weight)
        return gradient.div_(self.scale), float(residual.square().sum()) * len(self.term.parts) / self.square

    def step(self) -> dict[str, float]:
        """One step of Adam."""
        gradient, loss = self.gradient(self.raster.volume(keep=self.share == 1))
        residual = self.finite(loss) ** 0.5
        self.raster.descend(gradient, self.rates(), self.share, self.rng())
        return {"residual": residual}

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` goes on from."""
        return self.field.arrays()

    def restore(self, arrays) -> None:
        """Go on from the step at which `arrays` were taken."""
        self.done = int(arrays["step"])
        self.field.restore(arrays)


class Splitting(_Training):
    """ADMM; a step is one iteration of conjugate gradients or one of the field's."""

    def __init__(self, scan, grid, options, device="cpu", A=None):
        super().__init__(scan, grid, options, device, A)
        self.root = self.weights.sqrt()
        self.weighted = Weighted(self.A, self.root)
        self.rho = options.chosen("rho") * mean_curvature(self.A)
        self.cg, self.fit = options.chosen("cg_iterations"), options.chosen("fit_iterations")
        self.steps = -(-options.iterations // self.cg) * (self.cg + self.fit)
        self.prox = TotalVariationProx(self.A.volume_shape, PROX_ITERATIONS) if self.tv_weight else None
        self.x, self.u, self.target = self.A.zeros(), self.A.zeros(), self.A.zeros()
        self.r, self.p, self.gamma = self.y * self.root, self.A.zeros(), 0.0
        self.norm = float(torch.linalg.vector_norm(self.r)) or 1.0

    def step(self) -> dict[str, float]:
        """One iteration of the half-step whose turn it is."""
        turn = self.done % (self.cg + self.fit)
        if turn < self.cg:
            return {"residual": self._towards_measurements(first=turn == 0)}
        error = self.finite(self._towards_volume(first=turn == self.cg))
        if turn == self.cg + self.fit - 1:
            self.u += self.x - self.raster.volume()
        return {"misfit": error**0.5 / self.field.scale}

    def _towards_measurements(self, first: bool) -> float:
        rho = self.rho if self.is_fitted else 0.0
        if first:
            self.centre = self.raster.volume() - self.u
            _, self.r, self.p, self.gamma = begin(self.weighted, self.y * self.root, self.x, rho, self.centre, self.r)
        state = next(cgls(self.weighted, CGLSState(self.x, self.r, self.p, self.gamma), rho, self.centre))
        residual = self.finite(float(torch.linalg.vector_norm(state.r)) / self.norm)
        self.x, self.r, self.p, self.gamma = state
        return residual

    def _towards_volume(self, first: bool) -> float:
        if first:
            self.target = self._denoised(self.x + self.u)
        return self.raster.fit(self.target, self.rates(), self.share, self.rng())

    @property
    def is_fitted(self) -> bool:
        """Whether the field has been fitted for the first time; before that it is of no use, neither as a centre nor to look at."""
        return self.done >= self.cg + self.fit

    def _denoised(self, x: torch.Tensor) -> torch.Tensor:
        if self.prox:
            return self.prox(x.cpu(), self.tv_weight / self.rho).to(x.device)
        return x.clamp(min=0) if self.options.non_negative else x

    def volume(self) -> torch.Tensor:
        """Attenuation [z, y, x] in 1/mm: the field's, or x before the field has been fitted for the first time."""
        volume = self.raster.volume() if self.is_fitted else self.x
        return volume.clamp(min=0) if self.options.non_negative else volume

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` goes on from."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("x", "u", "r", "p", "target")}
        if self.prox:
            arrays["dual"] = self.prox.dual
        return self.field.arrays() | arrays | {"gamma": np.array(self.gamma)}

    def restore(self, arrays) -> None:
        """Go on from the step at which `arrays` were taken."""
        self.done = int(arrays["step"])
        self.field.restore(arrays)
        self.x, self.u, self.p, self.target = (self.A.volume(arrays[name]) for name in ("x", "u", "p", "target"))
        self.r, self.gamma = self.A.projections(arrays["r"]), float(arrays["gamma"])
        if self.prox:
            self.prox.dual[...] = arrays["dual"]
        self.centre = self.raster.volume() - self.u
