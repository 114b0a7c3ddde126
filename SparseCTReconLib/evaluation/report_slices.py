"""Which slices a report shows, through which windows, and the profile through the middle of the body."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..grid import Grid
from .metrics import body_mask
from .png import data_uri, diverging, grey, square_pixels

WINDOWS = {"Soft tissue": (400.0, 40.0), "Lung": (1500.0, -500.0), "Bone": (2000.0, 400.0)}
"""Width and level in HU."""

DIFFERENCE_HU = 300.0
MARGIN_MM = 15.0


@dataclass(frozen=True)
class View:
    """Where a grid is cut: through the middle of the body.

    Parameters
    ----------
    order : tuple of int
        The array's axes that run along S, P and L.
    flips : tuple of slice
        What turns them to grow that way.
    spacing_mm : tuple of float
        Along S, P and L.
    at : tuple of int
        Slice along S, P and L.
    shown : tuple of slice
        The box about the body along S, P and L.
    """

    order: tuple[int, int, int]
    flips: tuple[slice, slice, slice]
    spacing_mm: tuple[float, float, float]
    at: tuple[int, int, int]
    shown: tuple[slice, slice, slice]

    @classmethod
    def of(cls, truth: np.ndarray, grid: Grid) -> View:
        """The view of the reference `truth` (HU, [z, y, x]); grids that are oblique are cut along their own axes."""
        closest = np.argmax(np.abs(_distinct(grid.direction)), axis=1)  # the grid's axis along each of L, P, S
        order = tuple(int(2 - closest[axis]) for axis in (2, 1, 0))
        flips = tuple(slice(None, None, -1 if grid.direction[axis, closest[axis]] < 0 else 1) for axis in (2, 1, 0))
        spacing = tuple(float(grid.spacing_mm[closest[axis]]) for axis in (2, 1, 0))
        turned = np.transpose(truth, order)[flips]
        body = body_mask(turned)
        ranges = [_range(body.sum(axis=others), MARGIN_MM / mm) for others, mm in zip(((1, 2), (0, 2), (0, 1)), spacing)]
        return cls(order, flips, spacing, tuple(middle for middle, _ in ranges), tuple(shown for _, shown in ranges))

    def turned(self, array: np.ndarray) -> np.ndarray:
        """`array` [z, y, x] with axes along S, P, L."""
        return np.transpose(array, self.order)[self.flips]

    def axial(self, array: np.ndarray) -> np.ndarray:
        """Front up, the patient's right on the left, square pixels."""
        return square_pixels(self.turned(array)[self.at[0]][self.shown[1:]], self.spacing_mm[1], self.spacing_mm[2])

    def coronal(self, array: np.ndarray) -> np.ndarray:
        """Head up, the patient's right on the left, square pixels."""
        cut = self.turned(array)[:, self.at[1]][self.shown[0], self.shown[2]]
        return square_pixels(cut[::-1], self.spacing_mm[0], self.spacing_mm[2])

    def profile(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in mm from right to left, and the values there, through the middle of the body."""
        values = self.turned(array)[self.at[0], self.at[1]][self.shown[2]]
        return np.arange(len(values)) * self.spacing_mm[2], values

    def pictures(self, hu: np.ndarray, window: tuple[float, float]) -> tuple[str, str]:
        """Axial and coronal slice as data URIs."""
        return tuple(data_uri(grey(cut(hu), *window)) for cut in (self.axial, self.coronal))

    def differences(self, hu: np.ndarray, truth: np.ndarray) -> tuple[str, str]:
        """Axial and coronal differences as data URIs."""
        return tuple(data_uri(diverging(cut(hu - truth), DIFFERENCE_HU)) for cut in (self.axial, self.coronal))


def _range(counts: np.ndarray, margin: float) -> tuple[int, slice]:
    """Middle of the body along an axis, and where it lies with a margin, from its voxels in each slice; of all where it is nowhere."""
    counts = counts if counts.any() else np.ones_like(counts)
    first, last = np.flatnonzero(counts)[[0, -1]].tolist()
    margin = math.ceil(margin)
    shown = slice(max(first - margin, 0), min(last + 1 + margin, len(counts)))
    return round(float(np.average(np.arange(len(counts)), weights=counts))), shown


def _distinct(direction: np.ndarray) -> np.ndarray:
    """`direction` with one entry in each row and column, its largest ones, so that no axis is taken twice."""
    left, kept = np.abs(direction), np.zeros((3, 3))
    for _ in range(3):
        row, column = np.unravel_index(np.argmax(left), left.shape)
        kept[row, column] = direction[row, column] or 1.0
        left[row], left[:, column] = -1, -1
    return kept
