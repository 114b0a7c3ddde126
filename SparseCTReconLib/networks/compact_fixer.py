"""The compact SliceFixer: a one-step conditional U-Net that says what a sparse-view slice lacks.

It looks at a slice with its neighbours and adds a correction to the slice. What it is told of the whole, the part of the body and two
orthogonal X-rays, scales and shifts its features (FiLM); of the X-rays it reads the rows beside the slice. There is no normalisation, so
that it sees attenuation as it is, and its last layer starts at zero, so that it begins as the identity.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .. import weight_files
from ..fields.anatomy import ANATOMIES
from ..weight_files import WeightFile
from .filled import network_of

REACH = 2
"""Neighbours on either side of a slice that are looked at."""

FACTOR = 16
"""Pixels along each edge must be a multiple of this; `CompactFixer` pads."""

XRAY = 64
"""Rows and columns that X-rays are resampled to."""

CONDITION = 128
PIXELS_AT_ONCE = 1 << 18
FORMAT = "SparseCTRecon slice-fixer compact 1"


class Residual(nn.Module):
    """x + conv(act(film(conv(act(x))))), as many channels out as in; the identity at first."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(CONDITION, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.film, self.second):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(functional.silu(x)) * (1 + scale) + shift
        return x + self.second(functional.silu(inner))


class Conditions(nn.Module):
    """One vector for each slice, of the part of the body and of the X-rays' rows beside the slice."""

    def __init__(self):
        super().__init__()
        widths = (2, 16, 32, 48)
        self.looks = nn.ModuleList(nn.Conv2d(a, b, (5, 3), stride=(1, 2), padding=(2, 1)) for a, b in zip(widths, widths[1:]))
        self.rows = nn.Linear(widths[-1] * XRAY // 8, CONDITION)
        self.organ = nn.Embedding(len(ANATOMIES) + 1, CONDITION)
        self.mix = nn.Linear(CONDITION, CONDITION)

    def forward(self, xrays: torch.Tensor, position: torch.Tensor, organ: torch.Tensor) -> torch.Tensor:
        """X-rays (n, 2, XRAY, XRAY), positions (n,) of the slices between 0 and 1, and indices (n,) of organs: (n, CONDITION)."""
        for look in self.looks:
            xrays = functional.silu(look(xrays))
        at = (position * XRAY - 0.5).clamp(0, XRAY - 1)
        low = at.floor().long().clamp(max=XRAY - 2)
        share = (at - low)[:, None, None]
        each = torch.arange(len(xrays))
        rows = xrays[each, :, low] * (1 - share) + xrays[each, :, low + 1] * share
        return self.mix(functional.silu(self.rows(rows.flatten(1)) + self.organ(organ)))


class CompactNetwork(nn.Module):
    """U-Net on a half, a quarter, an eighth and a sixteenth of the pixels along each edge.

    Parameters
    ----------
    widths : tuple of int
        Channels on the four levels.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 192)):
        super().__init__()
        self.widths = tuple(widths)
        self.conditions = Conditions()
        self.stem = nn.Conv2d(4 * (2 * REACH + 1), widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.before = nn.ModuleList(Residual(width) for width in widths)
        self.deepest = Residual(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.after = nn.ModuleList(Residual(width) for width in widths[:-1])
        self.finest = Residual(widths[0])
        self.last = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, slabs: torch.Tensor, xrays: torch.Tensor, position: torch.Tensor, organ: torch.Tensor) -> torch.Tensor:
        """Repaired slices (n, y, x) of slabs (n, 2 REACH + 1, y, x), water 1 and air 0; edges must be multiples of `FACTOR`.

        The further arguments are those of `Conditions`.
        """
        condition = self.conditions(xrays, position, organ)
        x, kept = self.stem(functional.pixel_unshuffle(slabs, 2)), []
        for level, block in enumerate(self.before):
            x = block(x if level == 0 else self.down[level - 1](x), condition)
            kept.append(x)
        x = self.deepest(x, condition)
        for level in reversed(range(len(self.after))):
            x = self.after[level](kept[level] + self.up[level](x), condition)
        correction = self.last(functional.silu(self.finest(x, condition)))
        return slabs[:, REACH] + functional.pixel_shuffle(correction, 2)[:, 0]


def organ_index(organ: str) -> int:
    """Of an organ in the network's embedding; whatever is none of `ANATOMIES` has the last one."""
    return ANATOMIES.index(organ) if organ in ANATOMIES else len(ANATOMIES)


def fitted(xrays: np.ndarray) -> torch.Tensor:
    """X-rays (2, z, w) on `XRAY` rows and columns."""
    tensor = torch.from_numpy(np.ascontiguousarray(xrays, dtype=np.float32))[None]
    return functional.interpolate(tensor, (XRAY, XRAY), mode="bilinear", antialias=True)[0]


class CompactFixer:
    """A network with its weights, as `slice_fixer.Fixer` has it.

    Parameters
    ----------
    network : CompactNetwork
    file : WeightFile
        That its weights are from.
    """

    make, edge = "compact", None

    def __init__(self, network: CompactNetwork, file: WeightFile):
        self.network = network.eval()
        self.source, self.anatomies = file.source, tuple(file.card.get("anatomies", ()))

    def repair(self, stack: np.ndarray, xrays: np.ndarray, organ: str) -> np.ndarray:
        """The stack [z, y, x], relative to water, repaired slice by slice."""
        nz, ny, nx = stack.shape
        padding = [(REACH, REACH), (0, -ny % FACTOR), (0, -nx % FACTOR)]
        padded = torch.from_numpy(np.pad(stack.astype(np.float32, copy=False), padding, mode="edge"))
        slabs, xrays = padded.unfold(0, 2 * REACH + 1, 1).movedim(-1, 1), fitted(xrays)
        count = max(1, PIXELS_AT_ONCE // (padded.shape[1] * padded.shape[2]))
        out = np.empty(stack.shape, np.float32)
        with torch.no_grad():
            for first in range(0, nz, count):
                batch = slabs[first : first + count].contiguous(memory_format=torch.channels_last)
                n = len(batch)
                position = (torch.arange(first, first + n) + 0.5) / nz
                told = xrays.expand(n, -1, -1, -1), position, torch.full((n,), organ_index(organ))
                out[first : first + n] = self.network(batch, *told)[:, :ny, :nx].numpy()
        return out


def save(network: CompactNetwork, path, card: dict) -> None:
    """Write weights as float16, with a card of JSON values that says what they were trained on ("anatomies") and how."""
    arrays = {name: tensor.detach().half().contiguous().numpy() for name, tensor in network.state_dict().items()}
    weight_files.write(path, FORMAT, {**card, "widths": network.widths}, arrays)


def from_file(file: WeightFile) -> CompactNetwork:
    """The network of a file that `save` wrote; InputError where its weights do not fit."""
    network = network_of(file, lambda card: CompactNetwork(tuple(card["widths"])))
    return network.to(memory_format=torch.channels_last)
