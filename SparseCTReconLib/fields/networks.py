"""The architectures of neural fields and their torch modules: hash grid with head, SIREN, ReLU on Fourier features.

An architecture says what a network is; ``module(rng)`` makes one. A module has its trainable numbers in at most two flat tensors, so that
optimisers, checkpoints and pretrained heads need not know what is inside: ``table`` (the encoder's, None where there is none) and
``weights`` (the network's). Its output has no unit; a field multiplies it by its scale.

SIREN: h = sin(omega (W h + b)) in every layer (Sitzmann et al. 2020, NeurIPS). ReLU on Fourier features: Tancik et al. 2020, NeurIPS.
Depth and width as in Accelerated INR (see `methods.inr`). Both see the unit cube as -1 .. 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError, nearest_name
from . import reference
from .hash_grid import HashGrid
from .head import Head
from .torch_hash import encode

BEND = 0.05
"""Width of the bend of `nonnegative`, in shares of the scale."""

FOG = 0.25
"""What a non-negative output starts about: from 0, half of the points would lie where it hardly rises."""

OUTPUTS = ("squareplus", "linear")


def nonnegative(x: torch.Tensor) -> torch.Tensor:
    """(x + sqrt(x^2 + b)) / 2 with b = `BEND`^2: so narrow that air is within reach of a network whose output starts near 0.

    In fits of a ball in air it had a tenth less error than the linear output, for SIREN and ReLU alike.
    """
    return 0.5 * (x + (x * x + BEND**2).sqrt())


@dataclass(frozen=True)
class HashNetwork:
    """Hash encoding with a head.

    Parameters
    ----------
    grid : HashGrid
        Encoding.
    head : Head
        Network behind it; takes the encoding's channels.
    """

    grid: HashGrid
    head: Head

    def __post_init__(self):
        if self.grid.channels != self.head.channels:
            raise InputError(
                f"a head of {self.head.channels} channels behind a hash grid of {self.grid.channels}: give both as many", "bad-option"
            )

    def module(self, rng: np.random.Generator, encode: Callable = encode) -> HashModule:
        """A network with the start that the compiled field has from the same `rng`; `encode(points, table, grid)` gives the features."""
        table = torch.from_numpy(self.grid.initial_table(rng))
        return HashModule(self.head, self.head.initial(rng), table, lambda points, table: encode(points, table, self.grid))


class _Layers:
    """What SIREN and the ReLU network have in common: `depth` layers of `width` behind the inputs, and one linear output."""

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Outputs and inputs of each linear layer."""
        return [(self.width, self.inputs), *[(self.width, self.width)] * (self.depth - 1), (1, self.width)]

    @property
    def sizes(self) -> list[int]:
        """Numbers of parameters: weights and biases of each layer."""
        return [size for rows, columns in self.layers for size in (rows * columns, rows)]

    @property
    def start(self) -> float:
        """Bias of the output at the start."""
        return FOG if self.output == "squareplus" else 0.0

    def _check(self):
        if self.depth < 1 or self.width < 1:
            raise InputError(f"a network of {self.depth} layers of {self.width} neurons: give at least one of each", "bad-option")
        if self.output not in OUTPUTS:
            raise InputError(f"no output {self.output!r}{nearest_name(self.output, OUTPUTS)}", "bad-option")

    def module(self, rng: np.random.Generator) -> LayeredModule:
        """A network with random weights."""
        return LayeredModule(self, np.concatenate([part.reshape(-1) for part in self.initial(rng)]).astype(np.float32))


