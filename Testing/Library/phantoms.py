"""Bodies of ellipsoids whose line integrals have a closed form: scans of them share no model with any reconstruction."""

from dataclasses import dataclass

import numpy as np
from poses import rotation

HEAD = (
    # mu in 1/mm, centre and semi-axes as fractions of the radius, turn about z in radians
    (0.040, (0.00, 0.00, 0.00), (0.78, 0.92, 0.85), 0.0),
    (-0.019, (0.00, 0.00, 0.00), (0.72, 0.86, 0.79), 0.0),
    (-0.021, (0.25, 0.05, 0.00), (0.14, 0.30, 0.25), -0.3),
    (-0.021, (-0.25, 0.05, 0.00), (0.18, 0.38, 0.30), 0.3),
    (0.002, (0.00, -0.40, 0.10), (0.22, 0.20, 0.30), 0.0),
    (0.010, (0.05, 0.55, -0.10), (0.10, 0.10, 0.12), 0.0),
    (0.004, (-0.10, -0.10, 0.45), (0.15, 0.09, 0.12), 0.5),
    (0.020, (0.40, -0.35, -0.35), (0.05, 0.07, 0.06), 0.0),
)
"""Something like a head: a skull of bone, brain like water, ventricles of air and spots."""


@dataclass(frozen=True)
class Phantom:
    """Ellipsoids about LPS 0 within a ball of `radius_mm`; where they overlap they add up."""

    radius_mm: float
    ellipsoids: tuple = HEAD

    def _shapes(self):
        for mu, centre, axes, turn in self.ellipsoids:
            yield mu, np.multiply(centre, self.radius_mm), rotation((0, 0, 1), turn).T / np.multiply(axes, self.radius_mm)[:, None]

    def at(self, points):
        """mu (...,) at LPS `points` (..., 3)."""
        return sum(mu * (np.sum(((points - centre) @ unit.T) ** 2, axis=-1) < 1) for mu, centre, unit in self._shapes())

    def volume(self, grid, finer=3):
        """mu [z, y, x], the mean over finer**3 points of each voxel."""
        total = 0
        shifts = (np.arange(finer) + 0.5) / finer - 0.5
        matrix = grid.index_to_world
        index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")[::-1], axis=-1)
        for shift in np.stack(np.meshgrid(shifts, shifts, shifts), axis=-1).reshape(-1, 3):
            total = total + self.at((index + shift) @ matrix[:3, :3].T + matrix[:3, 3])
        return (total / finer**3).astype(np.float32)

    def line_integrals(self, geometry, finer=1):
        """Projections [view, v, u]: the mean over finer**2 rays of each pixel."""
        (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
        rows, columns = ((np.arange(n * finer) - (n * finer - 1) / 2) * d / finer for n, d in ((nv, dv), (nu, du)))
        out = np.empty((geometry.views, nv, nu), np.float32)
        for view in range(geometry.views):
            pixel = geometry.detector[view] + columns[:, None] * geometry.u[view] + rows[:, None, None] * geometry.v[view]
            ray = pixel - geometry.source[view]
            ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
            p = sum(mu * _chord(geometry.source[view] - centre, ray, unit) for mu, centre, unit in self._shapes())
            out[view] = p.reshape(nv, finer, nu, finer).mean(axis=(1, 3))
        return out


def _chord(source, ray, unit):
    """Length in mm of each unit `ray` (..., 3) within the ellipsoid that `unit` maps to the unit ball."""
    s, d = unit @ source, ray @ unit.T
    a, b, c = np.sum(d * d, axis=-1), d @ s, s @ s - 1
    return 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a
