"""Weights that DeepSparse's authors have published, made into files of ours (github.com/xmed-lab/DeepSparse, MIT licence).

Their code is in other frames, which the conversion puts into the weights or `Configuration.release` keeps:

- Arrays are [x, y, z], and images have the head above: kernels are transposed, those of images turned upside down.
- Values are (HU + 1000) / (1000 top), integrated along rays in metres and divided by .2.
- Low-resolution cells lie at 0, 1/32 .. 31/32 of an edge, but are read as if at 0, 1/31 .. 1; voxels are taken for points from face to
  face, and a detector's outer pixels for its edges. The weights have learnt with that, so it is kept for them.

Otherwise the published code differs from the paper in that it pairs views greedily, gives projections no noise but rounds them to 8 bits,
lets the batch statistics of a frozen encoder go on, and averages unrelated features of several GPUs into the codebooks. Training here
follows the paper in these.

C2RV, on which DiCE builds, carries a patent note by its authors.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ..errors import InputError
from .dice import DiCE
from .dice_configuration import Configuration
from .dice_weights import LEFT_OUT, save, settle
from .filled import fill

ANATOMIES = {
    "abdomen": (2.0, (409.6, 409.6, 409.6)),
    "chest": (2.024, (409.6, 409.6, 409.6)),
    "pelvis": (2.0, (409.6, 409.6, 409.6)),
    "tooth": (4.0, (138.9, 138.9, 53.4)),
}
"""Of the published weights: attenuation of their output 1 relative to water, and edges of the box in mm about the isocentre."""

CARD = {
    "method": "deepsparse",
    "source": "github.com/xmed-lab/DeepSparse",
    "licence": "MIT; C2RV, on which DiCE builds, carries a patent note by its authors",
}

NAMES = (
    (r"encoder\.encoder\.stem\.conv\.(.+)", r"encoder.stem.\1"),
    (r"encoder\.encoder\.layers\.(\d+)\.0\.layer\.(.+)", r"encoder.levels.\1.0.\2"),
    (r"encoder\.encoder\.layers\.(\d+)\.1\.pre_conv\.(.+)", r"encoder.levels.\1.1.\2"),
    (r"encoder\.encoder\.layers\.(\d+)\.1\.layers\.0\.conv\.(.+)", r"encoder.levels.\1.2.layers.\2"),
    (r"cb\.(\d+)\.pre_quant\.(.+)", r"quantisers.<\1>.before.\2"),
    (r"cb\.(\d+)\.post_quant\.(.+)", r"quantisers.<\1>.after.\2"),
    (r"cb\.(\d+)\.codebook\.embedding\.weight", r"quantisers.<\1>.codes"),
    (r"cb\.(\d+)\.codebook\.embedding\.cluster_size", r"quantisers.<\1>.sizes"),
    (r"cb\.(\d+)\.codebook\.embedding\.embed_avg", r"quantisers.<\1>.sums"),
    (r"decoders\.(\d+)\.pre_conv\.(.+)", r"decoders.<\1>.enter.\2"),
    (r"decoders\.(\d+)\.layers\.(\d+)\.conv\.(.+)", r"decoders.<\1>.residuals.\2.layers.\3"),
    (r"denoise_layers\.(\d+)\.layers\.(\d+)\.conv\.(.+)", r"denoisers.<\1>.residuals.\2.layers.\3"),
    (r"point_decoder\.mlps\.(\d+)\.(.+)", r"points.layers.\1.\2"),
)
"""What each is called there and here; a number in angles counts scales from the coarsest there and from the finest here."""

NEEDED = ("cb.0.codebook.embedding.weight", "decoders.0.layers.0.conv.0.weight", "point_decoder.mlps.0.0.weight")


def convert(path, out, anatomy: str, card: dict | None = None) -> None:
    """Write a published checkpoint as a file of ours.

    Parameters
    ----------
    path : str or Path
        Their file, ep_*.pth.
    out : str or Path
        Ours.
    anatomy : str
        One of `ANATOMIES`: that it was finetuned to; "abdomen" for what was pretrained only.
    card : dict, optional
        JSON values beside those that are known.

    Raises
    ------
    InputError
        Where the file is missing, damaged, holds code or something else, or the anatomy is none of theirs.
    """
    if anatomy not in ANATOMIES:
        raise InputError(f"no published weights of {anatomy!r}: known are {', '.join(ANATOMIES)}", "bad-option")
    top, edges_mm = ANATOMIES[anatomy]
    network = from_release(read(path), top)
    save(network, out, {**CARD, "anatomies": [anatomy], "box_mm": edges_mm, "converted_from": Path(path).name, **(card or {})})


def read(path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name, read without running what it may hold of code."""
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist", "no-such-file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own
        why = (str(error) or type(error).__name__).splitlines()[0]
        text = f"{path} cannot be read as a checkpoint of tensors alone, so it is damaged or holds code ({why}): download it anew"
        raise InputError(text, "bad-weights") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) and isinstance(held, torch.Tensor) for name, held in state.items()):
        raise InputError(f"{path} holds no state dict: give a file ep_*.pth of DeepSparse's weights", "bad-weights")
    return state


