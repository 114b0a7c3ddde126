"""The cone-beam operator: line integrals A(x) of a volume and the exact adjoint A.T(y), on any subset of views, inside autograd.

    A = projector(geometry, grid)
    y = A(x)             # x: mu in 1/mm [z, y, x];  y: line integrals [view, v, u]
    x = A.T(y)
    A[::5]               # every fifth view

Tensors are float32. On the CPU volumes and projections are kept with z and v contiguous in memory; the shapes are unchanged.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Geometry
from ..grid import Grid
from . import reference

log = logging.getLogger("SparseCTReconLib.operators")

BACKENDS = ("columnar", "general", "torch")


class Projector:
    """A linear map from volumes [z, y, x] in 1/mm to line integrals [view, v, u], with its adjoint.

    Parameters
    ----------
    geometry : Geometry
        Poses of the views.
    grid : Grid
        Voxels of the volume.
    backend : str
        "columnar" (numba; detector columns parallel to the grid's z axis), "general" (numba; any pose) or "torch" (readable
        reference, any device).
    device : str
        "cpu", or a CUDA device with the torch backend.
    """

    def __init__(self, geometry: Geometry, grid: Grid, backend: str, device: str = "cpu"):
        self.geometry, self.grid, self.backend, self.device = geometry, grid, backend, device
        self.rays = index_rays(geometry, grid)
        self._spacing = np.array(grid.spacing_mm)

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        return self.grid.shape

    @property
    def projection_shape(self) -> tuple[int, int, int]:
        return (self.geometry.views, *self.geometry.detector_shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Line integrals of `x`, differentiable."""
        return _Apply.apply(x, self, False)

    def T(self, y: torch.Tensor) -> torch.Tensor:  # noqa: N802  (the mathematical sign for the transpose)
        """Back-projection of `y` by the exact adjoint, differentiable."""
        return _Apply.apply(y, self, True)

    def __getitem__(self, views) -> Projector:
        return Projector(self.geometry[views], self.grid, self.backend, self.device)

    def zeros(self) -> torch.Tensor:
        """A volume of zeros in the memory order that the operator likes best."""
        return self._empty_volume().zero_()

    def volume(self, array) -> torch.Tensor:
        """`array` [z, y, x] as a float32 tensor in the operator's memory order and on its device."""
        return self._empty_volume().copy_(_of_shape(torch.as_tensor(np.ascontiguousarray(array)), self.volume_shape))

    def projections(self, array) -> torch.Tensor:
        """`array` [view, v, u] as a float32 tensor in the operator's memory order and on its device."""
        return self._empty_projections().copy_(_of_shape(torch.as_tensor(np.ascontiguousarray(array)), self.projection_shape))

    def _empty_volume(self) -> torch.Tensor:
        return torch.empty(self.grid.size, dtype=torch.float32, device=self.device).permute(2, 1, 0)

    def _empty_projections(self) -> torch.Tensor:
        views, nv, nu = self.projection_shape
        return torch.empty((views, nu, nv), dtype=torch.float32, device=self.device).permute(0, 2, 1)

    def _apply(self, tensor: torch.Tensor, adjoint: bool) -> torch.Tensor:
        tensor = _of_shape(tensor, self.projection_shape if adjoint else self.volume_shape)
        if self.backend == "torch":
            apply = reference.adjoint if adjoint else reference.forward
            return apply(tensor.to(torch.float32), self.rays, self.grid, self.projection_shape)
        from . import columnar, general

        kernels, rays = (columnar, np.delete(self.rays, (9, 10), axis=1)) if self.backend == "columnar" else (general, self.rays)
        out = self._empty_volume() if adjoint else self._empty_projections()
        source = _as_kernel_array(tensor, adjoint)
        target = _as_kernel_array(out, not adjoint)
        (kernels.adjoint if adjoint else kernels.forward)(source, rays, self._spacing, target)
        return out


class _Apply(torch.autograd.Function):
    """The operator in autograd: the gradient of A is A.T and the other way round."""

    @staticmethod
    def forward(ctx, tensor, operator, adjoint):
        ctx.operator, ctx.adjoint = operator, adjoint
        return operator._apply(tensor.detach(), adjoint)

    @staticmethod
    def backward(ctx, gradient):
        return _Apply.apply(gradient, ctx.operator, not ctx.adjoint), None, None


def _of_shape(tensor: torch.Tensor, expected: tuple[int, ...]) -> torch.Tensor:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"expected a tensor of shape {expected}, got {tuple(tensor.shape)}")
    return tensor


def _as_kernel_array(tensor: torch.Tensor, projections: bool) -> np.ndarray:
    """A contiguous float32 array [view, u, v] or [x, y, z]; shares memory when the tensor came from an operator."""
    swapped = tensor.permute(0, 2, 1) if projections else tensor.permute(2, 1, 0)
    return swapped.to(torch.float32).contiguous().numpy()


def index_rays(geometry: Geometry, grid: Grid) -> np.ndarray:
    """Poses in the grid's index space, (views, 12) float64: source; source to pixel (0, 0); step per column; step per row."""
    matrix = grid.world_to_index
    rotate = matrix[:3, :3].T
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    source = geometry.source @ rotate + matrix[:3, 3]
    centre = geometry.detector @ rotate + matrix[:3, 3]
    u, v = geometry.u @ rotate * du, geometry.v @ rotate * dv
    first = centre - u * (nu - 1) / 2 - v * (nv - 1) / 2 - source
    return np.concatenate([source, first, u, v], axis=1)


def is_columnar(geometry: Geometry, grid: Grid) -> bool:
    """Whether detector columns are parallel to the grid's z axis and no ray runs mainly along it."""
    rays = index_rays(geometry, grid)
    v = rays[:, 9:12]
    if (np.abs(v[:, :2]) > 1e-9 * np.abs(v[:, 2:])).any():
        return False
    nv, nu = geometry.detector_shape
    corners = [rays[:, 3:6] + a * rays[:, 6:9] + b * v for a in (0, nu - 1) for b in (0, nv - 1)]
    across = np.stack([rays[:, 3:6] + a * rays[:, 6:9] for a in np.linspace(0, nu - 1, 33)])[:, :, :2]
    flattest = np.abs(across).max(axis=2).min(axis=0)
    return bool((np.abs(np.stack(corners)[:, :, 2]).max(axis=0) < 0.98 * flattest).all())


def projector(geometry: Geometry, grid: Grid, device: str = "cpu", backend: str | None = None) -> Projector:
    """The operator for a geometry and a grid.

    Parameters
    ----------
    geometry, grid : Geometry, Grid
        Views and voxels.
    device : str
        "cpu" or "cuda".
    backend : str, optional
        One of `BACKENDS`; by default the fastest that fits geometry and device.

    Raises
    ------
    InputError
        For an unknown backend, or one that does not fit.
    """
    columnar = is_columnar(geometry, grid)
    chosen = backend or ("torch" if str(device) != "cpu" else "columnar" if columnar else "general")
    if chosen not in BACKENDS:
        raise InputError(f"no projector backend {chosen!r}: choose one of {', '.join(BACKENDS)}", "unknown-backend")
    if chosen == "columnar" and not columnar:
        raise InputError("the columnar projector needs detector columns parallel to the grid's z axis; use 'general'", "bad-backend")
    log.debug("projector backend %s on %s", chosen, device)
    return Projector(geometry, grid, chosen, str(device))
