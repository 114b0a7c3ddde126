"""What part of the body a scan shows, guessed from its line integrals: enough to choose pretrained weights by, and for nothing else."""

from __future__ import annotations

import numpy as np

from ..scan import Scan

ANATOMIES = ("head", "chest", "abdomen", "limb")

TRUNK_MM = 300.0
"""Water in the densest rays from which on a body is a trunk."""

CHEST_FILL = 0.65
ROUND_FILL = 0.92
CENTRAL_MM = 80.0


def propose(scan: Scan) -> str:
    """The part of the body, one of `ANATOMIES`, that a scan most probably shows.

    By three figures: the water in the densest rays (`thickness_mm`) tells a trunk from the rest; within it the share of this that central
    rays have on average (`central_fill`) tells lungs from an abdomen; of thinner bodies one that is as heavy as a disc of water of its
    width (`roundness`) is a head, for its skull, and not a limb.

    How far to trust it: the limits were set on simulated scans of one CT each of a head, a chest, an abdomen and both knees, at every
    preset, and of 47 crops of limbs. It takes all 63 for what they are, but of the four at the preset "lab", whose field of view of
    50 mm shows neither size nor shape, two for a head. It was tried on nobody else: a slim or a small patient, or an arm beside the
    body, may mislead it, and whatever is of none of the four kinds gets the name of one all the same. Not much hangs on it: a field
    that starts from another part's weights learns nearly as well.
    """
    thickness = thickness_mm(scan)
    if thickness > TRUNK_MM:
        return "chest" if central_fill(scan) < CHEST_FILL else "abdomen"
    return "head" if roundness(scan) > ROUND_FILL else "limb"


def thickness_mm(scan: Scan) -> float:
    """Millimetres of water that attenuate as much as the densest rays, 99.5 % of all others being thinner."""
    return float(np.percentile(scan.projections, 99.5)) / scan.mu_water


def central_fill(scan: Scan) -> float:
    """Mean line integral of the rays within `CENTRAL_MM` of the isocentre, along rows, over that of the densest rays."""
    central = np.broadcast_to((np.abs(_across_mm(scan)) < CENTRAL_MM)[:, None], scan.projections.shape)
    densest = thickness_mm(scan) * scan.mu_water
    return float(scan.projections[central].clip(0).mean()) / densest if central.any() and densest > 0 else 1.0


def roundness(scan: Scan) -> float:
    """Mean line integral in the body's shadow over that of a disc of water as wide as the shadow, the median over rows."""
    values = scan.projections.clip(0)
    shadow = values > 0.1 * thickness_mm(scan) * scan.mu_water
    radius = np.where(shadow, np.abs(_across_mm(scan))[:, None], 0).max(axis=2)
    met = radius > 0
    if not met.any():
        return 0.0
    mean = (values * shadow).sum(axis=2)[met] / shadow.sum(axis=2)[met]
    return float(np.median(mean / (np.pi / 2 * radius[met] * scan.mu_water)))


def _across_mm(scan: Scan) -> np.ndarray:
    """Distance (views, u) of detector columns from the axis through the isocentre, along rows, scaled to the isocentre."""
    geometry = scan.geometry
    _, columns = geometry.pixel_offsets_mm()
    return (columns - geometry.principal_point_mm[:, :1]) * (geometry.sid_mm / geometry.sdd_mm)[:, None]
