"""The neural attenuation field in plain torch: what the kernels of `hash_grid` and `head` compute, readable and differentiable."""

from __future__ import annotations

import torch

from ._blocks import EPSILON, LEAK
from .hash_grid import PRIMES
from .hash_layout import FEATURES, HashGrid
from .head import SQUAREPLUS, Head


def encode(points: torch.Tensor, table: torch.Tensor, grid: HashGrid) -> torch.Tensor:
    """Features (2 * levels, n) of points (3, n) in the unit cube."""
    features = []
    for (cells, offset, rows, dense, *vertices), scale in zip(grid.layout().tolist(), grid.scales().tolist()):
        edges = torch.tensor(grid.box, dtype=points.dtype)[:, None]
        scaled = points.clamp(min=0).minimum(edges) * cells
        cell = scaled.long().minimum(torch.tensor(vertices)[:, None] - 2)
        fraction = scaled - cell
        total = torch.zeros(points.shape[1], FEATURES, dtype=table.dtype)
        for corner in range(8):
            step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])[:, None]
            weight = torch.where(step == 1, fraction, 1 - fraction).prod(dim=0)
            total = total + weight[:, None] * table[offset + _row(cell + step, rows, vertices if dense else None)]
        features.append(scale * total.T)
    return torch.cat(features)


def _row(vertex: torch.Tensor, rows: int, sides: list[int] | None) -> torch.Tensor:
    if sides:
        return vertex[0] + sides[0] * (vertex[1] + sides[1] * vertex[2])
    x, y, z = ((v * prime) & 0xFFFFFFFF for v, prime in zip(vertex, PRIMES))
    return (x ^ y ^ z) & (rows - 1)


def head(features: torch.Tensor, parameters: torch.Tensor, shape: Head, scale: float, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Attenuation (n,) in the unit of `scale` for features (channels, n); `mask` (channels,) multiplies the normalised features."""
    parts = list(parameters.split(shape.sizes))
    x = features.T
    if shape.layer_norm:
        x = torch.nn.functional.layer_norm(x, (shape.channels,), parts.pop(0), parts.pop(0), float(EPSILON))
    first = x = x if mask is None else x * mask
    for number, (rows, columns) in enumerate(shape.layers):
        if number == 2 and shape.skip:
            x = torch.cat([x, first], dim=1)
        x = x @ parts.pop(0).reshape(rows, columns).T + parts.pop(0)
        if number < len(shape.layers) - 1:
            x = activation(x, shape)
    return scale * output(x[:, 0], shape)


def activation(x: torch.Tensor, shape: Head) -> torch.Tensor:
    """Between the layers of a head."""
    if shape.activation == "gelu":
        return torch.nn.functional.gelu(x, approximate="tanh")
    return torch.nn.functional.leaky_relu(x, float(LEAK))


def output(x: torch.Tensor, shape: Head) -> torch.Tensor:
    """After the last layer of a head."""
    if shape.output == "squareplus":
        return 0.5 * (x + (x * x + float(SQUAREPLUS)).sqrt())
    return torch.sigmoid(x) if shape.output == "sigmoid" else x
