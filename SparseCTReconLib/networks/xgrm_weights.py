"""Files of X-GRM's weights: float16 and a card."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import weight_files
from ..errors import InputError
from ..weight_files import WeightFile
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
    try:
        network = XGRM(Size.from_card(file.card.get("size", {})))
        _fill(network, {name: torch.from_numpy(array).float() for name, array in file.arrays.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}", "bad-weights") from None
    return network.eval(), file


def _fill(network: XGRM, state: dict[str, torch.Tensor]) -> None:
    """Give a network its weights.

    Raises
    ------
    InputError
        Where some are missing or unknown, of other shapes, or not finite.
    """
    needed = network.state_dict()
    for name in sorted(needed.keys() | state.keys()):
        if name not in needed or name not in state:
            raise InputError(f"the weights' {name} is {'unknown' if name in state else 'missing'}: give weights of this size")
        found, wanted = tuple(state[name].shape), tuple(needed[name].shape)
        if found != wanted:
            raise InputError(f"the weights' {name} is of shape {found} where {wanted} is wanted: give weights of this size")
        if not torch.isfinite(state[name]).all():
            raise InputError(f"the weights' {name} has values that are not finite: train or copy them anew")
    network.load_state_dict(state)
