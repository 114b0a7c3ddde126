"""Plays the part of tiny-cuda-nn's `Encoding` that the adapter uses, on the CPU, so that the adapter can be tested without a GPU."""

import numpy as np
import torch

from SparseCTReconLib.fields import torch_hash
from SparseCTReconLib.fields.hash_grid import HashGrid

DOCUMENTED = {"otype", "n_levels", "n_features_per_level", "log2_hashmap_size", "base_resolution", "per_level_scale", "interpolation"}
"""Keys of https://github.com/NVlabs/tiny-cuda-nn/blob/master/DOCUMENTATION.md#grid"""


class Encoding(torch.nn.Module):
    """Points (n, 3) to features (n, channels); a flat float32 `params` that starts near zero."""

    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        super().__init__()
        assert n_input_dims == 3 and dtype == torch.float32 and set(encoding_config) <= DOCUMENTED
        assert encoding_config["otype"] == "HashGrid" and encoding_config["n_features_per_level"] == 2
        base, levels = encoding_config["base_resolution"], encoding_config["n_levels"]
        finest = round(base * encoding_config["per_level_scale"] ** (levels - 1))
        self.grid = HashGrid(levels, base, finest, encoding_config["log2_hashmap_size"])
        table = self.grid.initial_table(np.random.default_rng(seed), 1e-4)
        self.params = torch.nn.Parameter(torch.from_numpy(table).reshape(-1))

    def forward(self, points):
        assert points.shape[1] == 3 and points.dtype == torch.float32
        features = torch_hash.encode(points.T, self.params.view(-1, 2), self.grid)
        return features.T / torch.from_numpy(self.grid.scales()).repeat_interleave(2)
