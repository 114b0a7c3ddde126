"""Features exchanged for the nearest entry of a codebook, which follows them (van den Oord et al. 2017; Razavi et al. 2019).

    forward   q(z) = the code e_k nearest to z           gradient of q with regard to z = 1  (straight-through)
    loss      mean |z - sg(q(z))|^2
    codebook  N_k <- d N_k + (1 - d) n_k,   S_k <- d S_k + (1 - d) sum of the z nearest to e_k,   e_k = S_k / N_k

n_k: how many z are nearest to e_k; d: decay. No e_k is learnt by gradient. The codes begin as features of the first batch, for those that
begin elsewhere are hardly ever nearest to anything.
"""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.nn import functional

DECAY = 0.99
SMOOTHING = 1e-5


class VectorQuantiser(nn.Module):
    """A codebook between two layers that mix channels.

    Parameters
    ----------
    channels : int
    codes : int
        Entries of the codebook.
    """

    def __init__(self, channels: int, codes: int):
        super().__init__()
        self.before = nn.Conv3d(channels, channels, 1)
        self.after = nn.Conv3d(channels, channels, 1)
        self.register_buffer("codes", torch.randn(codes, channels))
        self.register_buffer("sizes", torch.ones(codes))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("begun", torch.tensor(False))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (b, c, z, y, x) exchanged, and the loss that draws them to their codes; while it trains, the codebook follows."""
        x = self.before(x)
        with torch.autocast(x.device.type, enabled=False):
            features = x.float().movedim(1, -1)
            flat = features.reshape(-1, features.shape[-1])
            if self.training and not self.begun:
                self._begin(flat.detach())
            nearest = self.nearest(flat.detach())
            chosen = functional.embedding(nearest, self.codes).view_as(features)
            loss = functional.mse_loss(features, chosen)
            if self.training:
                self._follow(flat.detach(), nearest)
            through = features + (chosen - features).detach()
        return self.after(through.movedim(-1, 1).to(x.dtype)), loss

    def nearest(self, flat: torch.Tensor) -> torch.Tensor:
        """Indices (n,) of the codes nearest to features (n, c)."""
        return torch.addmm(self.codes.square().sum(dim=1), flat, self.codes.T, alpha=-2).argmin(dim=1)

    def settle(self) -> None:
        """Make the sums what codes and sizes say that they are: for codes that came without."""
        self.sums.copy_(self.codes * self._smoothed()[:, None])
        self.begun.fill_(True)

    def _smoothed(self) -> torch.Tensor:
        """The sizes, none of them 0, with the same sum."""
        total = self.sizes.sum()
        return (self.sizes + SMOOTHING) / (total + len(self.sizes) * SMOOTHING) * total

    @torch.no_grad()
    def _begin(self, flat: torch.Tensor) -> None:
        """Codes from features that differ, evenly among them in their order; fewer than codes are given more than once."""
        different = torch.unique(flat, dim=0)
        pick = torch.linspace(0, len(different) - 1, len(self.codes), device=flat.device).round().long()
        self.codes.copy_(different[pick])
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(self.codes, 0)
        self.settle()

    @torch.no_grad()
    def _follow(self, flat: torch.Tensor, nearest: torch.Tensor) -> None:
        counts = torch.bincount(nearest, minlength=len(self.codes)).float()
        sums = torch.zeros_like(self.sums).index_add_(0, nearest, flat)
        if distributed.is_available() and distributed.is_initialized():
            for share in (counts, sums):
                distributed.all_reduce(share)
        self.sizes.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        self.codes.copy_(self.sums / self._smoothed()[:, None])
