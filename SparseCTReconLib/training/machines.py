"""Where a training runs: one process by itself, many GPUs and nodes by Lightning's Fabric, which is installed for that.

Each process does the same steps on examples of its own, and gradients are means over all (data-parallel). Of batch normalisation each
process has statistics of its own, of which the first one's are kept; codebooks follow the features of all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch

from .. import machine
from ..errors import InputError
from .learning import Alone
from .plan import Machine

Made = TypeVar("Made")

MOST_WORKERS = 8
"""Processes that make examples for one GPU, if not told otherwise."""

WAITING = timedelta(days=1)
"""That processes wait for each other, see `by_the_first`: thousands of CTs take hours to make alike."""

PRECISIONS = {False: "32-true", True: "bf16-mixed"}


def begin(wanted: Machine):
    """What `learning.Learning` takes as its fabric; with many processes, this one is one of them from now on.

    Raises
    ------
    InputError
        Where there is no such device, or Lightning is needed and missing.
    """
    device = device_of(wanted)
    half = device == "cuda" if wanted.precision == "auto" else wanted.precision == "bf16"
    if wanted.devices * wanted.nodes == 1:
        return Alone(device, half)
    found = torch.cuda.device_count()
    if device == "cuda" and wanted.devices > found:
        raise InputError(f"machine.devices={wanted.devices}: there are {found} GPUs: give as many or fewer", "bad-option")
    library = _lightning()
    strategy, precision = library.strategies.DDPStrategy(timeout=WAITING), PRECISIONS[half]
    fabric = library.Fabric(accelerator=device, devices=wanted.devices, num_nodes=wanted.nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def by_the_first(fabric, work: Callable[[], Made]) -> Made | None:
    """Let the first process do something while the others wait; what it has made, None in the others.

    Raises
    ------
    InputError
        In all processes where the first one's work ends in one, so that none waits for ever.
    """
    made, fault = None, None
    if fabric.global_rank == 0:
        try:
            made = work()
        except Exception as error:
            fault = error
    said = fabric.broadcast(fault and (str(fault) or type(fault).__name__))
    if fault:
        raise fault
    if said:
        raise InputError(said, "first-process")
    return made


def device_of(wanted: Machine) -> str:
    """Of "auto" the best there is.

    Raises
    ------
    InputError
        Where CUDA is wanted and there is none.
    """
    there = torch.cuda.is_available()
    if wanted.device == "cuda" and not there:
        raise InputError("machine.device=cuda: torch finds no CUDA device: take auto or cpu", "no-device")
    return "cuda" if there and wanted.device != "cpu" else "cpu"


def workers(wanted: Machine) -> int:
    """Processes that make examples, for each process that learns: on a GPU, all cores but one for what feeds it; on a CPU none, since
    the network has use for all of them."""
    if wanted.workers is not None:
        return wanted.workers
    if device_of(wanted) == "cpu":
        return 0
    return max(0, min(MOST_WORKERS, machine.cores() // wanted.devices - 1))


def _lightning():
    """The module of Fabric, which comes by itself or with all of Lightning."""
    for name in ("lightning_fabric", "lightning.fabric"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InputError(
        "training in more than one process needs Lightning's Fabric: pip install lightning-fabric, or take one device and one node",
        "missing-library",
    )
