"""Joseph's projector in plain torch: slow, readable, on any device; the truth that the kernels are tested against.

Every ray steps along the grid axis on which its direction is largest in index space and reads the plane there bilinearly, with zero
outside the grid (Joseph 1982, IEEE Trans. Med. Imaging 1(3)).
"""

from __future__ import annotations

import numpy as np
import torch

from ..grid import Grid


def forward(volume: torch.Tensor, rays: np.ndarray, grid: Grid, shape: tuple[int, int, int]) -> torch.Tensor:
    """Line integrals [view, v, u] of `volume` [z, y, x]; `rays` as `projector.index_rays` gives them."""
    out = []
    for source, direction in _views(rays, shape, volume.device):
        p = torch.zeros(direction.shape[0], dtype=torch.float32, device=volume.device)
        for rows, index, weight in _samples(source, direction, grid):
            p[rows] += (volume.reshape(-1)[index] * weight).sum(dim=(1, 2))
        out.append(p.reshape(shape[1:]))
    return torch.stack(out)


def adjoint(projections: torch.Tensor, rays: np.ndarray, grid: Grid, shape: tuple[int, int, int]) -> torch.Tensor:
    """The exact adjoint of `forward`: every sample is added where it was read."""
    volume = torch.zeros(int(np.prod(grid.size)), dtype=torch.float32, device=projections.device)
    for (source, direction), p in zip(_views(rays, shape, projections.device), projections.reshape(shape[0], -1)):
        for rows, index, weight in _samples(source, direction, grid):
            volume.index_add_(0, index.reshape(-1), (p[rows][:, None, None] * weight).reshape(-1))
    return volume.reshape(grid.shape)


def _views(rays, shape, device):
    """For each view: the source (3,) and the directions (pixels, 3) to the pixels in index space, rows first."""
    _, nv, nu = shape
    v, u = torch.meshgrid(torch.arange(nv, dtype=torch.float64), torch.arange(nu, dtype=torch.float64), indexing="ij")
    for ray in torch.as_tensor(rays):
        direction = ray[3:6] + u.reshape(-1, 1) * ray[6:9] + v.reshape(-1, 1) * ray[9:12]
        yield ray[:3].to(device), direction.to(device)


def _samples(source, direction, grid):
    """Per main axis: which rays, and their samples' voxel indices and weights in mm, (rays, steps, 4)."""
    main = direction.abs().argmax(dim=1)
    main[direction[:, 0].abs() >= direction.abs().max(dim=1).values] = 0
    spacing = torch.tensor(grid.spacing_mm, dtype=torch.float64, device=direction.device)
    size = torch.tensor(grid.size, device=direction.device)
    stride = torch.tensor([1, grid.size[0], grid.size[0] * grid.size[1]], device=direction.device)
    for axis in range(3):
        rows = torch.nonzero(main == axis).squeeze(1)
        if not len(rows):
            continue
        d = direction[rows]
        steps = torch.arange(grid.size[axis], dtype=torch.float64, device=d.device)
        t = (steps - source[axis]) / d[:, axis : axis + 1]
        length = (d * spacing).norm(dim=1) / d[:, axis].abs()
        a, b = [other for other in range(3) if other != axis]
        at = [source[other] + t * d[:, other : other + 1] for other in (a, b)]
        inside = (t >= 0) & (t <= 1)
        index, weight = [], []
        for corner_a in (0, 1):
            for corner_b in (0, 1):
                ia, ib = at[0].floor() + corner_a, at[1].floor() + corner_b
                w = (1 - (at[0] - ia).abs()) * (1 - (at[1] - ib).abs()) * length[:, None]
                valid = inside & (ia >= 0) & (ia < size[a]) & (ib >= 0) & (ib < size[b])
                flat = steps.long() * stride[axis] + ia.long() * stride[a] + ib.long() * stride[b]
                index.append(torch.where(valid, flat, 0))
                weight.append(torch.where(valid, w, 0.0).float())
        yield rows, torch.stack(index, dim=2), torch.stack(weight, dim=2)
