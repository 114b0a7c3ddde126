"""PSNR of the previews against the CT that the scan was simulated from: on a sample of the voxels, so that it takes milliseconds."""

import math

import slicer

SAMPLES = 20_000
WINDOW_HU = (-1000.0, 1000.0)
FINEST = 2
"""Samples along each axis of a voxel that is coarser than those of the CT."""


class PreviewPSNR:
    """Holds values of the reference at a sample of a grid's voxels.

    Parameters
    ----------
    referenceNode : vtkMRMLScalarVolumeNode
        The CT, in the coordinates of the previews.
    """

    def __init__(self, referenceNode):
        self._referenceID = referenceNode.GetID()
        self._taken = None

    def of(self, array, ijkToRas):
        """PSNR in dB of voxels [z, y, x]; None where the reference is gone or does not overlap."""
        import numpy as np

        key = (array.shape, np.round(ijkToRas, 6).tobytes())
        if self._taken is None or self._taken[0] != key:
            self._taken = (key, *self._sample(array.shape, ijkToRas))
        _key, step, truth, inside = self._taken
        if truth is None:
            return None
        difference = unit(array[:: step[0], :: step[1], :: step[2]].ravel()[inside]) - truth
        error = float(np.mean(difference**2))
        return -10 * math.log10(error) if error > 0 else None

    def _sample(self, shape, ijkToRas):
        """Steps along z, y, x; the reference there, mapped to 0..1; which samples lie in the reference."""
        import numpy as np

        step = _steps(shape)
        node = slicer.mrmlScene.GetNodeByID(self._referenceID)
        if node is None or node.GetImageData() is None:
            return step, None, None
        matrix = slicer.util.arrayFromVTKMatrix(_ijkToRas(node))
        toReference = np.linalg.inv(matrix) @ ijkToRas
        k, j, i = np.meshgrid(*(np.arange(0, n, s) for n, s in zip(shape, step)), indexing="ij")
        index = np.stack([i.ravel(), j.ravel(), k.ravel()])
        places = [toReference[:3, :3] @ (index + shift) + toReference[:3, 3:] for shift in _shifts(toReference)]
        reference = slicer.util.arrayFromVolume(node)
        values = np.mean([_linear(reference, place) for place in places], axis=0)
        inside = np.isfinite(values)
        return (step, unit(values[inside]), inside) if inside.any() else (step, None, None)


def unit(values):
    """HU mapped from the window to 0..1 and clipped, as the evaluation does it."""
    import numpy as np

    low, high = WINDOW_HU
    return np.clip((np.asarray(values, np.float32) - low) / (high - low), 0, 1)


def _steps(shape):
    """Steps along z, y, x that leave about SAMPLES voxels."""
    share = (math.prod(shape) / SAMPLES) ** (1 / 3)
    return tuple(max(1, min(n, round(share))) for n in shape)


def _shifts(toReference):
    """Where within a voxel of the grid the reference is looked up: several places along an axis on which the voxel is coarser."""
    import numpy as np

    counts = [min(FINEST, max(1, round(length))) for length in np.linalg.norm(toReference[:3, :3], axis=0)]
    ticks = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    return [np.array(shift)[:, None] for shift in np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)]


def _linear(array, places):
    """Linear interpolation of an array [z, y, x] at places (i, j, k); NaN outside."""
    import numpy as np

    last = np.array(array.shape[::-1])[:, None] - 1
    inside = ((places > -0.5) & (places < last + 0.5)).all(axis=0)
    places = np.clip(places, 0, last)
    low = np.minimum(places.astype(int), np.maximum(last - 1, 0))
    far = places - low
    value = np.zeros(places.shape[1])
    for corner in np.ndindex(2, 2, 2):
        at = np.minimum(low + np.array(corner)[:, None], last)
        weight = np.prod(np.where(np.array(corner)[:, None], far, 1 - far), axis=0)
        value += weight * array[at[2], at[1], at[0]]
    return np.where(inside, value, np.nan)


def _ijkToRas(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
