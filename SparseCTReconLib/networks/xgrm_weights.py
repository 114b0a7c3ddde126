"""Files of X-GRM's weights: float16 and a card."""

from __future__ import annotations

from pathlib import Path

from .. import weight_files
from ..formats.files import named
from ..weight_files import WeightFile
from .filled import network_of
from .xgrm import XGRM, Size, card_of

FORMAT = "SparseCTRecon x-grm 1"
CALLED = "weights of X-GRM"


def save(network: XGRM, path, card: dict) -> None:
    """Write weights with a card of JSON values that says what they were trained on and how; the network's size is added to it."""
    arrays = {name: tensor.detach().half().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}
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
