"""The neural attenuation field in plain torch: what the kernels of `hash_grid` and `head` compute, readable and differentiable."""

from __future__ import annotations

import torch

from .hash_grid import FEATURES, PRIMES, HashGrid
from .head import EPSILON, LEAK, SQUAREPLUS, Head


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


def head(features: torch.Tensor, parameters: torch.Tensor, shape: Head, scale: float) -> torch.Tensor:
    """Attenuation (n,) in the unit of `scale` for features (channels, n)."""
    c, h = shape.channels, shape.hidden
    gain, shift, w1, b1, w2, b2, w3, b3 = parameters.split([c, c, h * c, h, h * h, h, h, 1])
    x = torch.nn.functional.layer_norm(features.T, (c,), gain, shift, float(EPSILON))
    x = torch.nn.functional.leaky_relu(x @ w1.reshape(h, c).T + b1, float(LEAK))
    x = torch.nn.functional.leaky_relu(x @ w2.reshape(h, h).T + b2, float(LEAK))
    x = x @ w3 + b3
    return scale * 0.5 * (x + (x * x + float(SQUAREPLUS)).sqrt())
