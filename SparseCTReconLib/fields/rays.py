"""Samples along measured rays, in the unit cube about a grid."""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import Geometry
from ..grid import Grid
from ..operators._jit import kernel, run_threaded


class UnitCube:
    """The cube in which a field lives: the grid's box with its longest edge scaled to 1, its first corner at 0.

    Parameters
    ----------
    grid : Grid
        Voxels; the cube's axes are the grid's.
    """

    def __init__(self, grid: Grid):
        self.grid = grid
        self.edge_mm = float(grid.extent_mm.max())
        self.upper = (grid.extent_mm / self.edge_mm).astype(np.float32)

    def from_world(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix (3, 3) and shift (3,) that take LPS in mm into the cube."""
        matrix = self.grid.direction.T / self.edge_mm
        corner = np.asarray(self.grid.origin_mm) - self.grid.direction @ (np.asarray(self.grid.spacing_mm) / 2)
        return matrix, -matrix @ corner

    def voxel_centres(self, first: int, stop: int) -> torch.Tensor:
        """Centres (3, n) of the voxels in the slices first <= z < stop, in the order of an array [z, y, x]."""
        return self.box_centres((first, 0, 0), (stop - first, *self.grid.shape[1:]))

    def box_centres(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> torch.Tensor:
        """Centres (3, n) of the voxels of a box, given by its first index and its voxels, z, y, x."""
        steps = np.asarray(self.grid.spacing_mm)[::-1] / self.edge_mm
        ticks = ((f + np.arange(n) + 0.5) * step for f, n, step in zip(first, shape, steps))
        z, y, x = np.meshgrid(*ticks, indexing="ij")
        return torch.from_numpy(np.stack([x, y, z]).reshape(3, -1).astype(np.float32))


@kernel
def _sample(start, stop, pixels, jitter, poses, upper, points, steps):
    """Stratified points of the rays start .. stop; `steps` gets the distance between samples, 0 for a ray that misses the box."""
    samples = jitter.shape[1]
    for ray in range(start, stop):
        pose = poses[pixels[ray, 0]]
        v, u = np.float32(pixels[ray, 1]), np.float32(pixels[ray, 2])
        near, far = np.float32(0), np.float32(1)
        for axis in range(3):
            direction = pose[3 + axis] + u * pose[6 + axis] + v * pose[9 + axis]
            if abs(direction) > np.float32(1e-9):
                a, b = -pose[axis] / direction, (upper[axis] - pose[axis]) / direction
                near, far = max(near, min(a, b)), min(far, max(a, b))
            elif pose[axis] < 0 or pose[axis] > upper[axis]:
                far = np.float32(-1)
        span = max(far - near, np.float32(0)) / np.float32(samples)
        squared = np.float32(0)
        for axis in range(3):
            direction = pose[3 + axis] + u * pose[6 + axis] + v * pose[9 + axis]
            squared += direction * direction
            for s in range(samples):
                points[axis, ray * samples + s] = pose[axis] + (near + (np.float32(s) + jitter[ray, s]) * span) * direction
        steps[ray] = span * np.sqrt(squared)


class RaySampler:
    """Draws rays of a geometry and stratified samples on them.

    Parameters
    ----------
    geometry : Geometry
        Poses.
    cube : UnitCube
        Where the samples lie.
    spacing_mm : float
        Distance between samples on a long ray; every ray has as many.
    """

    def __init__(self, geometry: Geometry, cube: UnitCube, spacing_mm: float):
        matrix, shift = cube.from_world()
        (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
        u, v = geometry.u * du, geometry.v * dv
        first = geometry.detector - u * (nu - 1) / 2 - v * (nv - 1) / 2 - geometry.source
        parts = [geometry.source @ matrix.T + shift, first @ matrix.T, u @ matrix.T, v @ matrix.T]
        self.poses = np.concatenate(parts, axis=1).astype(np.float32)
        self.cube, self.shape = cube, (geometry.views, nv, nu)
        self.samples = 1
        rng = np.random.default_rng(0)
        _, lengths = self(self.draw(256, rng), rng)
        lengths = lengths[lengths > 0].cpu().numpy()
        self.samples = max(8, round(float(np.quantile(lengths, 0.9)) / spacing_mm)) if len(lengths) else 8

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Pixels (rows * columns, 3), int32: view, row and column of whole detector rows, drawn evenly."""
        views, nv, nu = self.shape
        columns = np.tile(np.arange(nu, dtype=np.int32), rows)
        drawn = [np.repeat(rng.integers(0, n, rows, dtype=np.int32), nu) for n in (views, nv)]
        return np.ascontiguousarray(np.stack([*drawn, columns], axis=1))

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (3, rays * samples) in the cube and the distance in mm between samples of each ray, (rays,).

        Parameters
        ----------
        pixels : array (rays, 3) of int32
            View, row and column.
        """
        jitter = rng.random((len(pixels), self.samples), dtype=np.float32)
        points = np.empty((3, len(pixels) * self.samples), dtype=np.float32)
        steps = np.empty(len(pixels), dtype=np.float32)
        run_threaded(_sample, len(pixels), pixels, jitter, self.poses, self.cube.upper, points, steps)
        return torch.from_numpy(points), torch.from_numpy(steps * np.float32(self.cube.edge_mm))
