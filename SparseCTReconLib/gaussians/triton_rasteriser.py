"""Line integrals of Gaussians as Triton kernels, for NVIDIA GPUs; `rasteriser` has the formulas, whose names are used here too.

Import it only where Triton is wanted: an install without CUDA has none. With TRITON_INTERPRET=1 in the environment before Triton is
first imported, the kernels run in Python on CPU tensors; so they are tested. Compiled for compute capabilities 7.5 to 9.0 they spill no
registers and threads exchange nothing but the sums at a Gaussian's end; no GPU has run or timed them yet.

Forward, a program owns a tile of the detector and adds up the Gaussians of its list, in their order. Backward, a program owns a Gaussian
and walks over its box of pixels, so that nothing is written by two programs: no atomics, no sums of each pair of a tile and a Gaussian to
be kept, and the same result in every run. What is large is found in float64, places as a whole number of pixels and the rest.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..geometry import Geometry
from ..grid import Grid
from ..operators.projector import index_rays
from . import tile_lists
from ._gaussian import REACH
from .rasteriser import NEAREST

TILE, AT_ONCE, FORWARD_WARPS = 16, 4, 4
"""Pixels along a tile's edge; Gaussians that a program of `_project` takes at once, and its warps."""

TABLED = 128
OWNED, PIXELS, BACKWARD_WARPS = 1, 64, 1
"""Gaussians of a program of `_see`; of one of `_project_back`, the pixels of each that it takes at once, and its warps."""

COLUMNS = tl.constexpr(16)
"""Of the table: place u, v as whole and rest, M w there, M q of one pixel in u and in v, 1 / depth, sqrt(2 pi) times the density."""

ROOT_TWO_PI = tl.constexpr(2.5066282746310002)


@triton.jit
def _span(square, linear, constant, centre, count):
    """First index and last + 1, within 0 .. count, where square x^2 + 2 linear x + constant <= 0, x being index - centre; 0, 0 if none."""
    inner = linear * linear - square * constant
    found = (inner > 0) & (square > 0)
    square = tl.where(found, square, 1.0)
    half = tl.sqrt(tl.where(found, inner, 0.0))
    first = tl.maximum(tl.ceil(centre + (-linear - half) / square), 0.0)
    last = tl.minimum(tl.floor(centre + (-linear + half) / square), count - 1.0)
    found = found & (last >= first)
    return tl.where(found, first, 0.0).to(tl.int32), tl.where(found, last + 1, 0.0).to(tl.int32)


@triton.jit
def _turned(whitening, g, inside, x, y, z):
    """M of a vector, in float64."""
    m = whitening + 9 * g
    a = tl.load(m, mask=inside, other=0.0) * x + tl.load(m + 1, mask=inside, other=0.0) * y + tl.load(m + 2, mask=inside, other=0.0) * z
    b = tl.load(m + 3, mask=inside, other=0.0) * x + tl.load(m + 4, mask=inside, other=0.0) * y + tl.load(m + 5, mask=inside, other=0.0) * z
    c = tl.load(m + 6, mask=inside, other=0.0) * x + tl.load(m + 7, mask=inside, other=0.0) * y + tl.load(m + 8, mask=inside, other=0.0) * z
    return a, b, c


