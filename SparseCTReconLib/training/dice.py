"""Training of DiCE in the stages of DeepSparse (Lin et al. 2026, sections 3.3 and 3.4).

    pretrain, adapt    minimise  mean (mu(x) - t(x))^2 + a L_quantisation        x: points drawn from the volume
    adjust             minimise  mean (mu(x) - t(x))^2 + b L_denoising           encoder and codebooks frozen          (eq. 13)

Squares beyond 1000 HU on both sides count a fifth; the paper clips there. A network that betters a first volume x lowers |mu - t| / |x - t|
in the place of the squares, since some scans are much harder than others, and sees nothing but the few views that x is made of.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from ..errors import InputError
from ..formats.files import written_beside
from ..networks import dice_weights
from ..networks.dice import DiCE, Prediction, with_denoising
from ..networks.dice_views import Box, Looks
from ..networks.first_volume import First
from .dice_examples import HybridExample, Stage, interleaved
from .learning import Alone, Learning
from .losses import error_left, seen_squares

QUANTISATION, DENOISING = 0.1, 1.0
"""Weights a and b."""

WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Settings:
    """How DiCE is trained; the defaults are the paper's.

    Parameters
    ----------
    steps : int
        Of AdamW.
    rate : float
        Highest learning rate.
    batch : int
        Scans in a step, of each process.
    points : int
        Of each scan.
    falling : bool
        The rate rises at first and falls to nothing as a cosine does, which short trainings need. It is the same throughout otherwise.
    """

    steps: int
    rate: float = 1e-4
    batch: int = 2
    points: int = 10_000
    falling: bool = False

    def __post_init__(self):
        if min(self.steps, self.batch, self.points) < 1 or not self.rate > 0:
            raise InputError(f"{self}: steps, rate, batch and points must be positive", "bad-arguments")


class DiCETraining(Learning):
    """A DiCE that learns; for what it can do see `Learning`.

    Parameters
    ----------
    examples : HeldExamples or HybridExamples
        Or whatever gives a `HybridExample` for a number.
    network : DiCE
        To begin or to go on from. Where the stage asks for denoise layers that it has not, or has them and the stage does not, another one
        with its weights learns in its place.
    stage : Stage
    settings : Settings
    seed : int
        Of points and new layers.
    device : str
        "cpu" or "cuda".
    workers : int
        Processes that make examples.
    fabric : Fabric, optional
        Of lightning: many GPUs.
    """

    def __init__(self, examples, network: DiCE, stage: Stage, settings: Settings, seed: int = 0, device="cpu", workers=0, fabric=None):
        network = with_denoising(network, stage.adjusting, seed).to(device).train()
        if stage.adjusting:
            network.freeze()
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=settings.rate, weight_decay=WEIGHT_DECAY)
        self.stage = stage
        super().__init__(examples, network, optimiser, settings, seed, workers, fabric or Alone(device))

    def gradients(self, examples: list[HybridExample], rng: np.random.Generator) -> dict[str, float]:
        """Add the gradients of a batch, and say its losses by name."""
        self.network.train()
        seen, points, truth, few = self.batch(examples, rng)
        firsts = self.firsts(examples)
        with self.fabric.autocast():
            prediction = self.model(seen, points, few, firsts)
        top = self.network.configuration.top
        values = prediction.values.float() * top
        if firsts:
            given = torch.stack([first.at(first.volume[None], at)[0] for first, at in zip(firsts, points)])
            lowered = {
                "left": error_left(values, given, truth).sqrt().mean(),
                "left without views": self.without_views(prediction, examples),
            }
        else:
            lowered = {"squares": seen_squares(values, truth) / top**2}
        extra = DENOISING * prediction.denoising if self.stage.adjusting else QUANTISATION * prediction.quantisation
        self.fabric.backward(sum(lowered.values()) + extra)
        found = {**lowered, "quantisation": prediction.quantisation, "denoising": prediction.denoising}
        return {name: float(loss.detach()) for name, loss in found.items()}

    def firsts(self, examples: list[HybridExample]) -> list[First] | None:
        """Their first volumes, where the network is shown any."""
        if not self.network.configuration.around:
            return None
        device = self.network.device
        return [First.of(each.first, each.grid, Box.of(each.scan.geometry)).to(device) for each in examples]

    def without_views(self, prediction: Prediction, examples: list[HybridExample]) -> torch.Tensor:
        """How much of the first volumes' error is left by what betters them by itself; it is learnt on all voxels, not on some points."""
        left = []
        for made, example in zip(prediction.bettered, examples):
            first, truth = (torch.from_numpy(part.astype(np.float32)).to(made.device) for part in (example.first, example.truth))
            left.append(error_left(made[None], first[None], truth[None]).sqrt().mean())
        return torch.stack(left).mean()

    def identity(self) -> dict:
        return {**super().identity(), "stage": asdict(self.stage), "configuration": self.network.configuration.card()}

    def rate(self) -> float:
        return super().rate() if self.settings.falling else self.settings.rate

    def batch(self, examples: list[HybridExample], rng: np.random.Generator) -> tuple[list[Looks], torch.Tensor, torch.Tensor, list[int]]:
        """What the network is given of examples: their views, points (b, n, 3), attenuation there relative to water (b, n), the few."""
        count = min(self.settings.points, *(example.truth.size for example in examples))
        seen, points, truth, device = [], [], [], self.network.device
        for example in examples:
            box, index = Box.of(example.scan.geometry), interleaved(example.truth.shape, count, rng)
            matrix = box.voxels(example.grid)
            scan = example.scan.subset(np.arange(example.few)) if self.network.configuration.around else example.scan
            seen.append(self.network.looks(scan, box).to(device))
            points.append(torch.from_numpy(index[:, ::-1].copy()).float() @ matrix[:, :3].T + matrix[:, 3])
            truth.append(torch.from_numpy(example.truth[tuple(index.T)].astype(np.float32)))
        return seen, torch.stack(points).to(device), torch.stack(truth).to(device), [example.few for example in examples]

    def save(self, path, card: dict) -> None:
        """Write the averaged weights, with a card of JSON values to which is added how they were trained."""
        trained = {"steps": self.done, "seed": self.seed, "stage": asdict(self.stage), "settings": asdict(self.settings)}
        with written_beside(path) as beside:
            dice_weights.save(self.averaged(), beside, {**card, "trained": trained})