def from_release(state: dict[str, torch.Tensor], top: float = 2.0) -> DiCE:
    """The network of a state dict of the published code.

    Parameters
    ----------
    state : dict of str to Tensor
    top : float
        Attenuation relative to water that its output 1 stands for.

    Raises
    ------
    InputError
        Where it is laid out otherwise.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    lacking = [name for name in NEEDED if name not in state]
    if lacking:
        raise InputError(f"no weights of DeepSparse: there is no {lacking[0]}; give a file ep_*.pth of its model weights", "bad-weights")
    try:
        configuration = _configuration(state, top)
        network, scales = DiCE(configuration), len(configuration.widths)
        fill(network, {_name(name, scales): _turned(tensor.float()) for name, tensor in state.items()}, LEFT_OUT)
    except (InputError, TypeError, IndexError) as error:
        raise InputError(f"no weights of DeepSparse's model: {error}", "bad-weights") from None
    settle(network)
    return network.eval()


def _configuration(state: dict[str, torch.Tensor], top: float) -> Configuration:
    """The sizes that the shapes tell; the number of cells they do not, it is 32."""
    codes = _numbered(state, "cb.", ".codebook.embedding.weight")
    layers = _numbered(state, "point_decoder.mlps.", ".0.weight")
    return Configuration(
        widths=tuple(code.shape[-1] for code in reversed(codes)),
        codes=len(codes[0]),
        decoder=len(state["decoders.0.layers.0.conv.0.weight"]),
        points=tuple(len(layer) for layer in layers[:-1]),
        denoising=any(name.startswith("denoise_layers.") for name in state),
        top=top,
        release=True,
    )


def _numbered(state: dict[str, torch.Tensor], before: str, after: str) -> list[torch.Tensor]:
    """Those whose names differ in a number, in its order."""
    found, name = [], f"{before}0{after}"
    while name in state:
        found.append(state[name])
        name = f"{before}{len(found)}{after}"
    return found


def _name(name: str, scales: int) -> str:
    """What we call a tensor of theirs; what is unknown keeps its name."""
    for theirs, ours in NAMES:
        if re.fullmatch(theirs, name):
            renamed = re.sub(f"^{theirs}$", ours, name)
            return re.sub(r"<(\d+)>", lambda match: str(scales - 1 - int(match[1])), renamed)
    return name


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    """Kernels [.., x, y, z] as [.., z, y, x]; those of images [.., rows from the head down, columns] with rows from the feet up."""
    if tensor.dim() == 5:
        return tensor.permute(0, 1, 4, 3, 2)
    return tensor.flip(2) if tensor.dim() == 4 else tensor