@triton.jit(do_not_specialize=["count", "nv", "nu"])
def _see(centres, whitening, density, ray, table, boxes, count, nv, nu, REACH: tl.constexpr, NEAREST: tl.constexpr, BLOCK: tl.constexpr):
    """Fill the table, and the boxes of pixels [v, u], first and last + 1, in which a view sees each Gaussian; all 0 where it does not."""
    g = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = g < count
    sx, sy, sz, fx, fy, fz = tl.load(ray), tl.load(ray + 1), tl.load(ray + 2), tl.load(ray + 3), tl.load(ray + 4), tl.load(ray + 5)
    ux, uy, uz, vx, vy, vz = tl.load(ray + 6), tl.load(ray + 7), tl.load(ray + 8), tl.load(ray + 9), tl.load(ray + 10), tl.load(ray + 11)
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    qx = tl.load(centres + 3 * g, mask=inside, other=0.0).to(tl.float64) - sx
    qy = tl.load(centres + 3 * g + 1, mask=inside, other=0.0).to(tl.float64) - sy
    qz = tl.load(centres + 3 * g + 2, mask=inside, other=0.0).to(tl.float64) - sz
    depth = (qx * nx + qy * ny + qz * nz) / (fx * nx + fy * ny + fz * nz)
    seen = inside & (depth > NEAREST)
    depth = tl.where(seen, depth, 1.0)
    wx, wy, wz = qx / depth, qy / depth, qz / depth
    dx, dy, dz = wx - fx, wy - fy, wz - fz
    du, dv = dx * ux + dy * uy + dz * uz, dx * vx + dy * vy + dz * vz
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    determinant = uu * vv - uv * uv
    u, v = (du * vv - dv * uv) / determinant, (dv * uu - du * uv) / determinant
    a0, a1, a2 = _turned(whitening, g, inside, wx, wy, wz)
    u0, u1, u2 = _turned(whitening, g, inside, depth * ux, depth * uy, depth * uz)
    v0, v1, v2 = _turned(whitening, g, inside, depth * vx, depth * vy, depth * vz)

    row = table + g * COLUMNS
    tl.store(row, tl.floor(u).to(tl.float32), mask=inside)
    tl.store(row + 1, (u - tl.floor(u)).to(tl.float32), mask=inside)
    tl.store(row + 2, tl.floor(v).to(tl.float32), mask=inside)
    tl.store(row + 3, (v - tl.floor(v)).to(tl.float32), mask=inside)
    tl.store(row + 4, a0.to(tl.float32), mask=inside)
    tl.store(row + 5, a1.to(tl.float32), mask=inside)
    tl.store(row + 6, a2.to(tl.float32), mask=inside)
    tl.store(row + 7, u0.to(tl.float32), mask=inside)
    tl.store(row + 8, u1.to(tl.float32), mask=inside)
    tl.store(row + 9, u2.to(tl.float32), mask=inside)
    tl.store(row + 10, v0.to(tl.float32), mask=inside)
    tl.store(row + 11, v1.to(tl.float32), mask=inside)
    tl.store(row + 12, v2.to(tl.float32), mask=inside)
    tl.store(row + 13, (1 / depth).to(tl.float32), mask=inside)
    tl.store(row + 14, tl.load(density + g, mask=inside, other=0.0) * ROOT_TWO_PI, mask=inside)

    near, reach = 1 / depth, REACH * REACH
    aa, au, av = a0 * a0 + a1 * a1 + a2 * a2, a0 * u0 + a1 * u1 + a2 * u2, a0 * v0 + a1 * v1 + a2 * v2
    uu, uv, vv = u0 * u0 + u1 * u1 + u2 * u2, u0 * v0 + u1 * v1 + u2 * v2, v0 * v0 + v1 * v1 + v2 * v2
    far = reach * near * near
    uu, uv, vv = aa * uu - au * au - far * uu, aa * uv - au * av - far * uv, aa * vv - av * av - far * vv
    u1, v1, ones = -reach * near * au, -reach * near * av, -reach * aa
    square = uu * vv - uv * uv
    closed = seen & (uu > 0)
    top, bottom = _span(square, uu * v1 - uv * u1, uu * ones - u1 * u1, v, nv)
    left, right = _span(square, vv * u1 - uv * v1, vv * ones - v1 * v1, u, nu)
    closed = closed & (bottom > top) & (right > left)
    tl.store(boxes + 4 * g, tl.where(closed, top, 0), mask=inside)
    tl.store(boxes + 4 * g + 1, tl.where(closed, bottom, 0), mask=inside)
    tl.store(boxes + 4 * g + 2, tl.where(closed, left, 0), mask=inside)
    tl.store(boxes + 4 * g + 3, tl.where(closed, right, 0), mask=inside)


@triton.jit
def _pose(ray):
    """Way from the source to the first pixel, and steps to the next in u and in v, float32."""
    fx, fy, fz = tl.load(ray + 3).to(tl.float32), tl.load(ray + 4).to(tl.float32), tl.load(ray + 5).to(tl.float32)
    ux, uy, uz = tl.load(ray + 6).to(tl.float32), tl.load(ray + 7).to(tl.float32), tl.load(ray + 8).to(tl.float32)
    vx, vy, vz = tl.load(ray + 9).to(tl.float32), tl.load(ray + 10).to(tl.float32), tl.load(ray + 11).to(tl.float32)
    return fx, fy, fz, ux, uy, uz, vx, vy, vz


