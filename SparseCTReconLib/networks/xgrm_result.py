"""What X-GRM makes of a scan: a volume, and X-rays from where none was taken."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..geometry import Geometry
from ..grid import Grid
from ..scan import Scan
from .dice_views import Box
from .first_volume import First
from .posed_views import posed
from .voxel_gaussians import gaussians, render, render_voxels
from .xgrm import GAUSSIANS, XGRM


class Reconstruction:
    """A scan that the network has looked at once, and decodes for whatever is asked.

    Parameters
    ----------
    network : XGRM
        On the device that is to do the work; on CUDA it works in bfloat16 where that does no harm.
    scan : Scan
        Three views or more.
    grid : Grid
        Voxels of the volume, and places of the Gaussians.
    first : array [z, y, x], optional
        For a network that is shown one: a first volume in 1/mm on the grid, as `first_volume` says.

    Raises
    ------
    InputError
        Where there are too few views.
    """

    def __init__(self, network: XGRM, scan: Scan, grid: Grid, first: np.ndarray | None = None):
        self.network, self.grid, self.mu_water = network.eval(), grid, scan.mu_water
        self.box = Box.of(scan.geometry)
        views = posed(scan, self.box, network.size.edge, network.size.patch).to(network.device)
        shown = None if first is None else First.of(first / np.float32(scan.mu_water), grid, self.box).to(network.device)
        with torch.no_grad(), self._precision():
            self.maps = network.look(views, shown)

    def _precision(self, enabled: bool = True):
        device = self.network.device.type
        return torch.autocast(device, torch.bfloat16, enabled=enabled and device == "cuda")

    @torch.no_grad()
    def volume(self, grid: Grid | None = None) -> np.ndarray:
        """Attenuation in 1/mm [z, y, x], on other voxels where a grid is given."""
        grid = grid or self.grid
        mu = np.empty(int(np.prod(grid.size)), np.float32)
        with self._precision():
            for start, raw in self.network.decode(self.maps, self.box, grid):
                mu[start : start + len(raw)] = (functional.softplus(raw[:, 0]) * self.mu_water).cpu().numpy()
        return mu.reshape(grid.shape)

    @torch.no_grad()
    def xrays(self, geometry: Geometry) -> np.ndarray:
        """Line integrals (views, v, u) in any geometry: of the Gaussians, or of the volume where the network has none."""
        if self.network.size.head != GAUSSIANS:
            return render_voxels(torch.from_numpy(self.volume()).to(self.network.device), self.grid, geometry).cpu().numpy()
        total = np.zeros((geometry.views, *geometry.detector_shape), np.float32)
        with self._precision():
            for start, raw in self.network.decode(self.maps, self.box, self.grid):
                with self._precision(enabled=False):
                    total += render(gaussians(raw, self.grid, start, self.mu_water), self.grid, geometry).cpu().numpy()
        return total
