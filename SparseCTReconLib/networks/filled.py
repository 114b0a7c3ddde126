"""Networks with the weights of a file, or a sentence that says why they do not fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..errors import InputError
from ..weight_files import WeightFile


def network_of(file: WeightFile, make: Callable[[dict], nn.Module], left_out: tuple[str, ...] = ()) -> nn.Module:
    """The network of a file of weights, in single precision and ready for use.

    Parameters
    ----------
    file : WeightFile
    make : callable
        Makes the network of the file's card.
    left_out : tuple of str
        See `fill`.

    Raises
    ------
    InputError
        Where the card says no sizes that a network could have, or the weights are not those of that network.
    """
    try:
        network = make(file.card)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # layers have no error of their own
        why = str(error) if isinstance(error, InputError) else f"the card does not say the network's sizes ({error!r})"
        raise InputError(f"{why}: give weights that `sparsectrecon train` wrote", "bad-weights") from None
    fill(network, {name: torch.from_numpy(array).float() for name, array in file.arrays.items()}, left_out)
    return network.eval()


def fill(network: nn.Module, state: dict[str, torch.Tensor], left_out: tuple[str, ...] = ()) -> None:
    """Give a network its weights.

    Parameters
    ----------
    left_out : tuple of str
        Endings of the names that may be missing; what there is of these is not looked at.

    Raises
    ------
    InputError
        Where some are missing or unknown, of other shapes, or not finite; the network is then as it was.
    """
    needed, known = ({name: held[name] for name in held if not name.endswith(left_out)} for held in (network.state_dict(), state))
    for name in sorted(needed.keys() | known.keys()):
        if name not in needed or name not in known:
            fault = f"is {'unknown' if name in known else 'missing'}: give weights of this network"
        elif known[name].shape != needed[name].shape:
            found, wanted = tuple(known[name].shape), tuple(needed[name].shape)
            fault = f"is of shape {found} where {wanted} is wanted: give weights of this network"
        elif not torch.isfinite(known[name]).all():
            fault = "has values that are not finite: train or copy them anew"
        else:
            continue
        raise InputError(f"the weights' {name} {fault}", "bad-weights")
    network.load_state_dict(known, strict=False)
