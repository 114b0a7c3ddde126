"""The parameters of a cloud of Gaussians, and what they mean: density by softplus, bounded scales, unit quaternions (R2-Gaussian)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

PARAMETERS = ("centres", "raw_density", "raw_scales", "rotation")


@dataclass
class Cloud:
    """Gaussians whose parameters may take any value.

    Parameters
    ----------
    centres : Tensor (n, 3)
        x, y, z in mm from the centre of voxel (0, 0, 0), along the grid's axes.
    raw_density : Tensor (n,)
        Softplus of it is the density at the centre, in that of `unit`.
    raw_scales : Tensor (n, 3)
        Their sigmoid leads from the smallest to the largest standard deviation.
    rotation : Tensor (n, 4)
        Quaternions w, x, y, z of any length.
    unit : float
        Attenuation in 1/mm of a density of 1.
    bounds_mm : tuple of float
        The smallest and the largest standard deviation.
    """

    centres: torch.Tensor
    raw_density: torch.Tensor
    raw_scales: torch.Tensor
    rotation: torch.Tensor
    unit: float
    bounds_mm: tuple[float, float]

    @classmethod
    def of(cls, centres, density, scales, unit: float, bounds_mm: tuple[float, float], rotation=None) -> Cloud:
        """The cloud with centres (n, 3) and scales (n, 3) in mm and density (n,) in 1/mm; unrotated by default. It lies
        where its tensors do."""
        low, high = bounds_mm
        share = _float32(scales).sub(low).div(high - low).clamp(1e-4, 1 - 1e-4)
        relative = _float32(density).div(unit).clamp(min=1e-6)
        if rotation is None:
            rotation = torch.tensor([1.0, 0, 0, 0], device=relative.device).repeat(len(relative), 1)
        return cls(_float32(centres), inverse_softplus(relative), torch.logit(share), _float32(rotation), unit, bounds_mm)

    def __len__(self) -> int:
        return len(self.centres)

    def density(self) -> torch.Tensor:
        """At the centres (n,), 1/mm."""
        return functional.softplus(self.raw_density) * self.unit

    def scales(self) -> torch.Tensor:
        """Standard deviations (n, 3) in mm along the Gaussians' own axes."""
        low, high = self.bounds_mm
        return low + (high - low) * torch.sigmoid(self.raw_scales)

    def axes(self) -> torch.Tensor:
        """Rotations (n, 3, 3), whose columns are the Gaussians' own axes."""
        w, x, y, z = functional.normalize(self.rotation, dim=1).unbind(1)
        rows = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)

    def whitening(self) -> torch.Tensor:
        """M (n, 3, 3) in 1/mm: |M (x - centre)| is the distance in standard deviations."""
        return self.axes().transpose(1, 2) / self.scales()[:, :, None]

    def gaussians(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Centres, whitening and density, as a rasteriser or voxeliser takes them."""
        return self.centres, self.whitening(), self.density()

    def parameters(self) -> dict[str, torch.Tensor]:
        """The four tensors by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def to(self, device) -> Cloud:
        """The same Gaussians on a device."""
        return Cloud(*(tensor.to(device) for tensor in self.parameters().values()), self.unit, self.bounds_mm)

    @property
    def device(self) -> torch.device:
        """Where the Gaussians are."""
        return self.centres.device

    def chosen(self, which) -> Cloud:
        """The Gaussians of an index or a mask."""
        return Cloud(*(getattr(self, name)[which] for name in PARAMETERS), self.unit, self.bounds_mm)

    def joined(self, other: Cloud) -> Cloud:
        """These Gaussians and then the others."""
        return Cloud(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in PARAMETERS), self.unit, self.bounds_mm)


def _float32(values) -> torch.Tensor:
    """Numbers as a tensor, on the device where they are."""
    return (values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))).to(torch.float32)


def inverse_softplus(values: torch.Tensor) -> torch.Tensor:
    """x with softplus(x) = values > 0."""
    return values + torch.log(-torch.expm1(-values))


__all__ = ["PARAMETERS", "Cloud", "inverse_softplus"]
