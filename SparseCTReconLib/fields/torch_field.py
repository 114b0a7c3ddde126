"""A neural field of any torch module, on CPU or CUDA, by autograd."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from ..errors import InputError
from .field import volume_of
from .limits import KEPT_BYTES
from .networks import HashModule, LayeredModule
from .rays import UnitCube
from .torch_adam import TorchAdam, update

PRECISIONS = ("float32", "tf32", "bfloat16")


class TorchField:
    """The `Field` of a torch module.

    On the CPU two runs on as many threads are the same to the last bit. On CUDA the encoders add gradients up in an order that changes from
    run to run, so two runs agree to rounding only.

    Parameters
    ----------
    module : HashModule or LayeredModule
        Network; its output times `scale` is the attenuation.
    scale : float
        Attenuation in 1/mm of an output of 1.
    device : str
        "cpu" or "cuda".
    backend : str
        What encodes: "torch", "triton" or "tinycudann".
    precision : str, optional
        Of the products between layers: "float32"; "tf32", which on GPUs since Ampere rounds their factors to 11 bits; "bfloat16", which is
        torch's autocast. Parameters, encodings, their gradients and attenuation are float32 in any case. Default: float32 on the CPU; on
        CUDA bfloat16 for the wide networks and tf32 for heads, whose layers are too small to gain by it and whose output it would round.
    update : callable, optional
        Adam's step, see `torch_adam.update`.
    """

    def __init__(
        self,
        module: HashModule | LayeredModule,
        scale: float,
        device: str = "cpu",
        backend: str = "torch",
        precision: str | None = None,
        update=update,
    ):
        self.module, self.scale, self.device, self.backend = module.to(device), scale, device, backend
        self.precision = precision or _precision(module, device)
        if self.precision not in PRECISIONS:
            raise InputError(f"no precision {precision!r}: give {', '.join(PRECISIONS)}", "bad-option")
        self._trained = {"table": module.table, "head": module.weights} if module.table is not None else {"head": module.weights}
        self.optimisers = [TorchAdam(tensor, update) for tensor in self._trained.values()]
        self.at_once = max(1024, KEPT_BYTES // (4 * module.floats_per_point))

    @contextlib.contextmanager
    def _float32_products(self):
        """Multiply float32 as `precision` says, forwards and backwards."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _mu(self, points: torch.Tensor) -> torch.Tensor:
        blurred = torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")
        with self._float32_products(), blurred:
            return self.scale * self.module(points).float()

    @torch.no_grad()
    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._mu(part) for part in points.split(self.at_once, dim=1)])

    def features(self, points: torch.Tensor) -> torch.Tensor:
        """What the encoding gives, (channels, n)."""
        self._require_head()
        with torch.no_grad():
            return self.module.features(points)

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if points.shape[1] > self.at_once:
            return self(points), None
        mu = self._mu(points)
        return mu.detach(), mu

    def gradient(self, points: torch.Tensor, kept: torch.Tensor | None, mu_gradient: torch.Tensor) -> None:
        if kept is not None:
            self._backward(kept, mu_gradient)
            return
        for part, part_gradient in zip(points.split(self.at_once, dim=1), mu_gradient.split(self.at_once)):
            self._backward(self._mu(part), part_gradient)

    def _backward(self, mu: torch.Tensor, mu_gradient: torch.Tensor) -> None:
        with self._float32_products():
            mu.backward(mu_gradient)

    def step(self, encoder_rate: float, head_rate: float) -> None:
        rates = {"table": encoder_rate, "head": head_rate}
        for optimiser, (name, tensor) in zip(self.optimisers, self._trained.items()):
            optimiser.step(tensor.grad, rates[name])

    def descend(self, points, kept, mu_gradient, encoder_rate: float, head_rate: float) -> None:
        self.gradient(points, kept, mu_gradient)
        self.step(encoder_rate, head_rate)

    def volume(self, cube: UnitCube) -> np.ndarray:
        return volume_of(self, cube)

    def _require_head(self) -> None:
        if not isinstance(self.module, HashModule):
            raise InputError("only a hash network has an encoding and a head: take the hash architecture", "bad-option")

    @property
    def mask(self) -> np.ndarray:
        """Factors (channels,) on the normalised features, a copy; set it as a whole."""
        self._require_head()
        return self.module.mask.cpu().numpy().copy()

    @mask.setter
    def mask(self, mask: np.ndarray) -> None:
        self._require_head()
        self.module.mask.copy_(torch.as_tensor(np.asarray(mask, dtype=np.float32)))

    def head_parameters(self) -> np.ndarray:
        """A copy of the head's parameters (size,), laid out as `Head.sizes` says."""
        self._require_head()
        return self.module.weights.detach().cpu().numpy().copy()

    def set_head(self, parameters: np.ndarray) -> None:
        """Start from a head that was trained before.

        Raises
        ------
        InputError
            Where the head has another number of parameters, or the network has no head.
        """
        self._require_head()
        size = self.module.head.size
        if np.shape(parameters) != (size,):
            raise InputError(f"a head of {np.size(parameters)} parameters does not fit this network, which has {size}", "bad-weights")
        self._trained["head"].data.copy_(torch.as_tensor(np.asarray(parameters, dtype=np.float32)))

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach() for name, tensor in self._trained.items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {"mask": self.module.mask} if isinstance(self.module, HashModule) else {}
        for optimiser, (name, tensor) in zip(self.optimisers, self.weights().items()):
            tensors |= {name: tensor, f"{name}_first": optimiser.first, f"{name}_second": optimiser.second}
        return tensors

    def arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}
        return arrays | {"updates": np.array(self.optimisers[-1].steps)}

    def restore(self, arrays) -> None:
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)).view(tensor.shape))
        for optimiser in self.optimisers:
            optimiser.steps = int(arrays["updates"])


def _precision(module: HashModule | LayeredModule, device: str) -> str:
    if device == "cpu":
        return "float32"
    wide = isinstance(module, LayeredModule) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if wide else "tf32"
