"""The voxel grid and the values on it.

Sizes, spacings and origins are (x, y, z) as SimpleITK gives them; arrays are [z, y, x]. Coordinates are patient LPS in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import InputError


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectilinear voxel grid in patient LPS.

    Parameters
    ----------
    size : tuple of int
        Number of voxels along x, y, z.
    spacing_mm : tuple of float
        Distance between voxel centres along the grid's own axes.
    origin_mm : tuple of float
        LPS position of the centre of voxel (0, 0, 0).
    direction : array (3, 3)
        Columns are the LPS directions of the grid's x, y and z axes, orthonormal.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self):
        size = tuple(int(n) for n in self.size)
        spacing = tuple(float(s) for s in self.spacing_mm)
        origin = tuple(float(o) for o in self.origin_mm)
        direction = np.array(self.direction, dtype=np.float64)
        if len(size) != 3 or min(size) < 1:
            raise InputError(f"grid size {size}: give three positive numbers of voxels (x y z)", "bad-grid")
        if len(spacing) != 3 or not all(np.isfinite(spacing)) or min(spacing) <= 0:
            raise InputError(f"grid spacing {spacing} mm: every spacing must be a positive number", "bad-grid")
        if len(origin) != 3 or not all(np.isfinite(origin)):
            raise InputError(f"grid origin {origin} mm: give three finite numbers", "bad-grid")
        if direction.size != 9:
            raise InputError(f"grid direction of shape {direction.shape}: give nine numbers, row by row", "bad-grid")
        direction = direction.reshape(3, 3)
        if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
            raise InputError("grid direction is not orthonormal: sheared or scaled axes have no place in a CT", "bad-grid")
        direction.setflags(write=False)
        for name, value in (("size", size), ("spacing_mm", spacing), ("origin_mm", origin), ("direction", direction)):
            object.__setattr__(self, name, value)

    def _key(self) -> tuple:
        return self.size, self.spacing_mm, self.origin_mm, tuple((self.direction + 0.0).ravel())

    def __eq__(self, other):
        return self._key() == other._key() if isinstance(other, Grid) else NotImplemented

    def __hash__(self):
        return hash(self._key())

    @classmethod
    def centred(cls, size: Sequence[int], spacing_mm: Sequence[float], centre_mm: Sequence[float] = (0, 0, 0)) -> Grid:
        """An axis-aligned grid whose middle lies at `centre_mm` (LPS)."""
        half = (np.asarray(size) - 1) / 2 * np.asarray(spacing_mm, dtype=float)
        return cls(tuple(size), tuple(spacing_mm), tuple(np.asarray(centre_mm, dtype=float) - half))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of an array on this grid."""
        return self.size[::-1]

    @property
    def index_to_world(self) -> np.ndarray:
        """4x4 matrix from voxel index (i, j, k) along x, y, z to LPS in mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def world_to_index(self) -> np.ndarray:
        """4x4 matrix from LPS in mm to voxel index along x, y, z."""
        return np.linalg.inv(self.index_to_world)

    @property
    def centre_mm(self) -> np.ndarray:
        """LPS position of the middle of the grid."""
        return (self.index_to_world @ [*((np.asarray(self.size) - 1) / 2), 1.0])[:3]

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths along the grid's axes, from face to face."""
        return np.asarray(self.size) * np.asarray(self.spacing_mm)

    def divided(self, size: Sequence[int]) -> Grid:
        """The same box in so many voxels along x, y, z."""
        spacing = self.extent_mm / size
        first = self.index_to_world[:3] @ [*((spacing / self.spacing_mm - 1) / 2), 1.0]
        return Grid(tuple(size), tuple(spacing), tuple(first), self.direction)

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same voxels in the same places."""
        return self.size == other.size and np.allclose(self.corners_mm(), other.corners_mm(), atol=tolerance_mm)

    def corners_mm(self) -> np.ndarray:
        """LPS positions (8, 3) of the centres of the corner voxels."""
        last = np.asarray(self.size) - 1
        index = np.array([[i, j, k] for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])], dtype=float)
        return index @ self.index_to_world[:3, :3].T + self.index_to_world[:3, 3]

    def to_dict(self) -> dict:
        """JSON values: size, spacing_mm, origin_mm, and direction row by row."""
        return {
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm),
            "origin_mm": list(self.origin_mm),
            "direction": self.direction.ravel().tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Grid:
        """The grid that `to_dict` gave the values of."""
        return cls(values["size"], values["spacing_mm"], values["origin_mm"], np.array(values["direction"]))


@dataclass
class Volume:
    """Values on a grid: float32 [z, y, x] in HU unless said otherwise, with how they came about.

    Parameters
    ----------
    array : ndarray (z, y, x)
        Values in `unit`.
    grid : Grid
        Where they lie.
    attributes : dict of str to str
        Provenance: what every NRRD header and MRML node of this volume carries.
    unit : str
        ``"HU"`` or ``"1/mm"``.
    """

    array: np.ndarray
    grid: Grid
    attributes: dict[str, str] = field(default_factory=dict)
    unit: str = "HU"

    def __post_init__(self):
        self.array = np.asarray(self.array)
        if self.unit not in ("HU", "1/mm"):
            raise InputError(f"volume in {self.unit!r}: known units are 'HU' and '1/mm'", "bad-unit")
        if self.array.shape != self.grid.shape:
            raise InputError(f"volume of shape {self.array.shape} on a grid of shape {self.grid.shape} (z, y, x)", "bad-grid")
