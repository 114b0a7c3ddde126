"""Files of DiCE's weights: float16 but for the few numbers whose range that has not, and a card."""

from __future__ import annotations

import numpy as np
import torch

from .. import weight_files
from ..formats.files import named
from ..geometry import Geometry
from ..weight_files import WeightFile
from .dice import DiCE
from .dice_configuration import Configuration
from .dice_views import Box
from .filled import network_of

FORMAT = "SparseCTRecon dice 1"
CALLED = "weights of DiCE"

FARTHEST = 6e4
"""Largest float16, about. A code as far away as that is nearest to nothing, and no farther away than that it need be."""

LEFT_OUT = ("num_batches_tracked", "sums", "begun")
"""Counts that nothing needs, and what follows from codes and sizes."""


def save(network: DiCE, path, card: dict) -> None:
    """Write weights with a card of JSON values that says what they were trained on and how; the configuration is added to it."""
    arrays = {name: _small(tensor.detach()) for name, tensor in network.state_dict().items() if not name.endswith(LEFT_OUT)}
    weight_files.write(path, FORMAT, {**card, "configuration": network.configuration.card()}, arrays)


def load(path) -> tuple[DiCE, WeightFile]:
    """The network of a file that `save` wrote, ready for use, and the file.

    Raises
    ------
    InputError
        For a file that is missing, damaged, or holds something else.
    """
    file = weight_files.read(path, FORMAT, CALLED)
    with named(path):
        network = network_of(file, lambda card: DiCE(Configuration.from_card(card.get("configuration", {}))), LEFT_OUT)
    settle(network)
    return network, file


def box(file: WeightFile, geometry: Geometry) -> Box:
    """What a file's network is to divide into cells: a box of the edges in its card ("box_mm"), else that of a scan's field of view."""
    edges_mm = file.card.get("box_mm")
    return Box(geometry.isocentre_mm, tuple(edges_mm)) if edges_mm else Box.of(geometry)


def settle(network: DiCE) -> None:
    """Make up what is left out of the codebooks of a network that was given its weights."""
    for quantiser in network.quantisers:
        quantiser.settle()


def _small(tensor: torch.Tensor) -> np.ndarray:
    halved = tensor.clamp(-FARTHEST, FARTHEST).half() if tensor.dim() > 1 else tensor.float()
    return halved.cpu().contiguous().numpy()
