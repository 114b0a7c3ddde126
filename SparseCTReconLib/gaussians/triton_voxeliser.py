"""Values of Gaussians at voxels as Triton kernels, for NVIDIA GPUs; see `triton_rasteriser`, whose plan this follows.

Forward, a program owns a tile of 8 x 8 x 8 voxels and adds up the Gaussians of its list; backward, a program owns a Gaussian and sums up
the first and second moments of the gradient about it, of which its own gradients are made. Beside the volume and the Gaussians only the
lists of one region of tiles are held.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..grid import Grid
from . import tile_lists
from ._gaussian import REACH
from .triton_rasteriser import add, contiguous

TILE, AT_ONCE, FORWARD_WARPS = 8, 2, 4
"""Voxels along a tile's edge; Gaussians that a program of `_fill` takes at once, and its warps."""

TABLED = 128
OWNED, VOXELS, BACKWARD_WARPS = 1, 64, 1
"""Gaussians of a program of `_bound`; of one of `_fill_back`, the voxels of each that it takes at once, and its warps."""

COLUMNS = tl.constexpr(16)
"""Of the table: place x, y, z in voxels of the box as whole, then as rest; M of one voxel by rows; density."""


@triton.jit
def _line(m, inside):
    """Three numbers of a matrix, float64."""
    x, y, z = tl.load(m, mask=inside, other=0.0), tl.load(m + 1, mask=inside, other=0.0), tl.load(m + 2, mask=inside, other=0.0)
    return x.to(tl.float64), y.to(tl.float64), z.to(tl.float64)


@triton.jit
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def _within(centre, half, spacing, first, count):
    """First index and last + 1, within 0 .. count, of voxels at most `half` mm from a centre along one axis; 0, 0 if there are none."""
    low = tl.maximum(tl.ceil((centre - half) / spacing - first), 0.0)
    high = tl.minimum(tl.floor((centre + half) / spacing - first), count - 1.0)
    found = high >= low
    return tl.where(found, low, 0.0).to(tl.int32), tl.where(found, high + 1, 0.0).to(tl.int32)


