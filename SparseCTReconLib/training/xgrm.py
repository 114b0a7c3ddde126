"""Training of X-GRM (section 3.5).

    minimise  |V - T|^2  +  a |P V - P T|  +  b (1 - SSIM(P V, P T))          means over a box drawn at random, and over X-rays of it

V is what the network makes of a scan of 6 to 10 views, T the truth, both relative to water; P V are X-rays of the Gaussians in the box, and
P T those of the truth in it. The paper gives no weights; its sub-volumes are such boxes. X-rays of a box need nothing of what lies around
it, so that they may be taken from anywhere. Squares beyond 1000 HU on both sides count a fifth; the paper clips there.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..errors import InputError
from ..formats.files import written_beside
from ..geometry import Geometry
from ..grid import Grid
from ..networks import xgrm_weights
from ..networks.dice_views import Box
from ..networks.first_volume import First
from ..networks.posed_views import posed
from ..networks.voxel_gaussians import gaussians, render, render_voxels
from ..networks.xgrm import GAUSSIANS, XGRM, card_of
from ..operators.ssim import ssim
from .data import Example
from .learning import Alone, Learning
from .losses import seen_squares
from .places import in_body

DECAY, BETAS = 0.05, (0.9, 0.95)
"""Of AdamW; biases, norms and tokens do not decay."""

LEAST_LOSSES = (1e-6, 1e-4, 1e-3)
"""Of a first volume, added to its own: a box where it is right asks for nothing."""

AROUND = 1.5
"""Pixels along an edge of a box's X-ray over voxels along an edge of the box: its diagonal and some more."""


@dataclass(frozen=True)
class Settings:
    """How X-GRM is trained.

    Parameters
    ----------
    steps : int
        Of AdamW.
    rate : float
        Highest learning rate.
    batch : int
        Scans in a step, of each process.
    box : int
        Voxels along an edge of the boxes.
    xrays : int
        Of each box.
    photometric, structure : float
        Weights a and b of the two losses on X-rays.
    """

    steps: int
    rate: float = 3e-4
    batch: int = 1
    box: int = 32
    xrays: int = 2
    photometric: float = 0.1
    structure: float = 0.02

    def __post_init__(self):
        if min(self.steps, self.batch, self.box) < 1 or min(self.xrays, self.photometric, self.structure) < 0 or not self.rate > 0:
            raise InputError(f"{self}: steps, batch, box and rate must be positive, and nothing negative", "bad-arguments")


class Losses(NamedTuple):
    """Means over a box: of squares, and over its X-rays of differences and of what lacks in their structure."""

    squares: torch.Tensor
    photometric: torch.Tensor
    structure: torch.Tensor

    def shares(self, given: Losses) -> Losses:
        """As shares of another volume's, of the squares the root."""
        squares, *others = (mine / (other + least) for mine, other, least in zip(self, given, LEAST_LOSSES))
        return Losses(squares.sqrt(), *others)


@dataclass(frozen=True)
class Rays:
    """X-rays of a box, which may be none.

    Parameters
    ----------
    part : Grid
        The box.
    geometry : Geometry, optional
    mu_water : float
        In 1/mm.
    """

    part: Grid
    geometry: Geometry | None
    mu_water: float

    def losses(self, volume: torch.Tensor, shown, truth: torch.Tensor) -> Losses:
        """Of a volume [z, y, x] relative to water, whose X-rays are taken of `shown`: of itself, or of Gaussians."""
        squares = seen_squares(volume, truth)
        if self.geometry is None:
            return Losses(squares, *torch.zeros(2, device=volume.device))
        made, wanted = self._of(shown), self._of(truth)
        return Losses(squares, (made - wanted).abs().mean(), 1 - ssim(made, wanted))

    def _of(self, shown) -> torch.Tensor:
        water = self.mu_water * max(self.part.extent_mm)
        if isinstance(shown, torch.Tensor):
            return render_voxels(shown * self.mu_water, self.part, self.geometry) / water
        return render(shown, self.part, self.geometry) / water