@triton.jit
def _length(pose, u, v):
    """Distance in mm from the source to pixels."""
    fx, fy, fz, ux, uy, uz, vx, vy, vz = pose
    u, v = u.to(tl.float32), v.to(tl.float32)
    x, y, z = fx + u * ux + v * vx, fy + u * uy + v * vy, fz + u * uz + v * vz
    return tl.sqrt(x * x + y * y + z * z)


@triton.jit
def _form(row):
    """Of the table: place, M w there, M q of one pixel in u and in v, 1 / depth."""
    u, u_rest, v, v_rest = tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    a0, a1, a2, near = tl.load(row + 4), tl.load(row + 5), tl.load(row + 6), tl.load(row + 13)
    u0, u1, u2 = tl.load(row + 7), tl.load(row + 8), tl.load(row + 9)
    v0, v1, v2 = tl.load(row + 10), tl.load(row + 11), tl.load(row + 12)
    return u, u_rest, v, v_rest, a0, a1, a2, u0, u1, u2, v0, v1, v2, near


@triton.jit
def _meet(form, u, v):
    """At pixels: their way du, dv from a Gaussian's place; a; 1 / |a|^2; a b / |a|^2; the part r of b at right angles to a."""
    whole_u, rest_u, whole_v, rest_v, a0, a1, a2, u0, u1, u2, v0, v1, v2, near = form
    du, dv = (u.to(tl.float32) - whole_u) - rest_u, (v.to(tl.float32) - whole_v) - rest_v
    b0, b1, b2 = du * u0 + dv * v0, du * u1 + dv * v1, du * u2 + dv * v2
    a0, a1, a2 = a0 + b0 * near, a1 + b1 * near, a2 + b2 * near
    inverse = 1 / (a0 * a0 + a1 * a1 + a2 * a2)
    k = (a0 * b0 + a1 * b1 + a2 * b2) * inverse
    return du, dv, a0, a1, a2, inverse, k, b0 - k * a0, b1 - k * a1, b2 - k * a2


