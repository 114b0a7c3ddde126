"""Small compact fixers for tests, and files of them."""

import torch

from SparseCTReconLib.networks.compact_fixer import FORMAT, CompactFixer, CompactNetwork
from SparseCTReconLib.weight_files import WeightFile

WIDTHS = (4, 8, 8, 8)


def network(changed=True, seed=1):
    """A small network; where `changed`, none of its layers is zero, as after training."""
    torch.manual_seed(seed)
    made = CompactNetwork(WIDTHS)
    if changed:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def fixer(made=None, anatomies=("limb",)):
    """The fixer of a network, as from a file."""
    card = {"anatomies": list(anatomies)}
    return CompactFixer(made or network(), WeightFile("small", card, {}, "0" * 64, FORMAT))