@triton.jit(do_not_specialize=["count", "first_z", "first_y", "first_x", "nz", "ny", "nx"])
def _bound(
    centres, whitening, density, spacing, table, boxes, count, first_z, first_y, first_x, nz, ny, nx,
    REACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fill the table, and the boxes of voxels [z, y, x], first and last + 1, that each Gaussian reaches; all 0 where there are none."""
    g = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = g < count
    sx, sy, sz = tl.load(spacing), tl.load(spacing + 1), tl.load(spacing + 2)
    x, y, z = _line(centres + 3 * g, inside)
    m00, m01, m02 = _line(whitening + 9 * g, inside)
    m10, m11, m12 = _line(whitening + 9 * g + 3, inside)
    m20, m21, m22 = _line(whitening + 9 * g + 6, inside)

    row = table + g * COLUMNS
    u, v, w = x / sx - first_x, y / sy - first_y, z / sz - first_z
    tl.store(row, tl.floor(u).to(tl.float32), mask=inside)
    tl.store(row + 1, tl.floor(v).to(tl.float32), mask=inside)
    tl.store(row + 2, tl.floor(w).to(tl.float32), mask=inside)
    tl.store(row + 3, (u - tl.floor(u)).to(tl.float32), mask=inside)
    tl.store(row + 4, (v - tl.floor(v)).to(tl.float32), mask=inside)
    tl.store(row + 5, (w - tl.floor(w)).to(tl.float32), mask=inside)
    tl.store(row + 6, (m00 * sx).to(tl.float32), mask=inside)
    tl.store(row + 7, (m01 * sy).to(tl.float32), mask=inside)
    tl.store(row + 8, (m02 * sz).to(tl.float32), mask=inside)
    tl.store(row + 9, (m10 * sx).to(tl.float32), mask=inside)
    tl.store(row + 10, (m11 * sy).to(tl.float32), mask=inside)
    tl.store(row + 11, (m12 * sz).to(tl.float32), mask=inside)
    tl.store(row + 12, (m20 * sx).to(tl.float32), mask=inside)
    tl.store(row + 13, (m21 * sy).to(tl.float32), mask=inside)
    tl.store(row + 14, (m22 * sz).to(tl.float32), mask=inside)
    tl.store(row + 15, tl.load(density + g, mask=inside, other=0.0), mask=inside)

    # The rows of the inverse of M, which say how far the ellipsoid reaches along x, y and z, are cross products over the determinant.
    ax, ay, az = _cross(m10, m11, m12, m20, m21, m22)
    bx, by, bz = _cross(m20, m21, m22, m00, m01, m02)
    cx, cy, cz = _cross(m00, m01, m02, m10, m11, m12)
    determinant = m00 * ax + m01 * ay + m02 * az
    regular = inside & (tl.abs(determinant) > 0)
    reach = REACH / tl.abs(tl.where(regular, determinant, 1.0))
    left, right = _within(x, reach * tl.sqrt(ax * ax + bx * bx + cx * cx), sx, first_x, nx)
    top, bottom = _within(y, reach * tl.sqrt(ay * ay + by * by + cy * cy), sy, first_y, ny)
    near, far = _within(z, reach * tl.sqrt(az * az + bz * bz + cz * cz), sz, first_z, nz)
    found = regular & (right > left) & (bottom > top) & (far > near)
    tl.store(boxes + 6 * g, tl.where(found, near, 0), mask=inside)
    tl.store(boxes + 6 * g + 1, tl.where(found, far, 0), mask=inside)
    tl.store(boxes + 6 * g + 2, tl.where(found, top, 0), mask=inside)
    tl.store(boxes + 6 * g + 3, tl.where(found, bottom, 0), mask=inside)
    tl.store(boxes + 6 * g + 4, tl.where(found, left, 0), mask=inside)
    tl.store(boxes + 6 * g + 5, tl.where(found, right, 0), mask=inside)


@triton.jit
def _form(row):
    """Of the table: place and M."""
    x, y, z = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    x_rest, y_rest, z_rest = tl.load(row + 3), tl.load(row + 4), tl.load(row + 5)
    m00, m01, m02 = tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    m10, m11, m12 = tl.load(row + 9), tl.load(row + 10), tl.load(row + 11)
    m20, m21, m22 = tl.load(row + 12), tl.load(row + 13), tl.load(row + 14)
    return x, y, z, x_rest, y_rest, z_rest, m00, m01, m02, m10, m11, m12, m20, m21, m22


@triton.jit
def _meet(form, x, y, z):
    """The way of voxels from a Gaussian's place, and the square of their distance in standard deviations."""
    whole_x, whole_y, whole_z, rest_x, rest_y, rest_z, m00, m01, m02, m10, m11, m12, m20, m21, m22 = form
    x, y, z = (x.to(tl.float32) - whole_x) - rest_x, (y.to(tl.float32) - whole_y) - rest_y, (z.to(tl.float32) - whole_z) - rest_z
    b0, b1, b2 = m00 * x + m01 * y + m02 * z, m10 * x + m11 * y + m12 * z, m20 * x + m21 * y + m22 * z
    return x, y, z, b0 * b0 + b1 * b1 + b2 * b2


@triton.jit(do_not_specialize=["nz", "ny", "nx", "first_z", "first_y", "first_x", "tiles_y", "tiles_x"])
def _fill(
    table, listed, ends, volume, nz, ny, nx, first_z, first_y, first_x, tiles_y, tiles_x,
    REACH: tl.constexpr, TILE: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Add the Gaussians of a tile's list up in its voxels."""
    tile = tl.program_id(0)
    voxel = tl.arange(0, TILE * TILE * TILE)
    z = (first_z + tile // (tiles_y * tiles_x)) * TILE + voxel // (TILE * TILE)
    y = (first_y + tile // tiles_x % tiles_y) * TILE + voxel // TILE % TILE
    x = (first_x + tile % tiles_x) * TILE + voxel % TILE
    end = tl.load(ends + tile + 1)
    total = tl.zeros((AT_ONCE, TILE * TILE * TILE), tl.float32)
    for begin in range(tl.load(ends + tile), end, AT_ONCE):
        number = begin + tl.arange(0, AT_ONCE)
        row = table + (tl.load(listed + number, mask=number < end, other=0) * COLUMNS)[:, None]
        _, _, _, e = _meet(_form(row), x[None, :], y[None, :], z[None, :])
        value = tl.load(row + 15) * tl.exp(-0.5 * e)
        total += tl.where((number < end)[:, None] & (e <= REACH * REACH), value, 0.0)
    inside = (z < nz) & (y < ny) & (x < nx)
    tl.store(volume + (z.to(tl.int64) * ny + y) * nx + x, tl.sum(total, axis=0), mask=inside)


@triton.jit(do_not_specialize=["count", "ny", "nx"])
def _fill_back(
    table, boxes, spacing, gradient, to_centres, to_whitening, to_density, count, ny, nx,
    REACH: tl.constexpr, OWNED: tl.constexpr, VOXELS: tl.constexpr,
):  # fmt: skip
    """Add to the gradients of a program's Gaussians, given that of the box."""
    g = tl.program_id(0) * OWNED + tl.arange(0, OWNED)
    inside = g < count
    box = boxes + 6 * g
    near, top, left = tl.load(box, mask=inside, other=0), tl.load(box + 2, mask=inside, other=0), tl.load(box + 4, mask=inside, other=0)
    deep, high, wide = (
        tl.load(box + 1, mask=inside, other=0),
        tl.load(box + 3, mask=inside, other=0),
        tl.load(box + 5, mask=inside, other=0),
    )
    near, top, left = near[:, None], top[:, None], left[:, None]
    deep, high, wide = deep[:, None] - near, high[:, None] - top, wide[:, None] - left
    reached = tl.sum(deep, axis=1) > 0
    high, wide = tl.maximum(high, 1), tl.maximum(wide, 1)
    row = table + tl.where(reached, g, 0) * COLUMNS
    form = _form(row[:, None])
    lane = tl.arange(0, VOXELS)[None, :]
    x, y, z = lane % wide, lane // wide % high, lane // (wide * high)
    along, down, behind = VOXELS % wide, VOXELS // wide % high, VOXELS // (wide * high)
    zero = tl.zeros((OWNED, VOXELS), tl.float32)
    s, sx, sy, sz, xx, yy, zz, xy, xz, yz = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(0, tl.max(tl.sum(deep * high * wide, axis=1), axis=0), VOXELS):
        dx, dy, dz, e = _meet(form, left + x, top + y, near + z)
        within = (z < deep) & (e <= REACH * REACH)
        at = ((near + z).to(tl.int64) * ny + top + y) * nx + left + x
        h = tl.load(gradient + at, mask=within, other=0.0) * tl.exp(-0.5 * e)
        h = tl.where(within, h, 0.0)
        s += h
        hx, hy, hz = h * dx, h * dy, h * dz
        sx, sy, sz = sx + hx, sy + hy, sz + hz
        xx, yy, zz = xx + hx * dx, yy + hy * dy, zz + hz * dz
        xy, xz, yz = xy + hx * dy, xz + hx * dz, yz + hy * dz
        x, y, z = x + along, y + down, z + behind
        y, x = tl.where(x >= wide, y + 1, y), tl.where(x >= wide, x - wide, x)
        z, y = tl.where(y >= high, z + 1, z), tl.where(y >= high, y - high, y)
    density = tl.load(row + 15)
    add(to_density + g, tl.sum(s, axis=1), reached)
    sx, sy, sz = density * tl.sum(sx, axis=1), density * tl.sum(sy, axis=1), density * tl.sum(sz, axis=1)
    xx, yy, zz = density * tl.sum(xx, axis=1), density * tl.sum(yy, axis=1), density * tl.sum(zz, axis=1)
    xy, xz, yz = density * tl.sum(xy, axis=1), density * tl.sum(xz, axis=1), density * tl.sum(yz, axis=1)
    step_x, step_y, step_z = tl.load(spacing).to(tl.float32), tl.load(spacing + 1).to(tl.float32), tl.load(spacing + 2).to(tl.float32)
    cx, cy, cz = tl.zeros_like(sx), tl.zeros_like(sx), tl.zeros_like(sx)
    for line in tl.static_range(3):
        m, to = row + 6 + 3 * line, to_whitening + 9 * g + 3 * line
        mx, my, mz = tl.load(m), tl.load(m + 1), tl.load(m + 2)
        b = mx * sx + my * sy + mz * sz
        cx, cy, cz = cx + b * mx, cy + b * my, cz + b * mz
        add(to, -(mx * xx + my * xy + mz * xz) * step_x, reached)
        add(to + 1, -(mx * xy + my * yy + mz * yz) * step_y, reached)
        add(to + 2, -(mx * xz + my * yz + mz * zz) * step_z, reached)
    add(to_centres + 3 * g, cx / step_x, reached)
    add(to_centres + 3 * g + 1, cy / step_y, reached)
    add(to_centres + 3 * g + 2, cz / step_z, reached)


class TritonVoxeliser:
    """As `voxeliser.Voxeliser`, on a GPU.

    Parameters
    ----------
    grid : Grid
        As `Voxeliser` takes it.
    device : str
        Where the Gaussians lie: "cuda", or "cpu" for Triton's interpreter.
    """

    backend = "triton"

    def __init__(self, grid: Grid, device: str = "cuda"):
        self.grid, self.spacing = grid, torch.tensor(grid.spacing_mm, dtype=torch.float64, device=device)

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, first=(0, 0, 0), shape=None) -> torch.Tensor:
        """Values in 1/mm [z, y, x], differentiable; for the arguments see `Voxeliser`."""
        return _Fill.apply(centres, whitening, density, self, tuple(map(int, first)), tuple(shape or self.grid.shape))

    def bound(self, arrays: tuple[torch.Tensor, ...], first, shape) -> tuple[torch.Tensor, torch.Tensor]:
        """The table (n, 16), and the boxes (n, 3, 2) of voxels that each Gaussian reaches."""
        count, device = len(arrays[0]), self.spacing.device
        table = torch.empty(count, COLUMNS.value, device=device)
        boxes = torch.empty(count, 3, 2, dtype=torch.int32, device=device)
        if count:
            _bound[(triton.cdiv(count, TABLED),)](*arrays, self.spacing, table, boxes, count, *first, *shape, REACH=REACH, BLOCK=TABLED)
        return table, boxes

    def fill(self, arrays: tuple[torch.Tensor, ...], first, shape) -> torch.Tensor:
        """The box [z, y, x]."""
        volume = torch.zeros(shape, device=self.spacing.device)
        table, boxes = self.bound(arrays, first, shape)
        for region in tile_lists.regions(tile_lists.tile_boxes(boxes, TILE), tuple(triton.cdiv(n, TILE) for n in shape)):
            if region.pairs:
                _fill[(region.tiles,)](
                    table, *tile_lists.by_torch(region), volume, *shape, *region.first, *region.shape[1:],
                    REACH=REACH, TILE=TILE, AT_ONCE=AT_ONCE, num_warps=FORWARD_WARPS,
                )  # fmt: skip
        return volume

    def gradients(self, arrays: tuple[torch.Tensor, ...], first, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of centres, whitening and density, given that of the box [z, y, x]."""
        to, count = tuple(torch.zeros_like(tensor) for tensor in arrays), len(arrays[0])
        if count:
            _fill_back[(triton.cdiv(count, OWNED),)](
                *self.bound(arrays, first, gradient.shape), self.spacing, gradient, *to, count, *gradient.shape[1:],
                REACH=REACH, OWNED=OWNED, VOXELS=VOXELS, num_warps=BACKWARD_WARPS,
            )  # fmt: skip
        return to


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centres, whitening, density, voxeliser, first, shape):
        ctx.save_for_backward(centres, whitening, density)
        ctx.voxeliser, ctx.first = voxeliser, first
        return voxeliser.fill(contiguous(centres, whitening, density), first, shape)

    @staticmethod
    def backward(ctx, gradient):
        return *ctx.voxeliser.gradients(contiguous(*ctx.saved_tensors), ctx.first, gradient.contiguous()), None, None, None
