"""Two label maps, label by label: overlap and distances between surfaces.

Dice = 2 |A & B| / (|A| + |B|). The surface of a structure is its voxels less those whose six neighbours belong to it too; outside the
volume nothing does. Distances are between centres of surface voxels, in mm. ASSD is the mean of both surfaces' distances to the other;
HD95 the larger of the two directions' 95th percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..grid import Grid
from ..machine import cores

CONVENTION = (
    "Organs: Dice of the two masks; surface = mask less its erosion by the six neighbours; ASSD = mean distance of both surfaces' voxels "
    "to the other surface in mm, pooled; HD95 = the larger of the two directed 95th percentiles in mm. Where one is empty: Dice 0, "
    "distances undefined; where both are: all undefined. Cut: touches the border of the volume or of the field of view"
)
FIGURES = ("dice", "assd_mm", "hd95_mm")
_TOLERANCE_MM = 0.05


@dataclass(frozen=True)
class LabelMap:
    """Labels on a grid; 0 is background.

    Parameters
    ----------
    array : ndarray of int (z, y, x)
    grid : Grid
    names : dict of int to str
        What a label is called; others are "label N".
    """

    array: np.ndarray
    grid: Grid
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.array.shape != self.grid.shape:
            raise InputError(f"labels of shape {self.array.shape} on a grid of shape {self.grid.shape} (z, y, x)", "bad-grid")
        if not np.issubdtype(self.array.dtype, np.integer):
            raise InputError(f"labels of type {self.array.dtype}: a label map holds whole numbers", "not-labels")
        if self.array.size and int(self.array.min()) < 0:
            raise InputError(f"a label of {int(self.array.min())}: labels are 0 (background) and above", "not-labels")

    def name(self, label: int) -> str:
        return self.names.get(label, f"label {label}")

    @property
    def empty(self) -> bool:
        return not self.array.any()


def compare_labels(labels: LabelMap, reference: LabelMap, field_of_view: np.ndarray | None = None) -> list[dict]:
    """Figures of each label that either map has.

    Parameters
    ----------
    labels, reference : LabelMap
        On the same grid.
    field_of_view : ndarray of bool (z, y, x), optional
        Where there were data; what touches its border is flagged as what touches the volume's.

    Returns
    -------
    list of dict
        label, name, dice, assd_mm, hd95_mm, volume_ml, reference_volume_ml, at_border; None for a figure that is undefined.

    Raises
    ------
    InputError
        Where the grids differ.
    """
    check_same_grid(labels.grid, reference.grid)
    from scipy.ndimage import find_objects

    boxes = [find_objects(_unsigned(each.array)) for each in (labels, reference)]
    outside = None if field_of_view is None else ~np.asarray(field_of_view, bool)
    found = []
    for index in range(max(map(len, boxes))):
        own = [part for each in boxes if index < len(each) and (part := each[index])]
        if own:
            found.append(_figures(labels, reference, index + 1, _union(own, labels.array.shape), outside))
    return found


def check_same_grid(grid: Grid, reference: Grid) -> None:
    """Refuse label maps whose voxels are not the same."""
    if grid.matches(reference, _TOLERANCE_MM):
        return
    sizes = " and ".join(
        f"{' x '.join(map(str, each.size))} voxels of {' x '.join(f'{spacing:.4g}' for spacing in each.spacing_mm)} mm about LPS "
        f"({', '.join(f'{value:.4g}' for value in each.centre_mm)})"
        for each in (grid, reference)
    )
    raise InputError(f"the label maps are on different grids ({sizes}): segment both volumes on the same grid", "different-grids")


def _unsigned(array: np.ndarray) -> np.ndarray:
    """Labels in a type that find_objects takes without copying large ones twice."""
    return array if array.dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32) else array.astype(np.int32)


def _union(boxes: list[tuple[slice, ...]], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box about all `boxes`, a voxel wider where the volume goes on."""
    return tuple(
        slice(max(0, min(box[axis].start for box in boxes) - 1), min(shape[axis], max(box[axis].stop for box in boxes) + 1))
        for axis in range(3)
    )


def _figures(labels: LabelMap, reference: LabelMap, label: int, box: tuple[slice, ...], outside: np.ndarray | None) -> dict:
    mine, theirs = labels.array[box] == label, reference.array[box] == label
    counts = int(mine.sum()), int(theirs.sum())
    voxel_ml = float(np.prod(labels.grid.spacing_mm)) / 1000
    surfaces = [surface(mask) for mask in (mine, theirs)]
    assd, hd95 = surface_distances(*surfaces, labels.grid.spacing_mm) if all(counts) else (None, None)
    return {
        "label": label,
        "name": reference.names.get(label) or labels.name(label),
        "dice": round(2 * int((mine & theirs).sum()) / sum(counts), 6),
        "assd_mm": assd,
        "hd95_mm": hd95,
        "volume_ml": round(counts[0] * voxel_ml, 4),
        "reference_volume_ml": round(counts[1] * voxel_ml, 4),
        "at_border": _at_border(mine | theirs, box, labels.array.shape, outside),
    }


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of `mask` with a neighbour outside it, or outside the array."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def surface_distances(surface: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """ASSD and HD95 in mm between two surfaces that are not empty.

    A tree of the voxels gives the very distances of a distance transform, and needs time and memory for the surfaces alone.

    Parameters
    ----------
    surface, other : ndarray of bool (z, y, x)
        As `surface` gives them.
    spacing_mm : tuple of float
        Along x, y, z.
    """
    from scipy.spatial import cKDTree

    points = [np.argwhere(each) * np.asarray(spacing_mm[::-1]) for each in (surface, other)]
    trees = [cKDTree(each, balanced_tree=False, compact_nodes=False) for each in points]
    there, back = (tree.query(own, workers=cores())[0] for tree, own in zip(trees[::-1], points))
    assd = (there.sum() + back.sum()) / (there.size + back.size)
    return round(float(assd), 6), round(float(max(np.percentile(there, 95), np.percentile(back, 95))), 6)


def _at_border(mask: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...], outside: np.ndarray | None) -> bool:
    """Whether `mask`, which lies in `box`, touches the border of the volume or what lies outside the field of view."""
    for axis in range(3):
        if box[axis].start == 0 and mask.take(0, axis).any():
            return True
        if box[axis].stop == shape[axis] and mask.take(-1, axis).any():
            return True
    if outside is None or not outside[box].any():
        return False
    from scipy.ndimage import binary_dilation

    return bool((binary_dilation(mask) & outside[box]).any())
