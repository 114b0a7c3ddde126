"""The hash encoding of tiny-cuda-nn (Mueller 2021, https://github.com/NVlabs/tiny-cuda-nn) with our head.

Its grid is its own: vertices half a cell off ours, dense levels over the whole cube instead of the box, resolutions rounded otherwise. Its
tables therefore fit no other backend; heads fit every one.
"""

from __future__ import annotations

import numpy as np
import torch

from ..errors import InputError
from .hash_layout import FEATURES, HashGrid
from .networks import HashModule, HashNetwork
from .torch_field import TorchField

INSTALL = "pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch (needs the CUDA toolkit and a compiler)"


def library():
    """The module `tinycudann`.

    Raises
    ------
    InputError
        Where it is not installed, or finds no GPU that it was built for.
    """
    if not torch.cuda.is_available():
        raise InputError("backend tinycudann needs an NVIDIA GPU and torch finds none: take the backend numba on the cpu", "no-device")
    try:
        import tinycudann
    except ImportError as error:
        raise InputError(f"backend tinycudann is not installed: {INSTALL}, or take the backend triton or torch", "no-backend") from error
    except OSError as error:
        raise InputError(f"tinycudann does not run on this GPU ({error}): build it here, {INSTALL}, or take triton or torch") from error
    return tinycudann


def configuration(grid: HashGrid) -> dict:
    """The encoding of tiny-cuda-nn that is nearest to `grid`."""
    growth = (grid.finest / grid.base) ** (1 / max(grid.levels - 1, 1))
    return {
        "otype": "HashGrid",
        "n_levels": grid.levels,
        "n_features_per_level": FEATURES,
        "log2_hashmap_size": grid.log2_table,
        "base_resolution": grid.base,
        "per_level_scale": growth,
        "interpolation": "Linear",
    }


def encoder(grid: HashGrid, rng: np.random.Generator, device: str = "cuda"):
    """What the encoding learns, a float32 Parameter, and ``encode(points, table)`` with the scales of `HashGrid`."""
    encoding = library().Encoding(3, configuration(grid), dtype=torch.float32).to(device)
    start = rng.uniform(-0.1, 0.1, tuple(encoding.params.shape)).astype(np.float32)
    encoding.params.data.copy_(torch.from_numpy(start))
    scales = torch.from_numpy(np.repeat(grid.scales(), FEATURES)).to(device)[:, None]
    edges = torch.from_numpy(grid.edges()).to(device)

    def encode(points, table):
        inside = points.T.clamp(min=0).minimum(edges)
        return encoding(inside).float().T * scales

    return encoding.params, encode


def tinycudann_field(network: HashNetwork, scale: float, rng: np.random.Generator, device: str = "cuda") -> TorchField:
    """The field of a hash network on the GPU, encoded by tiny-cuda-nn; attenuation in 1/mm is `scale` times its output."""
    table, encode = encoder(network.grid, rng, device)
    module = HashModule(network.head, network.head.initial(rng), table, encode)
    return TorchField(module, scale, device, "tinycudann")
