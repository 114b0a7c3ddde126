"""What all trainings do alike at each step, and how they keep what they go on from."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..errors import InputError
from ..formats.files import written_beside

PATIENCE = 3
"""Steps in a row whose gradient is no number, until training stops."""


def risen_and_fallen(rate: float, done: int, steps: int, rising: int) -> float:
    """The learning rate after `done` of `steps`: it rises for some and falls to nothing as half a cosine does."""
    return rate * min(1, (done + 1) / rising) * (0.5 + 0.5 * math.cos(math.pi * done / steps))


@torch.no_grad()
def follow(average: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor], keep: float) -> None:
    """Let averages keep a share of themselves and take the rest from what is present; whole numbers are taken as they are."""
    for name, mine in average.items():
        mine.lerp_(present[name], 1 - keep) if mine.is_floating_point() else mine.copy_(present[name])


def write_state(path, state: dict) -> None:
    """Write a checkpoint; what was there before stays until all is written.

    Raises
    ------
    InputError
        Where it cannot be written.
    """
    whole = io.BytesIO()  # torch's own writer hides what the system says of a full disk
    torch.save(state, whole)
    with written_beside(path) as beside:
        beside.write_bytes(whole.getbuffer())


def read_state(path, names: Sequence[str], weights: Sequence[str]) -> tuple[dict, list[dict[str, torch.Size]]]:
    """What `write_state` wrote, its parts by `names`, and the shapes of those of them that hold `weights`.

    Raises
    ------
    InputError
        Where it is damaged, or holds other things.
    """
    try:
        state = torch.load(Path(path), map_location="cpu", weights_only=True)
        state = {name: state[name] for name in names}
        return state, [{name: tensor.shape for name, tensor in state[kind].items()} for kind in weights]
    except Exception as error:  # torch.load has no error of its own
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as a checkpoint ({why}): delete it to begin anew", "bad-checkpoint") from None


def no_number(what: str, step: int, instead: str = "") -> InputError:
    """The sentence that ends a training whose loss or gradient is no number; `instead` is what else can be done than to look at the CTs."""
    return InputError(f"{what} is no number at step {step}: {instead}look for what is wrong with the CTs", "diverged")


def another_training(path) -> InputError:
    """The sentence for a checkpoint that is whole, but not of this training."""
    return InputError(f"{path} is the checkpoint of another training: delete it, or give the same options", "bad-checkpoint")
