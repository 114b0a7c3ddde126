"""What the kernels of Gaussians share: the exponential and the row of places that a Gaussian reaches."""

from __future__ import annotations

import numpy as np
import torch

from ..operators._jit import kernel
from ..operators._lanes import LANES, smaller

REACH = 4.7
"""Standard deviations at which a Gaussian ends: beyond lie 2e-5 of its integral over a plane, and 1e-3 of the worst gradient."""

STEP, WIDTH = np.uint64(LANES), np.float32(LANES)
ZERO, ONE, HALF, SIXTH = np.float32(0), np.float32(1), np.float32(1 / 2), np.float32(1 / 6)
FOURTH, FIFTH, SIXTH_TERM = np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)
SMALL = np.float32(1 / 64)
LARGEST = np.float32(32)


@kernel(inline=True)
def half_exp(e):
    """exp(-e / 2) of a vector of numbers from 0 on, to 1e-5."""
    t = smaller(e, LARGEST) * -SMALL
    p = ONE + t * (ONE + t * (HALF + t * (SIXTH + t * (FOURTH + t * (FIFTH + t * SIXTH_TERM)))))
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@kernel(inline=True)
def span(square, linear, constant, centre, count):
    """First index and last + 1, within 0 .. count, where square x^2 + 2 linear x + constant <= 0, x being index - centre."""
    root = linear * linear - square * constant
    if not (root > 0 and square > 0):
        return 0, 0
    root = np.sqrt(root)
    first = np.ceil(centre + (-linear - root) / square)
    last = np.floor(centre + (-linear + root) / square)
    if not last >= first:
        return 0, 0
    return int(min(max(first, 0.0), count)), int(max(min(last, count - 1.0), -1.0)) + 1


def gaussians(centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (n, 3), whitening (n, 9) and density (n,) as arrays for a kernel."""
    tensors = centres, whitening.reshape(len(centres), 9), density
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def gradients(found: tuple[np.ndarray, ...], of: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """What a kernel has summed up, in the shapes and types of what it is the gradient of."""
    return tuple(torch.from_numpy(array).reshape(tensor.shape).to(tensor.dtype) for array, tensor in zip(found, of))
