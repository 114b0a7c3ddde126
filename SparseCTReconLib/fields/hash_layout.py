"""The layout of a hash grid: how fine its levels are, which rows of the table they have, what training it holds. No kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEATURES = 2
FADING = 0.7


@dataclass(frozen=True)
class HashGrid:
    """Layout of the encoding.

    Parameters
    ----------
    levels : int
        Number of resolutions; the encoding has ``2 * levels`` channels.
    base : int
        Cells along an edge of the unit cube on the coarsest level.
    finest : int
        Cells along an edge on the finest level; the levels between grow geometrically.
    log2_table : int
        Rows of a level's table, at most.
    box : tuple of float
        Edges (x, y, z), at most 1, of the box at the cube's first corner that is encoded; a level that is dense has rows for it alone.
    """

    levels: int = 8
    base: int = 16
    finest: int = 128
    log2_table: int = 22
    box: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def channels(self) -> int:
        """Features of a point."""
        return self.levels * FEATURES

    def resolutions(self) -> np.ndarray:
        """Cells (levels,) along an edge of the cube."""
        growth = (self.finest / self.base) ** (1 / max(self.levels - 1, 1))
        return np.floor(self.base * growth ** np.arange(self.levels) + 1e-6).astype(np.int64)

    def scales(self) -> np.ndarray:
        """Factor (levels,) on the features of each level: finer ones start fainter and learn more slowly, or they would learn noise."""
        return (FADING ** np.arange(self.levels)).astype(np.float32)

    def edges(self) -> np.ndarray:
        """The box's edges (3,) as the kernels take them."""
        return np.array(self.box, dtype=np.float32)

    def layout(self) -> np.ndarray:
        """(levels, 7): cells along an edge of the cube; first row and number of rows; 1 if dense; vertices of the box along x, y, z."""
        cells = self.resolutions()
        vertices = np.ceil(cells[:, None] * np.array(self.box) - 1e-4).astype(np.int64) + 1
        rows = np.minimum(vertices.prod(axis=1), 1 << self.log2_table)
        return np.column_stack([cells, np.concatenate([[0], np.cumsum(rows)[:-1]]), rows, vertices.prod(axis=1) == rows, vertices])

    def table_bytes(self) -> float:
        """Memory of the tables."""
        return 4.0 * FEATURES * int(self.layout()[:, 2].sum())

    def training_bytes(self) -> float:
        """Memory of the tables, their gradient and the two moments of Adam."""
        return 4 * self.table_bytes()

    def initial_table(self, rng: np.random.Generator, scale: float = 0.1) -> np.ndarray:
        """Features (rows, 2), uniform in -scale .. scale. A layer norm that follows amplifies tiny values to noise, hence not 1e-4."""
        return rng.uniform(-scale, scale, (int(self.layout()[:, 2].sum()), FEATURES)).astype(np.float32)
