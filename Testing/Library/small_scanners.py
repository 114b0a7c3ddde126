"""Small geometries and grids that between them take every path of the projectors."""

from dataclasses import replace

import numpy as np
from poses import random_geometry, rotation

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector

SIZE = (11, 13, 12)


def cubic(spacing_mm=2.0, centre_mm=(0, 0, 0)):
    return Grid.centred(SIZE, (spacing_mm,) * 3, centre_mm)


def circular(views=5, detector_shape=(18, 20), pixel_mm=(3.0, 3.0), start_rad=0.1, **changes):
    """A full circle about a grid of about 24 mm that starts off the axes, so that no ray runs along a diagonal."""
    arguments = {"sid_mm": 100.0, "sdd_mm": 160.0} | changes
    return Geometry.circular(views, detector_shape=detector_shape, pixel_mm=pixel_mm, start_rad=start_rad, **arguments)


def turned_in_plane(geometry, angle_rad):
    """The detector turned about its normal: rows no longer lie across the axis."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return replace(geometry, u=cos * geometry.u + sin * geometry.v, v=cos * geometry.v - sin * geometry.u)


def tilted(geometry, angle_rad):
    """The detector tilted about its rows: columns lean towards the source."""
    towards = np.cross(geometry.u, geometry.v)
    return replace(geometry, v=np.cos(angle_rad) * geometry.v + np.sin(angle_rad) * towards)


def as_matrix(A):
    """The projector `A` as a matrix (rays, voxels), in double precision."""
    columns = []
    for voxel in range(int(np.prod(A.volume_shape))):
        unit = np.zeros(A.volume_shape)
        unit.flat[voxel] = 1
        columns.append(A(A.volume(unit)).numpy().ravel())
    return np.array(columns, dtype=float).T


def overdetermined():
    """A projector with more rays than voxels, so that least squares has one answer."""
    return projector(circular(views=8, detector_shape=(9, 12), pixel_mm=(4.0, 4.0)), Grid.centred((6, 5, 4), (4.0, 4.0, 4.0)))


def helical(geometry, pitch_mm):
    """The orbit moved along the axis from view to view, `pitch_mm` in all."""
    rise = np.linspace(-pitch_mm / 2, pitch_mm / 2, geometry.views)[:, None] * [0, 0, 1]
    return replace(geometry, source=geometry.source + rise, detector=geometry.detector + rise)


def upside_down(geometry):
    """Detector rows counted downwards."""
    return replace(geometry, v=-geometry.v)


def irregular():
    """Sources in all directions, each with its own distances, offsets and detector."""
    poses = random_geometry(5, views=6, isocentre_mm=(0, 0, 0))
    return replace(poses, detector_shape=(16, 18), pixel_mm=(22.0, 20.0))


OBLIQUE = Grid((11, 13, 12), (1.5, 2.0, 2.5), (-9.0, -10.0, -15.0), rotation((1, -2, 0.5), 0.7))
TURNED = Grid((20, 9, 14), (2.0, 3.1, 1.7), (-21.0, -6.0, -18.0), rotation((1, 2, -0.7), 0.8))

COLUMNAR = {
    "circular": (circular(), cubic()),
    "on the axes and diagonals": (circular(views=8, start_rad=0.0), cubic()),
    "half-fan": (circular(offset_mm=(17.0, -4.0)), cubic()),
    "half-fan, other side": (circular(offset_mm=(-17.0, 4.0)), cubic()),
    "short arc": (circular(arc_rad=3.5), cubic()),
    "helical": (helical(circular(), 20.0), cubic()),
    "upside down": (upside_down(circular()), cubic()),
    "anisotropic": (circular(), Grid.centred(SIZE, (2.0, 1.3, 3.1))),
    "thin slices": (circular(), Grid.centred((11, 13, 36), (2.0, 2.0, 0.7))),
    "thick slices": (circular(), Grid.centred((11, 13, 3), (2.0, 2.0, 9.0))),
    "far from the isocentre": (circular(), cubic(centre_mm=(9.0, -12.0, 7.0))),
    "turned about z": (circular(), Grid((11, 13, 12), (2.0,) * 3, (-4.0, -16.0, -11.0), rotation((0, 0, 1), 0.5))),
    "source within the grid": (circular(sid_mm=14.0, sdd_mm=60.0), Grid.centred((21, 23, 9), (2.0, 2.0, 2.0))),
    "fine pixels": (circular(views=3, detector_shape=(150, 40), pixel_mm=(0.3, 1.0)), cubic()),
    "a detail": (
        circular(views=2, detector_shape=(1024, 24), pixel_mm=(0.2, 0.04), sdd_mm=150.0),
        Grid.centred(SIZE, (0.05,) * 3, (0, 0, 30)),
    ),
    "coarse pixels": (circular(detector_shape=(5, 20), pixel_mm=(14.0, 3.0)), cubic()),
}
"""What the columnar projector takes: detector columns parallel to the grid's z axis."""

GENERAL = {
    "turned in plane": (turned_in_plane(circular(), 0.2), cubic()),
    "tilted": (tilted(circular(), 0.3), cubic()),
    "irregular": (irregular(), cubic(10.0)),
    "irregular, oblique": (irregular(), replace(OBLIQUE, spacing_mm=(9.0, 12.0, 14.0), origin_mm=(-50, -80, -70))),
    "oblique": (circular(), OBLIQUE),
    "wide cone": (circular(sid_mm=30.0, sdd_mm=50.0, detector_shape=(24, 20), pixel_mm=(6.0, 3.0)), cubic()),
    "source within an oblique grid": (circular(sid_mm=8.0, sdd_mm=60.0), OBLIQUE),
}
"""What only the general projector takes."""
