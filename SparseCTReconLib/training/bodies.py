"""Limbs that never were: CTs drawn at random, to learn from beside the few real ones.

A limb is a tube about a bent axis along the patient's. Across it lie skin, fat, muscles with fat between them, vessels, and one bone or
two: a shell of dense bone about marrow, which towards a joint becomes wider, thinner and spongy. Some have their mirror image beside them.
None of it is an atlas; what is meant to be learnt is that edges are closed, tissues uniform but for a texture, and bones inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..grid import Grid, Volume
from ..units import AIR_HU

PAIRED = 0.3
"""Of the limbs, those with another one beside them."""

SKIN_MM = 2.0
HARMONICS = 4
"""Of a limb's outline about a circle."""


@dataclass(frozen=True)
class MadeUpLimb:
    """A limb that follows from a seed; in the place of a `prepared.PreparedCT`.

    Parameters
    ----------
    seed : int
    voxels : int
        Along each axis.
    spacing_mm : float
    """

    seed: int
    voxels: int = 128
    spacing_mm: float = 1.6

    @property
    def source(self) -> str:
        return f"made-up limb {self.seed}"

    def volume(self) -> Volume:
        """In HU."""
        return limb(self.seed, self.voxels, self.spacing_mm)


def limb(seed: int, voxels: int = 128, spacing_mm: float = 1.6) -> Volume:
    """The limb of a seed in HU, on a grid about LPS 0."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    ticks = ((np.arange(voxels) + 0.5) / voxels - 0.5) * voxels * spacing_mm
    z, y, x = (torch.from_numpy(ticks).float().reshape(shape) for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    edge_mm = voxels * spacing_mm
    radius_mm = edge_mm * rng.uniform(0.18, 0.4)
    paired = rng.random() < PAIRED
    if paired:
        radius_mm = edge_mm * rng.uniform(0.13, 0.2)
        x = edge_mm * 0.24 - x.abs()
    hu = _drawn(z / edge_mm, y / radius_mm, x / radius_mm, radius_mm, rng)
    return Volume(gaussian_filter(hu.numpy(), 0.5), Grid.centred((voxels,) * 3, (spacing_mm,) * 3))


def _drawn(z, y, x, radius_mm: float, rng: np.random.Generator) -> torch.Tensor:
    """HU [z, y, x]; z from -.5 to .5, y and x in radii."""
    shape = (z.numel(), y.numel(), x.numel())
    x, y = x - _bend(z, 0.25, rng), y - _bend(z, 0.25, rng)
    size = 1 + _bend(z, 0.4, rng)
    depth = torch.hypot(x * rng.uniform(0.85, 1.2), y) / size / _outline(x, y, z, rng)
    fat = rng.uniform(0.02, 0.25) * (1 + 0.5 * _outline(x, y, z, rng).sub(1).mul(4).clamp(-1, 1))
    muscle = rng.normal(55, 8) + 12 * _texture(shape, 24, rng)
    septa = _texture(shape, 7, rng).abs() < rng.uniform(0.02, 0.12)
    between = rng.normal(-100, 10) + 10 * _texture(shape, 20, rng)
    hu = torch.where(septa, between, muscle)
    hu = torch.where(depth > 1 - SKIN_MM / radius_mm - fat, between, hu)
    hu = torch.where(depth > 1 - SKIN_MM / radius_mm, rng.normal(20, 15), hu)
    for _ in range(int(rng.integers(2, 6))):
        away = torch.hypot(x - _bend(z, 0.2, rng) - rng.uniform(-0.5, 0.5), y - _bend(z, 0.2, rng) - rng.uniform(-0.5, 0.5))
        hu = torch.where((away < rng.uniform(1.0, 4.0) / radius_mm) & (depth < 0.9), rng.uniform(30, 70), hu)
    for centre, width in _bones(rng):
        hu = _with_bone(hu, z, y - centre[0] * size, x - centre[1] * size, width * size, rng)
    return torch.where(depth > 1, AIR_HU, hu)


def _bones(rng: np.random.Generator) -> list[tuple[list[float], float]]:
    """Centres (y, x) and radii of one bone or two, in the limb's radii; none reaches the skin."""
    if rng.random() < 0.5:
        return [(rng.uniform(-0.2, 0.2, 2).tolist(), rng.uniform(0.18, 0.35))]
    angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.28, 0.36)
    there = apart * np.array([np.sin(angle), np.cos(angle)])
    return [(there.tolist(), rng.uniform(0.14, 0.24)), ((-there).tolist(), rng.uniform(0.08, 0.2))]


def _with_bone(hu: torch.Tensor, z, y, x, width, rng: np.random.Generator) -> torch.Tensor:
    """HU with a bone about an axis: towards its joint it is wider, and spongy within a thin shell."""
    joint, reach = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.3)
    near = torch.exp(-(((z - joint) / reach) ** 2))
    wider = width * (1 + 0.4 * near) * _outline(x, y, z, rng)
    inside = torch.hypot(x * rng.uniform(0.9, 1.1), y) / wider
    shell = rng.uniform(0.15, 0.35) * (1 - 0.8 * near)
    spongy = rng.uniform(150, 400) + 80 * _texture(tuple(hu.shape), 4, rng)
    marrow = torch.where(near > 0.25, spongy, torch.tensor(rng.uniform(-70, 30)).float())
    hu = torch.where(inside < 1, rng.uniform(900, 1800), hu)
    return torch.where(inside < 1 - shell, marrow, hu)


def _outline(x, y, z, rng: np.random.Generator) -> torch.Tensor:
    """About 1: how far an outline lies out in each direction; it turns along z."""
    angle, out = torch.atan2(y, x), 1.0
    for order in range(1, HARMONICS + 1):
        out = out + rng.normal(0, 0.05 / order) * torch.cos(order * angle + rng.uniform(0, 2 * np.pi) + rng.normal(0, 2) * z)
    return out


def _bend(z: torch.Tensor, most: float, rng: np.random.Generator) -> torch.Tensor:
    """A smooth curve along z, within +-`most`, 0 in the middle."""
    slope, curve = rng.uniform(-most, most), rng.uniform(-most, most)
    return slope * z + 2 * curve * z**2


def _texture(shape: tuple[int, int, int], grain: int, rng: np.random.Generator) -> torch.Tensor:
    """Smooth noise [z, y, x] of deviation about 1, whose grains are as many voxels wide; it leaves the other random numbers alone."""
    coarse = torch.from_numpy(rng.spawn(1)[0].normal(size=[n // grain + 2 for n in shape])).float()
    return 1.6 * functional.interpolate(coarse[None, None], shape, mode="trilinear")[0, 0]
