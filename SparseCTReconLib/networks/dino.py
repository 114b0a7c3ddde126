"""DINO's weights (Caron et al. 2021) for the encoder of X-rays, or those of any ViT of the transformers library.

They are read by that library, from a folder or from the hub, when a training begins with them; what has been trained needs neither.
An X-ray has one channel: each filter is the sum over its three, and takes over the normalisation of pictures, so that a grey picture
gives what it gave before.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from ..errors import InputError
from .vision_transformer import Block, ViewEncoder, positions_on

HUB = "facebook/dino-vitb16"
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures' channels, which DINO was trained on normalised by these."""

INSTEAD = "or begin with random weights"


def begin_with(encoder: ViewEncoder, source=HUB) -> None:
    """Give an encoder the weights of DINO.

    Parameters
    ----------
    encoder : ViewEncoder
        Of the same width, depth and patch; positions are interpolated.
    source : str or Path
        A folder, or a name on the hub.

    Raises
    ------
    InputError
        Where transformers is not installed, nothing is there or can be read, or it is of another architecture.
    """
    take(encoder, read(source), str(source))


def read(source) -> nn.Module:
    """The ViTModel of a folder or of a name on the hub; for the errors see `begin_with`."""
    try:
        from transformers import ViTModel
    except ImportError as error:
        raise InputError(
            f"DINO's weights are read by transformers ({error}): pip install transformers, {INSTEAD}", "missing-library"
        ) from None
    place = Path(source).expanduser()
    if not place.is_dir() and (isinstance(source, Path) or place.exists() or not re.fullmatch(HUB_NAME, str(source))):
        raise InputError(
            f"{source} is no folder with a ViT: put {HUB} there (hf download {HUB} --local-dir {place}), {INSTEAD}", "missing-weights"
        )
    try:
        model, said = ViTModel.from_pretrained(str(place if place.is_dir() else source), add_pooling_layer=False, output_loading_info=True)
    except Exception as error:  # transformers, its hub client and safetensors each have their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{source} cannot be read as a ViT ({why}): download {HUB} anew, {INSTEAD}", "bad-weights") from None
    if missing := sorted(said["missing_keys"]):
        raise InputError(f"{source} is no ViT (it has no {missing[0]}): give {HUB}, {INSTEAD}", "bad-weights")
    return model.float()


@torch.no_grad()
def take(encoder: ViewEncoder, model: nn.Module, called: str) -> None:
    """Give an encoder the weights of a ViTModel; `called` is its name in a sentence that refuses one that does not fit."""
    _check_fit(encoder, model.config, called)
    held, mean, std = model.embeddings, *(torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    filters = held.patch_embeddings.projection.weight / std
    encoder.patches.weight.copy_(filters.sum(dim=1, keepdim=True))
    encoder.patches.bias.copy_(held.patch_embeddings.projection.bias - (filters * mean).sum(dim=(1, 2, 3)))
    encoder.class_token.copy_(held.cls_token.flatten())
    positions = held.position_embeddings[0]
    encoder.class_position.copy_(positions[0])
    square = positions[1:].unflatten(0, (round((len(positions) - 1) ** 0.5), -1))
    encoder.positions.copy_(positions_on(square, *encoder.positions.shape[:2]).permute(1, 2, 0))
    layers = next(part for part in model.modules() if isinstance(part, nn.ModuleList))
    for block, layer in zip(encoder.transformer.blocks, layers, strict=True):
        _take_block(block, layer)
    _copy(encoder.transformer.norm, model.layernorm)


def _take_block(block: Block, layer: nn.Module) -> None:
    """By the order of a layer's parts, which the versions of transformers have in common; their names they have not."""
    query, key, value, mixed, wider, narrower = (part for part in layer.modules() if isinstance(part, nn.Linear))
    before, between = (part for part in layer.modules() if isinstance(part, nn.LayerNorm))
    for name in ("weight", "bias"):
        getattr(block.attention.asked, name).copy_(torch.cat([getattr(part, name) for part in (query, key, value)]))
    _copy(block.attention.mixed, mixed)
    for ours, theirs in ((block.before, before), (block.between, between), (block.wider, wider), (block.narrower, narrower)):
        _copy(ours, theirs)


def _copy(ours: nn.Module, theirs: nn.Module) -> None:
    ours.weight.copy_(theirs.weight)
    ours.bias.copy_(theirs.bias)


def _check_fit(encoder: ViewEncoder, config, called: str) -> None:
    """InputError unless a ViT's sizes are those of the encoder."""
    patch, width = encoder.patches.kernel_size[0], encoder.patches.out_channels
    blocks = encoder.transformer.blocks
    ours = {"patch_size": patch, "hidden_size": width, "num_hidden_layers": len(blocks), "num_attention_heads": blocks[0].attention.heads}
    ours |= {"intermediate_size": 4 * width, "hidden_act": "gelu", "qkv_bias": True, "num_channels": len(MEAN)}
    for name, wanted in ours.items():
        if (found := getattr(config, name, None)) != wanted:
            raise InputError(f"{called} has {name} {found}, the encoder needs {wanted}: give a ViT of its size, {INSTEAD}", "bad-weights")
