"""Weights laid out as DeepSparse's published ones are, made up, and what its model makes of a scan with them, written down once more.

Arrays are [x, y, z]; images have the head above; points are 0 to 1 along the edges of the box.
"""

import numpy as np
import torch
from torch.nn import functional

CELLS = 32
BOX_MM, DETECTOR_MM = 409.6, 614.4
SOD_MM, SDD_MM = 800.0, 1200.0


def state_dict(widths=(2, 3, 4), decoder=4, codes=6, points=(5, 3), denoising=True, seed=0):
    """A state dict by the names of the published code; `widths` with the finest scale first."""
    random = np.random.default_rng(seed)
    state = {}

    def convolution(name, outward, inward, *size):
        state[f"{name}.weight"] = random.normal(size=(outward, inward, *size)) / np.sqrt(inward * np.prod(size))
        state[f"{name}.bias"] = random.normal(size=outward)

    def normalised(name, outward, inward, *size, at=("0", "1")):
        convolution(f"{name}.{at[0]}", outward, inward, *size)
        after = f"{name}.{at[1]}"
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{after}.{part}"] = random.uniform(low, low + 1, outward)
        state[f"{after}.num_batches_tracked"] = np.array(7)

    normalised("encoder.encoder.stem.conv", widths[0], 1, 3, 3)
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        level = f"encoder.encoder.layers.{i}"
        normalised(f"{level}.0.layer", a, a, 2, 2)
        normalised(f"{level}.1.pre_conv", b, a, 3, 3)
        normalised(f"{level}.1.layers.0.conv", b, b, 3, 3)
    for i, width in enumerate(reversed(widths)):
        for part in ("pre_quant", "post_quant"):
            convolution(f"cb.{i}.{part}", width, width, 1, 1, 1)
        book = f"cb.{i}.codebook.embedding"
        state[f"{book}.weight"] = random.normal(size=(codes, width))
        state[f"{book}.cluster_size"] = random.uniform(1, 9, codes)
        state[f"{book}.embed_avg"] = state[f"{book}.weight"] * state[f"{book}.cluster_size"][:, None]
        inward = width + (decoder if i else 0)
        if inward != decoder:
            normalised(f"decoders.{i}.pre_conv", decoder, inward, 3, 3, 3)
        for j in range(2):
            normalised(f"decoders.{i}.layers.{j}.conv", decoder, decoder, 3, 3, 3)
            if denoising:
                normalised(f"denoise_layers.{i}.layers.{j}.conv", width, width, 3, 3, 3)
    features = sum(widths) + decoder
    for k, (a, b) in enumerate(zip((0, *points), (*points, 1))):
        normalised(f"point_decoder.mlps.{k}", b, a + features, 1)
    return {name: torch.from_numpy(np.asarray(array)).float() for name, array in state.items()}


class Release:
    """The published model of a state dict, in double precision, in use."""

    def __init__(self, state):
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.scales = sum(name.endswith("embedding.weight") for name in state)
        self.layers = sum(name.startswith("point_decoder") and name.endswith(".0.weight") for name in state)

    def __call__(self, projections, angles_rad, points):
        """Values (n,) at points (n, 3), x y z of 0 to 1.

        projections: (views, rows from the head down, columns) in the units of its training.
        """
        images = torch.from_numpy(projections).double()[:, None]
        maps, out = self._encoder(images)[::-1], None
        along = np.arange(CELLS) / CELLS
        cells = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
        for i in range(self.scales):
            x = _seen(maps[i], cells, angles_rad).reshape(1, -1, CELLS, CELLS, CELLS)
            x = self._exchanged(f"cb.{i}", x)
            if f"denoise_layers.{i}.layers.0.conv.0.weight" in self.state:
                x = self._residuals(f"denoise_layers.{i}", x)
            x = x if out is None else torch.cat([x, out], dim=1)
            if f"decoders.{i}.pre_conv.0.weight" in self.state:
                x = _active(self._normalised(f"decoders.{i}.pre_conv", x, padding=1))
            out = self._residuals(f"decoders.{i}", x)
        at = torch.from_numpy(2 * points[:, ::-1].copy() - 1)[None, :, None, None]
        known = functional.grid_sample(out, at, align_corners=True)[0, :, :, 0, 0]
        for scale in maps:
            known = torch.cat([_seen(scale, points, angles_rad), known])
        return self._points(known[None])[0, 0].numpy()

    def _encoder(self, images):
        maps = [_active(self._normalised("encoder.encoder.stem.conv", images, padding=1))]
        for i in range(self.scales - 1):
            level = f"encoder.encoder.layers.{i}"
            x = _active(self._normalised(f"{level}.0.layer", maps[-1], stride=2))
            x = _active(self._normalised(f"{level}.1.pre_conv", x, padding=1))
            maps.append(_active(x + self._normalised(f"{level}.1.layers.0.conv", x, padding=1)))
        return maps

    def _normalised(self, name, x, **options):
        weight, bias = (self.state[f"{name}.0.{part}"] for part in ("weight", "bias"))
        x = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[weight.dim()](x, weight, bias, **options)
        mean, variance, scale, shift = (self.state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, variance, scale, shift)

    def _residuals(self, name, x):
        for j in range(2):
            x = _active(x + self._normalised(f"{name}.layers.{j}.conv", x, padding=1))
        return x

    def _exchanged(self, name, x):
        x = functional.conv3d(x, self.state[f"{name}.pre_quant.weight"], self.state[f"{name}.pre_quant.bias"])
        codes = self.state[f"{name}.codebook.embedding.weight"]
        nearest = torch.cdist(x.reshape(x.shape[1], -1).T, codes).argmin(dim=1)
        x = codes[nearest].T.reshape(x.shape)
        return functional.conv3d(x, self.state[f"{name}.post_quant.weight"], self.state[f"{name}.post_quant.bias"])

    def _points(self, known):
        x = known[:, :0]
        for k in range(self.layers):
            x = _active(self._normalised(f"point_decoder.mlps.{k}", torch.cat([x, known], dim=1)))
        return x


def _active(x):
    return functional.leaky_relu(x, 0.01)


def _seen(maps, points, angles_rad):
    """The largest of what views (views, c, rows, columns) show of points: (c, n)."""
    shown = []
    for view, angle in zip(maps, angles_rad):
        x, y, z = ((points - 0.5) * BOX_MM).T
        towards, sideways = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        at = np.stack([sideways, -z], axis=1) * (SDD_MM / (SOD_MM - towards))[:, None] / (DETECTOR_MM / 2)
        shown.append(functional.grid_sample(view[None], torch.from_numpy(at)[None, :, None], align_corners=True)[0, :, :, 0])
    return torch.stack(shown).amax(dim=0)
