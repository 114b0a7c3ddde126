"""SliceFixer on SD-Turbo: the make for those who have its weights and accept its licence.

    fixer = sd_turbo.load("sd-turbo", "adapters.safetensors", "cuda", licence_accepted=True)
    repaired = fixer.repair(stack, xrays, "chest")

SD-Turbo's weights are not ours to ship, nor are adapters: these are trained here (`begin`, `save`). Needs diffusers, peft and
transformers, which are imported where they are used first.
"""

from __future__ import annotations

import numpy as np
import torch

from .. import weight_files
from ..errors import InputError
from .sd_turbo_network import RANK_UNET, RANK_VAE, SDTurboNetwork, prompt
from .sd_turbo_parts import INSTEAD, LICENCE, read_parts

FORMAT = "SparseCTRecon slice-fixer sd-turbo 1"
UNTRAINED = "sd-turbo, untrained"

BATCH_PIXELS = 512 * 512
"""Pixels that are repaired at a time, at least a slice: they decide how much memory it takes."""


class SDTurboFixer:
    """Repairs slices by one step of SD-Turbo.

    Parameters
    ----------
    network : SDTurboNetwork
    base : str
        Fingerprint of the frozen weights.
    source : str
        Name and checksum of the adapters, for a result's provenance.
    anatomies : tuple of str
        That the adapters were trained for.
    """

    make = "sd-turbo"

    def __init__(self, network: SDTurboNetwork, base: str, source: str = UNTRAINED, anatomies: tuple[str, ...] = ()):
        self.network = network
        self.base = base
        self.source = source
        self.anatomies = anatomies

    @property
    def edge(self) -> int:
        """Pixels along the edge of the slices that it was made for: 512 for SD-Turbo."""
        return self.network.edge

    def repair(self, stack: np.ndarray, xrays: np.ndarray, organ: str) -> np.ndarray:
        """A repaired stack.

        Parameters
        ----------
        stack : ndarray
            [z, y, x], attenuation relative to water, axial slices of any size.
        xrays : ndarray
            (2, z, w), two orthogonal views, see `biplanar`.
        organ : str
            One of `fields.anatomy.ANATOMIES`, or any word for the prompt.

        Returns
        -------
        ndarray
            float32, as `stack`, never negative.
        """
        stack = np.ascontiguousarray(stack, np.float32)
        views = torch.from_numpy(np.ascontiguousarray(xrays, np.float32))[None].to(self.network.device)
        batch = max(1, BATCH_PIXELS // stack[0].size)
        repaired = np.empty_like(stack)
        with torch.no_grad():
            condition = self.network.condition(views, [prompt(organ)])
            for first in range(0, len(stack), batch):
                slices = torch.from_numpy(stack[first : first + batch])[:, None].to(self.network.device)
                some = self.network.repaired(slices, condition.expand(len(slices), -1, -1))
                repaired[first : first + batch] = some[:, 0].clamp(min=0).cpu().numpy()
        return repaired


def begin(folder, device: str = "cpu", licence_accepted: bool = False, image_encoder=None) -> SDTurboFixer:
    """A fixer to train: SD-Turbo with adapters that do nothing yet. Parameters and errors are those of `load`."""
    if not licence_accepted:
        raise InputError(LICENCE, "licence")
    parts = read_parts(folder, image_encoder)
    base = parts.fingerprint()
    return SDTurboFixer(SDTurboNetwork(parts).eval().to(device), base)


def load(folder, adapters, device: str = "cpu", licence_accepted: bool = False, image_encoder=None) -> SDTurboFixer:
    """The fixer with trained adapters.

    Parameters
    ----------
    folder : str or Path
        Where SD-Turbo lies as diffusers lays it out, with RAD-DINO or another vision transformer in `image_encoder`; or SD-Turbo's name
        on the hub, "stabilityai/sd-turbo".
    adapters : str or Path
        A file that `save` wrote.
    device : str
    licence_accepted : bool
        That the user has read Stability AI's licence and accepts it.
    image_encoder : str or Path, optional
        A vision transformer's folder or name on the hub, instead of the one in `folder`.

    Raises
    ------
    InputError
        Where the licence is not accepted, a library or weights are missing, or the adapters' file is missing, damaged, or was trained
        on other weights.
    """
    fixer = begin(folder, device, licence_accepted, image_encoder)
    try:
        file = weight_files.read(adapters, FORMAT, "adapters of the SD-Turbo fixer")
    except InputError as error:
        raise InputError(f"{error}, {INSTEAD}", error.code) from None
    wanted = fixer.network.adapters()
    if file.card.get("base") != fixer.base or {k: v.shape for k, v in file.arrays.items()} != {
        k: tuple(v.shape) for k, v in wanted.items()
    }:
        message = f"{adapters} was trained on other weights than those in {folder}: give the folder that it was trained on, {INSTEAD}"
        raise InputError(message, "bad-weights")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(torch.from_numpy(file.arrays[name]))
    fixer.source, fixer.anatomies = file.source, tuple(file.card.get("anatomies", ()))
    return fixer


def save(fixer: SDTurboFixer, path, card: dict) -> None:
    """Write the adapters as float16, without SD-Turbo's own weights.

    Parameters
    ----------
    fixer : SDTurboFixer
    path : str or Path
    card : dict
        JSON values that say what they were trained on and how; "anatomies" is taken from the fixer where it is not among them.
    """
    arrays = {name: parameter.detach().cpu().half().numpy() for name, parameter in fixer.network.adapters().items()}
    said = {"anatomies": list(fixer.anatomies), **card, "base": fixer.base, "rank_vae": RANK_VAE, "rank_unet": RANK_UNET}
    weight_files.write(path, FORMAT, said, arrays)
