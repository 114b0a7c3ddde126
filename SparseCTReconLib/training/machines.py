"""Where a training runs: one process by itself, many GPUs and nodes by Lightning's Fabric, which is installed for that.

Each process does the same steps on examples of its own, and gradients are means over all (data-parallel). Of batch normalisation each
process has statistics of its own, of which the first one's are kept; codebooks follow the features of all.
"""

from __future__ import annotations

import torch

from .. import machine
from ..errors import InputError
from .learning import Alone
from .plan import Machine

MOST_WORKERS = 8
"""Processes that make examples for one GPU, if not told otherwise."""

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
    fabric = _fabric()(accelerator=device, devices=wanted.devices, num_nodes=wanted.nodes, strategy="ddp", precision=PRECISIONS[half])
    fabric.launch()
    return fabric


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


def _fabric():
    try:
        from lightning_fabric import Fabric
    except ImportError:
        try:
            from lightning.fabric import Fabric
        except ImportError:
            raise InputError(
                "training in more than one process needs Lightning's Fabric: pip install lightning-fabric, or take one device and one node",
                "missing-library",
            ) from None
    return Fabric