class XGRMTraining(Learning):
    """An X-GRM that learns; for what it can do see `Learning`.

    Parameters
    ----------
    examples : Examples
        Or whatever gives an `Example` for a number.
    network : XGRM
    settings : Settings
    seed : int
        Of the boxes and their X-rays.
    device : str
        "cpu" or "cuda"; on CUDA with gradient checkpointing.
    workers : int
        Processes that make examples.
    fabric : Fabric, optional
        Of lightning: many GPUs.
    """

    def __init__(self, examples, network: XGRM, settings: Settings, seed: int = 0, device: str = "cpu", workers: int = 0, fabric=None):
        network = network.to(device).train().spare_memory(torch.device(device).type == "cuda")
        matrices, others = ([each for each in network.parameters() if (each.dim() > 1) == wanted] for wanted in (True, False))
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=settings.rate, betas=BETAS)
        super().__init__(examples, network, optimiser, settings, seed, workers, fabric or Alone(device))

    def gradients(self, examples: list[Example], rng: np.random.Generator) -> dict[str, float]:
        """Add the gradients of examples, one after the other, and say the mean losses by name."""
        sums = dict.fromkeys(Losses._fields, 0.0)
        for example in examples:
            found = self.losses_of(example, rng)
            self.fabric.backward(self.total(found) / len(examples))
            for name, loss in found._asdict().items():
                sums[name] += float(loss.detach()) / len(examples)
        return sums

    def identity(self) -> dict:
        return {**super().identity(), "size": card_of(self.network.size)}

    def total(self, losses: Losses) -> torch.Tensor:
        """What is lowered."""
        return losses.squares + self.settings.photometric * losses.photometric + self.settings.structure * losses.structure

    def losses_of(self, example: Example, rng: np.random.Generator) -> Losses:
        """The losses of a box of an example, which is drawn, and of its X-rays."""
        size, device = self.network.size, self.network.device
        at = in_body(example.truth, [min(self.settings.box, n) for n in example.truth.shape], rng)
        part = part_of(example.grid, [along.start for along in at], [along.stop - along.start for along in at])
        box, truth = Box.of(example.scan.geometry), torch.from_numpy(example.truth[at].astype(np.float32)).to(device)
        views = posed(example.scan, box, size.edge, size.patch).to(device)
        first = First.of(example.first, example.grid, box).to(device) if size.around else None
        with self.fabric.autocast():
            raw = self.model(views, box, part, first)
        rays = Rays(part, around(part, example.scan.geometry, self.settings.xrays, rng), example.scan.mu_water)
        found = self._compared(rays, raw.float(), truth)
        if first is None:
            return found
        with torch.no_grad():
            given = rays.losses(first.volume[at], first.volume[at], truth)
        return found.shares(given)

    def _compared(self, rays: Rays, raw: torch.Tensor, truth: torch.Tensor) -> Losses:
        """What the network has made of a box against the truth there."""
        volume = functional.softplus(raw[:, 0]).view(rays.part.shape)
        if self.network.size.head != GAUSSIANS or not self.settings.xrays:
            return rays.losses(volume, volume, truth)
        return rays.losses(volume, gaussians(raw, rays.part, 0, rays.mu_water), truth)

    def save(self, path, card: dict) -> None:
        """Write the averaged weights, with a card of JSON values to which is added how they were trained."""
        trained = {"steps": self.done, "seed": self.seed, "settings": asdict(self.settings)}
        with written_beside(path) as beside:
            xgrm_weights.save(self.averaged(), beside, {**card, "trained": trained})


def part_of(grid: Grid, first: list[int], shape: list[int]) -> Grid:
    """The grid of a box: its first index and its voxels, both z, y, x."""
    origin = grid.index_to_world[:3] @ [*first[::-1], 1]
    return Grid(tuple(shape[::-1]), grid.spacing_mm, tuple(origin), grid.direction)


def around(part: Grid, geometry: Geometry, count: int, rng: np.random.Generator) -> Geometry | None:
    """Views of a box from random angles, at a machine's distances, whose pixels are as large as its voxels where it is; if any."""
    if not count:
        return None
    sid, sdd = float(geometry.sid_mm.mean()), float(geometry.sdd_mm.mean())
    pitch, edge = max(part.spacing_mm) * sdd / sid, math.ceil(AROUND * max(part.size))
    angles = rng.uniform(0, 2 * math.pi, count)
    return Geometry.from_gantry_angles(angles, sid, sdd, (edge, edge), (pitch, pitch), isocentre_mm=tuple(part.centre_mm))
