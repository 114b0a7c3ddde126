"""What networks that mend reconstructions are trained to lower."""

from __future__ import annotations

import torch

DENSE, DENSE_WEIGHT = 2.0, 0.2


def error_left(mended: torch.Tensor, given: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """|mended - t|^2 / |given - t|^2 of each of n examples, so that an easy one counts as much as a hard one.

    Attenuation relative to water. Errors beyond 1000 HU on both sides, which no window shows, count a fifth.
    """
    weights = torch.where((truth > DENSE) & (given > DENSE), DENSE_WEIGHT, 1.0)
    after, before = ((weights * (y - truth).square()).flatten(1).mean(dim=1) + 1e-6 for y in (mended, given))
    return after / before


def seen_squares(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The mean of (made - t)^2, errors weighted as in `error_left`."""
    weights = torch.where((truth > DENSE) & (made > DENSE), DENSE_WEIGHT, 1.0)
    return (weights * (made - truth).square()).mean()
