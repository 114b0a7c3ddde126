"""Files of tiny networks' weights for the methods that make a volume in one pass, with the ranges of what they are shown in tests."""

from dataclasses import replace

import small_dice
import small_xgrm
import torch

from SparseCTReconLib.networks import dice_weights, scan_range, xgrm_weights
from SparseCTReconLib.networks.dice import begin


def dice(folder, scans=(), name="deepsparse_limb", network=None, **card):
    """A file of a tiny DiCE's weights."""
    made, path = network or small_dice.network(), folder / f"{name}.safetensors"
    dice_weights.save(made, path, _card("deepsparse", made, scans) | card)
    return path


def bettering(folder, scans=(), **card):
    """A file of a tiny DiCE that is shown a first volume."""
    made = begin(replace(small_dice.SMALL, around=2, plain_output=True)).eval()
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=numbers))
    return dice(folder, scans, network=made, **card)


def xgrm(folder, scans=(), name="x-grm_limb", **card):
    """A file of a tiny X-GRM's weights."""
    made, path = small_xgrm.network(), folder / f"{name}.safetensors"
    xgrm_weights.save(made, path, _card("x-grm", made, scans) | card)
    return path


def _card(method, network, scans):
    card = {"method": method, "anatomies": ["limb"], "credit": "noise", "licence": "CC0"}
    return card | ({"range": scan_range.of(network, scans)} if scans else {})
