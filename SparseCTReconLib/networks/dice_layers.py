"""The parts of DiCE: an encoder of images on several scales, a stack for volumes, and what reads a point's features.

Convolution, batch normalisation and leaky ReLU throughout, as Lin et al. (2026) have them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMALISATION = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SLOPE = 0.01


def block(dimensions: int, inward: int, outward: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution with normalisation and activation; as many pixels out as in where the stride is 1."""
    padding = size // 2 if stride == 1 else 0
    convolution = CONVOLUTION[dimensions](inward, outward, size, stride, padding)
    return nn.Sequential(convolution, NORMALISATION[dimensions](outward), nn.LeakyReLU(SLOPE))


class Residual(nn.Module):
    """act(x + norm(conv(x))), as many channels out as in."""

    def __init__(self, dimensions: int, channels: int):
        super().__init__()
        self.layers = nn.Sequential(CONVOLUTION[dimensions](channels, channels, 3, padding=1), NORMALISATION[dimensions](channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(x + self.layers(x), SLOPE)


class Encoder(nn.Module):
    """Features of images on the scales 1, 1/2, 1/4, ...

    Parameters
    ----------
    widths : tuple of int
        Channels on each scale, the finest first.
    """

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.stem = block(2, 1, widths[0])
        self.levels = nn.ModuleList(
            nn.Sequential(block(2, a, a, size=2, stride=2), block(2, a, b), Residual(2, b)) for a, b in zip(widths, widths[1:])
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, c, v, u), the finest first, of images (n, 1, v, u) whose edges are multiples of the coarsest scale's pixel."""
        maps = [self.stem(images)]
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps


class Stack(nn.Module):
    """Residual layers on volumes, after a layer that changes the number of channels where it must.

    Parameters
    ----------
    inward, outward : int
        Channels.
    depth : int
        Residual layers.
    """

    def __init__(self, inward: int, outward: int, depth: int = 2):
        super().__init__()
        self.enter = block(3, inward, outward) if inward != outward else nn.Identity()
        self.residuals = nn.Sequential(*(Residual(3, outward) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residuals(self.enter(x))


class PointDecoder(nn.Module):
    """Layers that act on each point alone; every one is given the point's features again.

    Parameters
    ----------
    features : int
        Of a point.
    widths : tuple of int
        Of the layers but the last, which gives one value.
    plain : bool
        The last layer is nothing but linear. Otherwise it too is normalised and activated, as in the paper, so that in training the
        values of each batch have the same mean and spread: that needs batches of many scans.
    """

    def __init__(self, features: int, widths: tuple[int, ...], plain: bool = False):
        super().__init__()
        inward = [0, *widths]
        layers = [block(1, a + features, b, size=1) for a, b in zip(inward, [*widths, 1])]
        if plain:
            layers[-1] = nn.Conv1d(inward[-1] + features, 1, 1)
        self.layers = nn.ModuleList(layers)

    def begin_at_zero(self) -> None:
        """Make a plain last layer give 0 whatever it is shown."""
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Values (b, n) of features (b, c, n)."""
        x = self.layers[0](features)
        for layer in self.layers[1:]:
            x = layer(torch.cat([x, features], dim=1))
        return x[:, 0]
