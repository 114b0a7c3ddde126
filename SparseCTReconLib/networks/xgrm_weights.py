"""Files of X-GRM's weights: float16 and a card."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import weight_files
from ..formats.files import named
from ..weight_files import WeightFile
from .filled import network_of
from .xgrm import XGRM, Size, card_of

FORMAT = "SparseCTRecon x-grm 1"
CALLED = "weights of X-GRM"


def save(network: XGRM, path, card: dict, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Write weights with a card of JSON values that says what they were trained on and how; the network's size is added to it.

    Parameters
    ----------
    weights : dict of str to Tensor, optional
        Others of the same network to write in the place of its own, averages say.
    """
    weights = network.state_dict() if weights is None else weights
    arrays = {name: tensor.detach().half().cpu().contiguous().numpy() for name, tensor in weights.items()}
    weight_files.write(path, FORMAT, {**card, "size": card_of(network.size)}, arrays)


def load(path) -> tuple[XGRM, WeightFile]:
    """The network of a file that `save` wrote, ready for use, and the file.

    Raises
    ------
    InputError
        For a file that is missing, damaged, or holds something else.
    """
    file = weight_files.read(Path(path).expanduser(), FORMAT, CALLED)
    with named(path):
        return network_of(file, lambda card: XGRM(Size.from_card(card.get("size", {})))), file