@dataclass(frozen=True)
class Siren(_Layers):
    """Layers of sines.

    Parameters
    ----------
    depth : int
        Layers of sines; one linear layer follows.
    width : int
        Neurons in each.
    omega : float
        Factor on what goes into each sine, the first included.
    output : str
        "squareplus" is positive without an upper bound, see `nonnegative`; "linear" takes any value.
    """

    depth: int = 6
    width: int = 256
    omega: float = 30.0
    output: str = "squareplus"
    inputs = 3

    def __post_init__(self):
        self._check()
        if not self.omega > 0:
            raise InputError(f"omega {self.omega}: give a positive number", "bad-option")

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Weights with which every sine's argument has the same spread (Sitzmann et al. 2020, section 3.2), biases of random phase."""
        parts = []
        for number, (rows, columns) in enumerate(self.layers):
            bound = 1 / columns if number == 0 else np.sqrt(6 / columns) / self.omega
            parts += [rng.uniform(-bound, bound, (rows, columns)), rng.uniform(-1, 1, rows) / np.sqrt(columns)]
        parts[-1][...] = self.start
        return parts

    def embed(self, points: torch.Tensor) -> torch.Tensor:
        """Inputs (n, 3) of points (3, n)."""
        return 2 * points.T - 1

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Between layers."""
        return torch.sin(self.omega * x)


@dataclass(frozen=True)
class FourierReLU(_Layers):
    """ReLU layers on sines and cosines along each axis.

    Parameters
    ----------
    depth : int
        ReLU layers; one linear layer follows.
    width : int
        Neurons in each.
    frequencies : int
        Per axis, in a geometric row from half a period per edge of the cube to `bandwidth`.
    bandwidth : float
        Highest frequency, in periods per edge of the cube; the paper's own are not known.
    output : str
        "squareplus" is positive without an upper bound, see `nonnegative`; "linear" takes any value.
    """

    depth: int = 6
    width: int = 256
    frequencies: int = 8
    bandwidth: float = 32.0
    output: str = "squareplus"

    def __post_init__(self):
        self._check()
        if self.frequencies < 1 or self.bandwidth < 0.5:
            raise InputError(
                f"{self.frequencies} frequencies up to {self.bandwidth} periods: give at least 1, and a bandwidth of at least 0.5",
                "bad-option",
            )

    @property
    def inputs(self) -> int:
        """Coordinates, and sine and cosine of each frequency along each axis."""
        return 3 * (1 + 2 * self.frequencies)

    def periods(self) -> np.ndarray:
        """Frequencies (frequencies,) in periods per edge of the cube."""
        return np.geomspace(0.5, self.bandwidth, self.frequencies) if self.frequencies > 1 else np.array([self.bandwidth])

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """He-initialised layers, the last a tenth of that so that the output starts even."""
        parts = []
        for rows, columns in self.layers:
            parts += [rng.normal(0, np.sqrt(2 / columns), (rows, columns)), np.zeros(rows)]
        parts[-2] *= 0.1
        parts[-1][...] = self.start
        return parts

    def embed(self, points: torch.Tensor) -> torch.Tensor:
        """Inputs (n, 3 + 6 * frequencies) of points (3, n)."""
        x = 2 * points.T - 1
        factors = torch.as_tensor(np.pi * self.periods(), dtype=x.dtype, device=x.device)
        angles = (x[:, :, None] * factors).flatten(1)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Between layers."""
        return torch.relu(x)


class HashModule(torch.nn.Module):
    """Encoder and head.

    Parameters
    ----------
    head : Head
        Network behind the encoding.
    weights : ndarray (head.size,)
        Its start, laid out as `Head.sizes` says.
    table : torch.Tensor
        What the encoder learns; a Parameter is taken as it is.
    encode : callable
        ``encode(points, table)`` gives features (channels, n).
    """

    def __init__(self, head: Head, weights: np.ndarray, table: torch.Tensor, encode: Callable):
        super().__init__()
        self.head, self.encode = head, encode
        self.table = table if isinstance(table, torch.nn.Parameter) else torch.nn.Parameter(table)
        self.weights = torch.nn.Parameter(torch.from_numpy(weights))
        self.register_buffer("mask", torch.ones(head.channels))

    @property
    def floats_per_point(self) -> int:
        """Numbers that autograd keeps for each point, about."""
        return 8 * self.head.channels + sum(3 * rows + columns for rows, columns in self.head.layers)

    def features(self, points: torch.Tensor) -> torch.Tensor:
        """What the encoding gives, (channels, n)."""
        return self.encode(points, self.table)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Output (n,) at points (3, n)."""
        return reference.head(self.features(points), self.weights, self.head, 1.0, self.mask)


class LayeredModule(torch.nn.Module):
    """SIREN or the ReLU network.

    Parameters
    ----------
    spec : Siren or FourierReLU
        What it is.
    weights : ndarray
        Its start, laid out as ``spec.sizes`` says.
    """

    table = None

    def __init__(self, spec: Siren | FourierReLU, weights: np.ndarray):
        super().__init__()
        self.spec, self.weights = spec, torch.nn.Parameter(torch.from_numpy(weights))

    @property
    def floats_per_point(self) -> int:
        """Numbers that autograd keeps for each point, about."""
        return 2 * self.spec.inputs + sum(3 * rows for rows, _ in self.spec.layers)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Output (n,) at points (3, n). First and last layer are in float32 also under autocast, which would blur coordinates and mu."""
        parts = self.weights.split(self.spec.sizes)
        last, device = len(self.spec.layers) - 1, points.device.type
        x = self.spec.embed(points)
        for number, (shape, weight, bias) in enumerate(zip(self.spec.layers, parts[::2], parts[1::2])):
            inner = 0 < number < last
            with torch.autocast(device, dtype=torch.get_autocast_dtype(device), enabled=inner and torch.is_autocast_enabled(device)):
                x = torch.nn.functional.linear(x if inner else x.to(weight.dtype), weight.view(shape), bias)
            x = self.spec.activate(x) if number < last else x[:, 0]
        return nonnegative(x) if self.spec.output == "squareplus" else x
