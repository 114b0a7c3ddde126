"""Files of DiCE's weights: float16 but for the few numbers whose range that has not, and a card."""

from __future__ import annotations

import numpy as np
import torch

from .. import weight_files
from ..errors import InputError
from ..geometry import Geometry
from ..weight_files import WeightFile
from .dice import DiCE
from .dice_configuration import Configuration
from .dice_views import Box

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
    try:
        network = DiCE(Configuration.from_card(file.card.get("configuration", {})))
        fill(network, {name: torch.from_numpy(array).float() for name, array in file.arrays.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}", "bad-weights") from None
    return network.eval(), file


def box(file: WeightFile, geometry: Geometry) -> Box:
    """What a file's network is to divide into cells: a box of the edges in its card ("box_mm"), else that of a scan's field of view."""
    edges_mm = file.card.get("box_mm")
    return Box(geometry.isocentre_mm, tuple(edges_mm)) if edges_mm else Box.of(geometry)


def fill(network: DiCE, state: dict[str, torch.Tensor]) -> None:
    """Give a network its weights, of which `LEFT_OUT` may be missing.

    Raises
    ------
    InputError
        Where others are missing, there are unknown ones, or some have other shapes or values that are not finite.
    """
    needed = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(LEFT_OUT)}
    known = {name: tensor for name, tensor in state.items() if not name.endswith(LEFT_OUT)}
    for name in sorted(needed.keys() | known.keys()):
        if name not in needed or name not in known:
            raise InputError(f"the weights' {name} is {'unknown' if name in known else 'missing'}: give weights of this network")
        if known[name].shape != needed[name].shape:
            found, wanted = tuple(known[name].shape), tuple(needed[name].shape)
            raise InputError(f"the weights' {name} is of shape {found} where {wanted} is wanted: give weights of this network")
        if not torch.isfinite(known[name]).all():
            raise InputError(f"the weights' {name} has values that are not finite: train or copy them anew")
    network.load_state_dict(known, strict=False)
    for quantiser in network.quantisers:
        quantiser.settle()


def _small(tensor: torch.Tensor) -> np.ndarray:
    halved = tensor.clamp(-FARTHEST, FARTHEST).half() if tensor.dim() > 1 else tensor.float()
    return halved.cpu().contiguous().numpy()
