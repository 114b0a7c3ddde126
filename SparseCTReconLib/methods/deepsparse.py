"""DeepSparse: DiCE makes a volume of a few views, and ADMM-TV makes it agree with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import weights
from ..networks import dice, dice_weights
from ..networks.dice_refinement import refined
from ..networks.first_volume import First
from .base import option
from .feed_forward import FeedForward, FeedForwardOptions

KIND = weights.Kind("deepsparse", dice_weights.FORMAT, "deepsparse")


class DeepSparseOptions(FeedForwardOptions):
    refinement: int = option(
        0, "steps", "Experiment: the network's features are fitted to this scan's projections, so many steps.", ge=0, le=1000, advanced=True
    )


class DeepSparse(FeedForward):
    name = "deepsparse"
    title = "DeepSparse (DiCE)"
    summary = "A pretrained network that makes the volume of 6 to 24 views in one pass, then a few passes towards the projections."
    citation = (
        "Lin Y et al. DeepSparse: a foundation model for sparse-view CBCT reconstruction. IEEE Trans Med Imaging, 2026. C2RV, on which its "
        "network builds, carries a patent note by its authors."
    )
    kind = KIND
    weights = ("deepsparse_limb",)
    Options = DeepSparseOptions

    def load(self, path, scan, grid, options, device):
        return Seen(path, scan, grid, device, options.refinement)


class Seen:
    """DiCE with a file's weights, and what it makes of a scan; see `rounds.Learned`."""

    def __init__(self, path, scan, grid, device: str, refinements: int = 0):
        self.network, self.file = dice_weights.load(path)
        self.network = self.network.to(device)
        self.betters = bool(self.network.configuration.around)
        self.scan, self.grid, self.refinements = scan, grid, refinements
        self.box = dice_weights.box(self.file, scan.geometry)

    def look(self, first: np.ndarray | None) -> None:
        shown = None if first is None else First.of(first / np.float32(self.scan.mu_water), self.grid, self.box)
        self.features = dice.look(self.network, self.scan, self.box, shown)

    def refine(self) -> Iterator[float]:
        if self.refinements:
            for features, loss in refined(self.network, self.features, self.scan, self.box, self.refinements):
                self.features = features
                yield loss

    def volume(self, grid) -> np.ndarray:
        return dice.volume(self.network, self.features, grid, self.box, self.scan.mu_water)
