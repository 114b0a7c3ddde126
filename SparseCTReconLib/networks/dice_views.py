"""What DiCE is shown: a scan's views the same way up, and where the points of a box fall in them.

Space is the box that is reconstructed: coordinates (x, y, z) along patient LPS from -1 on one face to 1 on the other. A view is an image
and a matrix that takes such a point to its shadow, so that neither the orbit nor the detector's place matters to the network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..geometry import Geometry
from ..grid import Grid
from ..scan import Scan

OUTSIDE = 9.0
"""Where what casts no shadow on the detector is put, far beyond its edges at -1 and 1."""


@dataclass(frozen=True)
class Box:
    """A box along patient LPS.

    Parameters
    ----------
    centre_mm : tuple of float
        LPS.
    edges_mm : tuple of float
        Lengths along x, y, z.
    """

    centre_mm: tuple[float, float, float]
    edges_mm: tuple[float, float, float]

    @classmethod
    def of(cls, geometry: Geometry) -> Box:
        """The cube about the isocentre as wide as the field of view, whatever grid is asked for; so every machine has the same size.

        Where no point is seen by every view, it is as wide as the detector is at the isocentre.
        """
        radius, _ = geometry.field_of_view()
        half_width = geometry.detector_shape[1] * geometry.pixel_mm[1] / 2 * float((geometry.sid_mm / geometry.sdd_mm).mean())
        return cls(geometry.isocentre_mm, (2 * (radius or half_width),) * 3)

    def voxels(self, grid: Grid) -> torch.Tensor:
        """The matrix (3, 4) from indices (i, j, k) of a grid's voxels, along its x, y, z, to coordinates in the box."""
        matrix = grid.index_to_world[:3].copy()
        matrix[:, 3] -= self.centre_mm
        return torch.from_numpy(matrix / (np.asarray(self.edges_mm)[:, None] / 2)).float()

    def cells(self, count: int, corners: bool = False) -> torch.Tensor:
        """Coordinates (count**3, 3) of a low-resolution grid's cells, x fastest.

        Parameters
        ----------
        count : int
            Cells along each edge.
        corners : bool
            Each by its lowest corner in the place of its centre.
        """
        along = (torch.arange(count) + (0.0 if corners else 0.5)) * (2 / count) - 1
        return torch.stack(torch.meshgrid(along, along, along, indexing="ij")[::-1], dim=-1).reshape(-1, 3)


class Looks(NamedTuple):
    """A scan as DiCE sees it.

    Parameters
    ----------
    images : Tensor (views, 1, v, u)
        Line integrals in shares of what a path of water gives.
    matrices : Tensor (views, 3, 4)
        From a point (x, y, z, 1) of the box to (column, row, 1) times its depth; columns and rows are -1 and 1 at the image's edges.
    """

    images: torch.Tensor
    matrices: torch.Tensor

    def to(self, device) -> Looks:
        return Looks(self.images.to(device), self.matrices.to(device))


def looks(scan: Scan, box: Box, path_mm: float, multiple: int = 1) -> Looks:
    """A scan's views for a network.

    Parameters
    ----------
    scan : Scan
    box : Box
        What is to be reconstructed.
    path_mm : float
        Length of the path of water that gives 1.
    multiple : int
        Rows and columns are made multiples of this by repeating the last one.
    """
    projections, geometry = upright(scan.projections, scan.geometry)
    padding = [(0, -n % multiple) for n in geometry.detector_shape]
    images = np.pad(projections / np.float32(scan.mu_water * path_mm), [(0, 0), *padding], mode="edge")
    return Looks(torch.from_numpy(images)[:, None], shadow_matrices(geometry, box, images.shape[1:]))


def upright(projections: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """Projections (views, v, u) and their geometry with rows counted towards the head and columns as the source sees them.

    So a network need not know how a machine counts its pixels. A detector that is turned by a right angle stays as it is.
    """
    down = geometry.v[:, 2] < 0
    v = np.where(down[:, None], -geometry.v, geometry.v)
    mirrored = np.einsum("ij,ij->i", np.cross(geometry.u, v), geometry.normal) > 0
    if not (down | mirrored).any():
        return projections, geometry
    flipped = projections.copy()
    flipped[down] = flipped[down, ::-1]
    flipped[mirrored] = flipped[mirrored, :, ::-1]
    return flipped, replace(geometry, u=np.where(mirrored[:, None], -geometry.u, geometry.u), v=v)


def shadow_matrices(geometry: Geometry, box: Box, shape: tuple[int, int]) -> torch.Tensor:
    """The matrices (views, 3, 4) of `Looks`, so that `shadows` says what `Geometry.shadows` says.

    Parameters
    ----------
    geometry : Geometry
    box : Box
    shape : tuple of int
        Rows and columns (v, u) of the images, which may go on beyond the detector's last ones.
    """
    normal, sdd = geometry.normal, geometry.sdd_mm[:, None]
    lines = []
    for axis, pitch, held, shown in zip((geometry.u, geometry.v), geometry.pixel_mm[::-1], geometry.detector_shape[::-1], shape[::-1]):
        offset = np.einsum("ij,ij->i", geometry.source - geometry.detector, axis)[:, None]
        lines.append(2 / (pitch * shown) * (sdd * axis + offset * normal) + (held / shown - 1) * normal)
    rows = np.stack([*lines, normal], axis=1) / sdd[:, None]
    start = np.einsum("vij,vj->vi", rows, np.asarray(box.centre_mm) - geometry.source)
    return torch.from_numpy(np.concatenate([rows * (np.asarray(box.edges_mm) / 2), start[..., None]], axis=2)).float()


def shadows(matrices: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where points (n, 3) of the box fall in each view: (views, n, 2), column and row, -1 and 1 at the image's edges.

    Written out, since a product of matrices loses digits where a GPU or mixed precision rounds its factors.
    """
    x, y, z = points.float().unbind(-1)
    across, along, depth = (a * x + b * y + c * z + d for a, b, c, d in (row.unsqueeze(-1).unbind(1) for row in matrices.unbind(1)))
    at = torch.stack([across, along], dim=-1) / depth.clamp(min=1e-6)[..., None]
    return torch.where(depth[..., None] > 1e-6, at, OUTSIDE).clamp(-OUTSIDE, OUTSIDE)


def within(volumes: torch.Tensor, points: torch.Tensor, corners: bool = False) -> torch.Tensor:
    """What volumes (b, c, z, y, x) over the box show at points (b, n, 3) of it, trilinear: (b, c, n); `corners` as in `largest.largest`."""
    return functional.grid_sample(volumes.float(), points[:, :, None, None], padding_mode="border", align_corners=corners)[..., 0, 0]
