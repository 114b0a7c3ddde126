"""Comparison by classes of HU: what every CT can be asked without a segmenter.

The ranges: normally aerated lung -900 to -500 HU (Gattinoni et al. 2001, Am J Respir Crit Care Med 164:1701), adipose tissue -190 to
-30 HU and muscle -29 to 150 HU (Aubrey et al. 2014, Acta Physiol 210:489), denser than muscle counts as bone. Between -500 and -190 HU
lie mixtures of lung, fat and air, which belong to no class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .compare import Pair

CONVENTION = (
    "Tissues: voxels by their HU, at least the lower and below the upper bound: air < -900, lung -900 to -500 (Gattinoni 2001), fat -190 "
    "to -30, soft tissue -30 to 150 (Aubrey 2014), bone (and contrast agent) >= 150; from -500 to -190 none. Dice of the two masks; mean "
    "HU and HU error (reconstruction - reference) over the reference's mask"
)


class Tissue(NamedTuple):
    """A class of HU: low <= HU < high; None is no bound."""

    name: str
    low_hu: float | None
    high_hu: float | None

    def mask(self, hu: np.ndarray) -> np.ndarray:
        """Voxels of the class (bool)."""
        inside = np.ones(hu.shape, bool) if self.low_hu is None else hu >= self.low_hu
        return inside if self.high_hu is None else inside & (hu < self.high_hu)


TISSUES = (
    Tissue("air", None, -900.0),
    Tissue("lung", -900.0, -500.0),
    Tissue("fat", -190.0, -30.0),
    Tissue("soft tissue", -30.0, 150.0),
    Tissue("bone", 150.0, None),
)


def compare_tissues(pair: Pair) -> list[dict]:
    """Figures of each class of `TISSUES`, over the voxels within the reference.

    Returns
    -------
    list of dict
        name, low_hu, high_hu, dice, volume_ml, reference_volume_ml, mean_hu and reference_mean_hu (over the reference's mask), error_hu
        (the mean of reconstruction - reference there), rmse_hu (there). None where the reference, or for dice both, has no such voxel.
    """
    voxel_ml = float(np.prod(pair.grid.spacing_mm)) / 1000
    return [_figures(tissue, pair, voxel_ml) for tissue in TISSUES]


def _figures(tissue: Tissue, pair: Pair, voxel_ml: float) -> dict:
    mine, theirs = (tissue.mask(hu) & pair.within for hu in (pair.image, pair.truth))
    counts = int(mine.sum()), int(theirs.sum())
    both = int((mine & theirs).sum())
    found, wanted = (hu[theirs].astype(np.float64) for hu in (pair.image, pair.truth))
    error = found - wanted
    means = dict.fromkeys(("mean_hu", "reference_mean_hu", "error_hu", "rmse_hu"))
    if counts[1]:
        values = (found.mean(), wanted.mean(), error.mean(), np.sqrt(np.mean(error**2)))
        means = {name: round(float(value), 3) for name, value in zip(means, values)}
    return {
        **tissue._asdict(),
        "dice": round(2 * both / sum(counts), 6) if sum(counts) else None,
        "volume_ml": round(counts[0] * voxel_ml, 4),
        "reference_volume_ml": round(counts[1] * voxel_ml, 4),
        **means,
    }
