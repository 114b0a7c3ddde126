"""TIGRE's definition of a cone beam, which NAF, R2-Gaussian and DeepSparse share, as one pose per view.

TIGRE's world (github.com/CERN/TIGRE, computeDeltas in its projectors; mm) is taken for LPS. Before the gantry turns, the source lies at
(DSO, 0, 0) and the detector's centre at (DSO - DSD, offset u, offset v); columns are numbered along y, rows along z. The detector is turned
in its place by Rz(roll) Ry(pitch) Rx(yaw). Everything is then turned by the angles alpha, theta, psi,

    R = Rz(alpha) Ry(theta) Rz(psi),

and moved by the centre-of-rotation correction along (-sin alpha, cos alpha, 0).
"""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry


def _turned(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (views, 3, 3) about one axis."""
    sin, cos = np.sin(angles), np.cos(angles)
    matrices = np.zeros((len(angles), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrices[:, axis, axis] = 1
    matrices[:, i, i] = matrices[:, j, j] = cos
    matrices[:, i, j], matrices[:, j, i] = -sin, sin
    return matrices


def tigre_orbit(
    angles_rad, dso_mm, dsd_mm, detector_shape, pixel_mm, *, offset_mm=(0.0, 0.0), rotation_rad=(0.0, 0.0, 0.0), cor_mm=0.0, rows_down=False
) -> Geometry:
    """Poses of a TIGRE geometry.

    Parameters
    ----------
    angles_rad : array (views,) or (views, 3)
        alpha, or alpha, theta and psi.
    dso_mm, dsd_mm : float or array (views,)
        Distance from the source to the origin and to the detector.
    detector_shape, pixel_mm : tuple
        Rows and columns; pitch (dv, du) in mm.
    offset_mm : array (2,) or (views, 2)
        Displacement of the detector along (u, v).
    rotation_rad : array (3,) or (views, 3)
        Turns of the detector about x, y and z: yaw, pitch, roll.
    cor_mm : float or array (views,)
        Centre-of-rotation correction.
    rows_down : bool
        Whether the images are stored with their first row at the largest z, as NAF, R2-Gaussian and DeepSparse turn TIGRE's.
    """
    angles = np.asarray(angles_rad, dtype=float)
    alpha, theta, psi = (np.column_stack([angles, 0 * angles, 0 * angles]) if angles.ndim == 1 else angles).T
    views = len(alpha)
    offset, rotation = (np.asarray(value, dtype=float) for value in (offset_mm, rotation_rad))
    offset, rotation = np.broadcast_to(offset, (views, 2)), np.broadcast_to(rotation, (views, 3))
    dso, dsd, cor = (np.broadcast_to(np.asarray(value, dtype=float), (views,)) for value in (dso_mm, dsd_mm, cor_mm))
    gantry = _turned(2, alpha) @ _turned(1, theta) @ _turned(2, psi)
    tilt = gantry @ _turned(2, rotation[:, 2]) @ _turned(1, rotation[:, 1]) @ _turned(0, rotation[:, 0])
    zero = np.zeros(views)
    moved = cor[:, None] * np.stack([-np.sin(alpha), np.cos(alpha), zero], axis=1)
    source = np.einsum("nij,nj->ni", gantry, np.stack([dso, zero, zero], axis=1)) + moved
    detector = np.einsum("nij,nj->ni", gantry, np.stack([dso - dsd, offset[:, 0], offset[:, 1]], axis=1)) + moved
    v = tilt[:, :, 2] * (-1.0 if rows_down else 1.0)
    return Geometry(source, detector, tilt[:, :, 1], v, detector_shape, pixel_mm)
