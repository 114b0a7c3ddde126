"""Adam for the parameters of a cloud, whose moments go with the Gaussians when some are added or taken away."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from .cloud import PARAMETERS, Cloud

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-15


class CloudOptimiser:
    """The present cloud and the state of its optimiser.

    Parameters
    ----------
    cloud : Cloud
        Its tensors are changed in place.
    """

    def __init__(self, cloud: Cloud):
        self.cloud, self.steps = cloud, 0
        self.moments = {name: [torch.zeros_like(tensor), torch.zeros_like(tensor)] for name, tensor in cloud.parameters().items()}

    def leaves(self) -> Cloud:
        """The cloud, with tensors that gradients can be asked of."""
        tensors = (tensor.detach().requires_grad_() for tensor in self.cloud.parameters().values())
        return Cloud(*tensors, self.cloud.unit, self.cloud.bounds_mm)

    def step(self, gradients: Mapping[str, torch.Tensor], rates: Mapping[str, float]) -> None:
        """Descend, each parameter at its own rate; a gradient that is no number raises FloatingPointError before anything changes."""
        if not all(torch.isfinite(gradient).all() for gradient in gradients.values()):
            raise FloatingPointError("the gradient of the Gaussians is no finite number")
        self.steps += 1
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            denominator = (second / (1 - BETA2**self.steps)).sqrt_().add_(EPSILON)
            getattr(self.cloud, name).addcdiv_(first, denominator, value=-rates[name] / (1 - BETA1**self.steps))

    def replace(self, cloud: Cloud, origin: torch.Tensor) -> None:
        """Go on with another cloud; `origin` (n,) is the index that each Gaussian had in the present one, -1 for new ones."""
        kept = origin >= 0
        for name, moments in self.moments.items():
            for number, moment in enumerate(moments):
                fresh = torch.zeros_like(getattr(cloud, name))
                fresh[kept] = moment[origin[kept]]
                moments[number] = fresh
        self.cloud = cloud

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` goes on from."""
        kept = dict(self.cloud.parameters())
        for name, (first, second) in self.moments.items():
            kept |= {f"{name}.first": first, f"{name}.second": second}
        return {**{name: np.array(tensor.cpu()) for name, tensor in kept.items()}, "adam_steps": np.array(self.steps)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` gave."""

        def tensor(name: str) -> torch.Tensor:
            return torch.from_numpy(np.array(arrays[name])).to(self.cloud.device)

        self.moments = {name: [tensor(f"{name}.first"), tensor(f"{name}.second")] for name in PARAMETERS}
        self.cloud = Cloud(**{name: tensor(name) for name in PARAMETERS}, unit=self.cloud.unit, bounds_mm=self.cloud.bounds_mm)
        self.steps = int(arrays["adam_steps"])
