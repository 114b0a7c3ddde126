"""Where in a volume a training looks: at boxes drawn at random, less often at air than there is of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BODY, LEAST_BODY, TRIES = 0.3, 0.08, 4
"""Attenuation relative to water from which on a voxel is body; the share of it that a box should have; boxes that are looked at for one."""


def in_body(truth: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    """A box of a shape in attenuation relative to water, both z, y, x: of some drawn at random the first with body in it, or the last."""
    for _ in range(TRIES):
        first = [int(rng.integers(n - edge + 1)) for n, edge in zip(truth.shape, shape, strict=True)]
        at = tuple(slice(start, start + edge) for start, edge in zip(first, shape))
        if (truth[at] > BODY).mean() > LEAST_BODY:
            break
    return at
