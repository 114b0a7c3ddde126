"""What part of the body a scan shows, guessed from a coarse volume: enough to choose pretrained weights by, and for nothing else."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from ..classical.admm_tv import ADMMState, admm_tv
from ..classical.fdk import fdk
from ..classical.weights import total_variation_weight
from ..corrections.consistency import binned
from ..geometry import Geometry
from ..grid import Grid
from ..operators import projector
from ..operators.tv import TotalVariationProx
from ..scan import Scan

ANATOMIES = ("head", "chest", "abdomen", "limb")

TRUNK_MM = 300.0
"""Water in the densest rays from which on a body is a trunk."""

CHEST_LUNG = 0.25
"""Share of the middle of a trunk that is much lighter than its tissue, from which on it is a chest."""

HEAD_BONE = 1.55
"""The densest twentieth of a thinner body over its tissue, from which on it is a head."""

FEW, HEAD_BONE_FEW = 24, 1.45
"""Views below which FDK's streaks pass for bone, and the limit for what total variation shows in its place: fewer views, less bone."""

VIEWS, VOXELS, MIDDLE_MM = 36, 32, 80.0

UPDATES, VIEWS_PER_SUBSET, SMOOTHNESS, COLUMNS = 150, 5, 0.1, 96
"""Of ADMM-TV from few views: what the coarse voxels take, with a tenth of the usual weight, since bone is what is looked for."""


def propose(scan: Scan) -> str:
    """The part of the body, one of `ANATOMIES`, that a scan most probably shows.

    Water in the densest rays tells a trunk from the rest; lungs tell a chest from an abdomen, and the bone of the skull a head from a
    limb, both on a few voxels: in an FDK, or in what total variation makes of fewer than `FEW` views.

    How far to trust it: the limits were set on simulated scans of one CT each of a head, a chest, an abdomen and both knees, at every
    preset, and of 47 crops of limbs. It takes 61 of 63 for what they are; the other two are the chest and the knees in the field of
    view of the preset "dental", which is too narrow for them, and at the preset "lab", which sees 50 mm, it is right on two of four.
    With 6, 8, 10 and 16 views it is right on 64 of 76 scans of the four CTs: it has no answer for knees and abdomen in that narrow field,
    and the head is a limb to it with 6 views over a full circle, or with 8 and a displaced detector. Of 12 limbs with 6 to 10 views it
    takes one for a head. It was tried on nobody else, and whatever is of none of the four kinds gets the name of one all the same. A few
    tenths of a decibel hang on it, see `mci`.
    """
    thickness = float(np.percentile(scan.projections, 99.5)) / scan.mu_water
    lung, bone = composition(scan)
    if thickness > TRUNK_MM:
        return "chest" if lung > CHEST_LUNG else "abdomen"
    return "head" if bone > (HEAD_BONE if scan.views >= FEW else HEAD_BONE_FEW) else "limb"


def composition(scan: Scan) -> tuple[float, float]:
    """What a coarse volume shows, (lung, bone); the median of what is denser than half of water counts as tissue.

    Returns
    -------
    lung : float
        Share of the voxels within `MIDDLE_MM` of the axis that have less than 0.6 of tissue's attenuation.
    bone : float
        Attenuation that a twentieth of the body exceeds, over that of tissue. 0 and 0 where there is no body.
    """
    few = scan.subset(slice(None, None, max(1, scan.views // VIEWS)))
    radius, half_height = few.geometry.field_of_view()
    if min(radius, half_height) <= 0:
        return 0.0, 0.0
    half_height = min(radius, half_height)
    layers = max(4, round(VOXELS * half_height / radius))
    grid = Grid.centred((VOXELS, VOXELS, layers), (2 * radius / VOXELS,) * 2 + (2 * half_height / layers,), few.geometry.isocentre_mm)
    reconstruct = fdk if few.views >= FEW else _smooth
    mu = reconstruct(torch.from_numpy(few.projections), few.geometry, grid).numpy()[layers // 6 : layers - layers // 6] / scan.mu_water
    y, x = (np.indices((VOXELS, VOXELS)) - (VOXELS - 1) / 2) * (2 * radius / VOXELS)
    seen, middle = (mu[:, np.hypot(x, y) < reach] for reach in (0.9 * radius, min(MIDDLE_MM, 0.9 * radius)))
    if not (seen > 0.5).any():
        return 0.0, 0.0
    tissue = float(np.median(seen[seen > 0.5]))
    return float((middle < 0.6 * tissue).mean()), float(np.quantile(seen[seen > 0.5 * tissue], 0.95)) / tissue


def _smooth(projections: torch.Tensor, geometry: Geometry, grid: Grid) -> torch.Tensor:
    """ADMM-TV on a grid, [z, y, x] in 1/mm, from binned projections."""
    values, geometry = binned(projections.numpy(), geometry, COLUMNS, COLUMNS)
    A = projector(geometry, grid)
    y, subsets = A.projections(values), max(1, round(geometry.views / VIEWS_PER_SUBSET))
    prox, start = TotalVariationProx(A.volume_shape, 3), ADMMState(A.zeros(), None, None, 0, subsets)
    passes = admm_tv(A, y, torch.ones_like(y), SMOOTHNESS * total_variation_weight(A), prox, start)
    *_, last = islice(passes, -(-UPDATES // subsets))
    return last.x