@triton.jit(do_not_specialize=["nv", "nu", "first_v", "first_u", "tiles_u"])
def _project(
    table, listed, ends, ray, image, nv, nu, first_v, first_u, tiles_u, REACH: tl.constexpr, TILE: tl.constexpr, AT_ONCE: tl.constexpr
):
    """Add the Gaussians of a tile's list up in its pixels."""
    tile = tl.program_id(0)
    pixel = tl.arange(0, TILE * TILE)
    v = (first_v + tile // tiles_u) * TILE + pixel // TILE
    u = (first_u + tile % tiles_u) * TILE + pixel % TILE
    end = tl.load(ends + tile + 1)
    total = tl.zeros((AT_ONCE, TILE * TILE), tl.float32)
    for begin in range(tl.load(ends + tile), end, AT_ONCE):
        number = begin + tl.arange(0, AT_ONCE)
        g = tl.load(listed + number, mask=number < end, other=0)
        row = table + (g * COLUMNS)[:, None]
        _, _, _, _, _, inverse, _, r0, r1, r2 = _meet(_form(row), u[None, :], v[None, :])
        e = r0 * r0 + r1 * r1 + r2 * r2
        value = tl.load(row + 14) * tl.sqrt(inverse) * tl.exp(-0.5 * e)
        total += tl.where((number < end)[:, None] & (e <= REACH * REACH), value, 0.0)
    tl.store(image + v * nu + u, tl.sum(total, axis=0) * _length(_pose(ray), u, v), mask=(v < nv) & (u < nu))


@triton.jit(do_not_specialize=["count", "nu"])
def _project_back(
    table, boxes, ray, whitening, gradient, to_centres, to_whitening, to_density, count, nu,
    REACH: tl.constexpr, OWNED: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Add to the gradients of a program's Gaussians, given that of the image."""
    g = tl.program_id(0) * OWNED + tl.arange(0, OWNED)
    inside = g < count
    box, row = boxes + 4 * g, table + (g * COLUMNS)[:, None]
    top, left = tl.load(box, mask=inside, other=0)[:, None], tl.load(box + 2, mask=inside, other=0)[:, None]
    high, wide = tl.load(box + 1, mask=inside, other=0)[:, None] - top, tl.load(box + 3, mask=inside, other=0)[:, None] - left
    seen = tl.sum(high, axis=1) > 0
    form, pose = _form(tl.where(seen[:, None], row, table)), _pose(ray)
    wide = tl.maximum(wide, 1)
    lane = tl.arange(0, PIXELS)[None, :]
    y, x = lane // wide, lane % wide
    down, along = PIXELS // wide, PIXELS % wide
    depth = 1 / form[13]
    zero = tl.zeros((OWNED, PIXELS), tl.float32)
    s, p0, p1, p2, k0, k1, k2, f0, f1, f2, h0, h1, h2 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(0, tl.max(tl.sum(high * wide, axis=1), axis=0), PIXELS):
        u, v = left + x, top + y
        du, dv, a0, a1, a2, inverse, k, r0, r1, r2 = _meet(form, u, v)
        e = r0 * r0 + r1 * r1 + r2 * r2
        reached = (y < high) & (e <= REACH * REACH)
        h = tl.load(gradient + v * nu + u, mask=reached, other=0.0) * _length(pose, u, v) * tl.sqrt(inverse) * tl.exp(-0.5 * e)
        h = tl.where(reached, h, 0.0)
        s += h
        r0, r1, r2 = h * r0, h * r1, h * r2
        h = h * inverse
        w0, w1, w2 = k * r0 - h * a0, k * r1 - h * a1, k * r2 - h * a2
        p0, p1, p2 = p0 + r0, p1 + r1, p2 + r2
        k0, k1, k2 = k0 + w0, k1 + w1, k2 + w2
        w0, w1, w2 = w0 - r0 * depth, w1 - r1 * depth, w2 - r2 * depth
        f0, f1, f2 = f0 + du * w0, f1 + du * w1, f2 + du * w2
        h0, h1, h2 = h0 + dv * w0, h1 + dv * w1, h2 + dv * w2
        x += along
        y += down + (x >= wide)
        x = tl.where(x >= wide, x - wide, x)
    add(to_density + g, tl.sum(s, axis=1) * ROOT_TWO_PI, seen)
    row = table + g * COLUMNS
    amplitude = tl.load(row + 14, mask=seen, other=0.0)
    p0, p1, p2 = tl.sum(p0, axis=1), tl.sum(p1, axis=1), tl.sum(p2, axis=1)
    k0, k1, k2 = amplitude * tl.sum(k0, axis=1), amplitude * tl.sum(k1, axis=1), amplitude * tl.sum(k2, axis=1)
    f0, f1, f2 = amplitude * tl.sum(f0, axis=1), amplitude * tl.sum(f1, axis=1), amplitude * tl.sum(f2, axis=1)
    h0, h1, h2 = amplitude * tl.sum(h0, axis=1), amplitude * tl.sum(h1, axis=1), amplitude * tl.sum(h2, axis=1)
    u = tl.load(row, mask=seen, other=0.0) + tl.load(row + 1, mask=seen, other=0.0)
    v = tl.load(row + 2, mask=seen, other=0.0) + tl.load(row + 3, mask=seen, other=0.0)
    for axis in tl.static_range(3):
        m = whitening + 9 * g + axis
        pulled = (
            tl.load(m, mask=seen, other=0.0) * p0 + tl.load(m + 3, mask=seen, other=0.0) * p1 + tl.load(m + 6, mask=seen, other=0.0) * p2
        )
        add(to_centres + 3 * g + axis, amplitude * pulled, seen)
        eu, ev = tl.load(ray + 6 + axis).to(tl.float32), tl.load(ray + 9 + axis).to(tl.float32)
        w = tl.load(ray + 3 + axis).to(tl.float32) + u * eu + v * ev
        to = to_whitening + 9 * g + axis
        add(to, k0 * w + f0 * eu + h0 * ev, seen)
        add(to + 3, k1 * w + f1 * eu + h1 * ev, seen)
        add(to + 6, k2 * w + f2 * eu + h2 * ev, seen)


@triton.jit
def add(to, values, which):
    """Add to numbers in memory."""
    tl.store(to, tl.load(to, mask=which, other=0.0) + values, mask=which)


class TritonRasteriser:
    """As `rasteriser.Rasteriser`, on a GPU.

    Parameters
    ----------
    geometry, grid
        As `Rasteriser` takes them.
    device : str
        Where the Gaussians lie: "cuda", or "cpu" for Triton's interpreter.
    lists : callable
        Makes the lists of tiles: `tile_lists.by_torch` or `tile_lists.by_gsplat`.
    """

    def __init__(self, geometry: Geometry, grid: Grid, device: str = "cuda", lists=tile_lists.by_torch):
        self.shape, self.lists = geometry.detector_shape, lists
        self.backend = "triton and gsplat" if lists is tile_lists.by_gsplat else "triton"
        spacing = torch.tensor(grid.spacing_mm, dtype=torch.float64).repeat(4)
        self.rays = (torch.from_numpy(index_rays(geometry, grid)) * spacing).to(device)

    def __call__(self, centres: torch.Tensor, whitening: torch.Tensor, density: torch.Tensor, views) -> torch.Tensor:
        """Line integrals (views, v, u), differentiable; for the arguments see `Rasteriser`."""
        return _Project.apply(centres, whitening, density, self, list(views))

    def see(self, ray: torch.Tensor, arrays: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The table (n, 16) of what a view sees of the Gaussians, and the boxes (n, 2, 2) of pixels in which it sees each."""
        count = len(arrays[0])
        table = torch.empty(count, COLUMNS.value, device=ray.device)
        boxes = torch.empty(count, 2, 2, dtype=torch.int32, device=ray.device)
        if count:
            _see[(triton.cdiv(count, TABLED),)](*arrays, ray, table, boxes, count, *self.shape, REACH=REACH, NEAREST=NEAREST, BLOCK=TABLED)
        return table, boxes

    def draw(self, image: torch.Tensor, ray: torch.Tensor, arrays: tuple[torch.Tensor, ...]) -> None:
        """Fill an image of zeros (v, u) of one view."""
        table, boxes = self.see(ray, arrays)
        for region in tile_lists.regions(tile_lists.tile_boxes(boxes, TILE), tuple(triton.cdiv(n, TILE) for n in self.shape)):
            if region.pairs:
                _project[(region.tiles,)](
                    table, *self.lists(region), ray, image, *self.shape, *region.first, region.shape[1],
                    REACH=REACH, TILE=TILE, AT_ONCE=AT_ONCE, num_warps=FORWARD_WARPS,
                )  # fmt: skip

    def add_gradients(self, image: torch.Tensor, ray: torch.Tensor, arrays: tuple[torch.Tensor, ...], to: tuple[torch.Tensor, ...]) -> None:
        """Add to the gradients of the Gaussians, given that of one view's image."""
        count = len(arrays[0])
        if count:
            _project_back[(triton.cdiv(count, OWNED),)](
                *self.see(ray, arrays), ray, arrays[1], image, *to, count, self.shape[1],
                REACH=REACH, OWNED=OWNED, PIXELS=PIXELS, num_warps=BACKWARD_WARPS,
            )  # fmt: skip


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centres, whitening, density, rasteriser, views):
        ctx.save_for_backward(centres, whitening, density)
        ctx.rasteriser, ctx.views = rasteriser, views
        images = torch.zeros(len(views), *rasteriser.shape, device=centres.device)
        arrays = contiguous(centres, whitening, density)
        for image, view in zip(images, views):
            rasteriser.draw(image, rasteriser.rays[view], arrays)
        return images

    @staticmethod
    def backward(ctx, gradient):
        arrays = contiguous(*ctx.saved_tensors)
        to = tuple(torch.zeros_like(tensor) for tensor in arrays)
        for image, view in zip(gradient.contiguous(), ctx.views):
            ctx.rasteriser.add_gradients(image, ctx.rasteriser.rays[view], arrays, to)
        return *to, None, None


def contiguous(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors without gradients, as a kernel reads them."""
    return tuple(tensor.detach().contiguous() for tensor in tensors)
