"""Transformers: one for the patches of an image, one for those of all images together.

The one for an image is the ViT of Dosovitskiy et al. 2021 (norm before, GELU, a class token, learned positions), so that DINO's weights
fit it, see `dino`; it has one channel, since an X-ray has.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

EPS = 1e-6
INITIAL = 0.02
"""Deviation of the first weights, as in ViT."""


class Attention(nn.Module):
    """Every token attends to all (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.asked = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, n, width)."""
        queries, keys, values = self.asked(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(queries, keys, values)
        return self.mixed(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), and of that y + mlp(norm(y)); the mlp is four times as wide."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.before = nn.LayerNorm(width, eps=EPS)
        self.attention = Attention(width, heads)
        self.between = nn.LayerNorm(width, eps=EPS)
        self.wider = nn.Linear(width, 4 * width)
        self.narrower = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before(x))
        return x + self.narrower(functional.gelu(self.wider(self.between(x))))


class Transformer(nn.Module):
    """Blocks one after the other, and a norm.

    Parameters
    ----------
    width, depth, heads : int
        Channels of a token, blocks, and parts that attention is split into.
    """

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.sparing = False
        """Whether what a block holds is made anew for the gradients instead of kept."""
        self.apply(_begin)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, n, width)."""
        for block in self.blocks:
            sparing = self.sparing and torch.is_grad_enabled()
            tokens = checkpoint(block, tokens, use_reentrant=False) if sparing else block(tokens)
        return self.norm(tokens)


class ViewEncoder(nn.Module):
    """The patches of images, each image for itself.

    Parameters
    ----------
    edge, patch : int
        Pixels along the edges of the images that it is made for, and of a patch. Images of other sizes will do: the learned positions are
        interpolated.
    width, depth, heads : int
        As in `Transformer`.
    """

    def __init__(self, edge: int, patch: int, width: int, depth: int, heads: int):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(width))
        self.class_position = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(edge // patch, edge // patch, width))
        self.transformer = Transformer(width, depth, heads)
        self.patches.apply(_begin)
        for parameter in (self.class_token, self.class_position, self.positions):
            nn.init.trunc_normal_(parameter, std=INITIAL)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, h, w, width) of the patches of images (n, 1, rows, columns), whose edges are multiples of a patch."""
        features = self.patches(images)
        n, _, h, w = features.shape
        tokens = (features + positions_on(self.positions, h, w)).flatten(2).transpose(1, 2)
        first = (self.class_token + self.class_position).expand(n, 1, -1)
        return self.transformer(torch.cat([first, tokens], dim=1))[:, 1:].unflatten(1, (h, w))


def positions_on(positions: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Learned positions (rows, columns, width) on other rows and columns, bicubic, channels first: (width, h, w)."""
    positions = positions.permute(2, 0, 1)
    if positions.shape[1:] == (h, w):
        return positions
    return functional.interpolate(positions[None], (h, w), mode="bicubic")[0]


def _begin(layer: nn.Module) -> None:
    """The first weights of a layer, as in ViT."""
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(layer.weight, std=INITIAL)
        nn.init.zeros_(layer.bias)
