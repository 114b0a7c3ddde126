"""X-GRM: two transformers make Gaussians at the centres of voxels of a few X-rays, and ADMM-TV makes their volume agree with these."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import weights
from ..networks import xgrm_weights
from ..networks.xgrm_result import Reconstruction
from .feed_forward import FeedForward

KIND = weights.Kind("x-grm", xgrm_weights.FORMAT, "x-grm")


class XGRMMethod(FeedForward):
    name = "x-grm"
    title = "X-GRM"
    summary = "A pretrained transformer that makes Gaussians of 6 to 10 views in one pass, then a few passes towards the projections."
    citation = "Liu Y et al. X-GRM: large Gaussian reconstruction model for sparse-view X-rays to computed tomography. 2025."
    kind = KIND
    weights = ("x-grm_limb",)

    def load(self, path, scan, grid, options, device):
        return Seen(path, scan, grid, device)


class Seen:
    """X-GRM with a file's weights, and what it makes of a scan; see `rounds.Learned`."""

    refinements = 0

    def __init__(self, path, scan, grid, device: str):
        network, self.file = xgrm_weights.load(path)
        self.network, self.scan, self.grid = network.to(device), scan, grid
        self.betters = bool(network.size.around)

    def look(self, first: np.ndarray | None) -> None:
        self.result = Reconstruction(self.network, self.scan, self.grid, first)

    def refine(self) -> Iterator[float]:
        yield from ()

    def volume(self, grid) -> np.ndarray:
        return self.result.volume(grid)
