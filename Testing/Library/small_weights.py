"""Files of tiny networks' weights for the methods that make a volume in one pass, with the ranges of what they are shown in tests."""

from dataclasses import replace

import small_dice
import small_xgrm
import torch

from SparseCTReconLib.networks import dice_weights, scan_range, xgrm_weights
from SparseCTReconLib.networks.dice import begin
from SparseCTReconLib.networks.xgrm import begin as begin_xgrm

ANYTHING = ["head", "chest", "abdomen", "limb"]


def shelf(folder):
    """Weights for each method in a folder, good for any part of the body."""
    dice(folder, anatomies=ANYTHING)
    xgrm(folder, anatomies=ANYTHING)
    return folder


def dice(folder, scans=(), name="deepsparse_limb", network=None, **card):
    """A file of a tiny DiCE's weights."""
    made, path = network or small_dice.network(), folder / f"{name}.safetensors"
    dice_weights.save(made, path, _card("deepsparse", made, scans) | card)
    return path


def bettering(folder, name, scans=(), **card):
    """A file of a tiny network of a method that is shown a first volume."""
    if name == "deepsparse":
        return dice(folder, scans, network=_noisy(begin(replace(small_dice.SMALL, around=2, plain_output=True))), **card)
    return xgrm(folder, scans, network=_noisy(begin_xgrm(small_xgrm.size(around=2))), **card)


def _noisy(network):
    """A network none of whose layers is zero by design."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=numbers))
    return network.eval()


def xgrm(folder, scans=(), name="x-grm_limb", network=None, **card):
    """A file of a tiny X-GRM's weights."""
    made, path = network or small_xgrm.network(), folder / f"{name}.safetensors"
    xgrm_weights.save(made, path, _card("x-grm", made, scans) | card)
    return path


def _card(method, network, scans):
    card = {"method": method, "anatomies": ["limb"], "credit": "noise", "licence": "CC0"}
    return card | ({"range": scan_range.of(network, scans)} if scans else {})
