"""The largest over a scan's views of what their feature maps show where a point's shadow falls, bilinear.

    y_c(x) = max over views of  sum over the four pixels around x's shadow of  w f_c(pixel)

On a CPU one kernel goes through the views of a point with all its channels side by side, where torch would write what each view shows to
memory first; the gradient goes to the view that showed most. Elsewhere it is torch's `grid_sample`, which the kernel agrees with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..operators._jit import kernel, run_threaded

VIEWS_AT_ONCE = 4
"""Whose features are held at one time by torch where nothing is to learn from them."""

POINTS_AT_ONCE = 256
"""That a call of the kernel looks up."""


def largest(maps: torch.Tensor, at: torch.Tensor, corners: bool = False) -> torch.Tensor:
    """What the views show of points, at most; a view that does not see a point shows 0.

    Parameters
    ----------
    maps : Tensor (views, c, v, u)
        Quickest in memory format channels_last.
    at : Tensor (views, n, 2)
        Column and row, -1 and 1 at the maps' edges; no gradient goes there.
    corners : bool
        -1 and 1 are the centres of the outer pixels in the place of their edges.

    Returns
    -------
    Tensor (c, n)
    """
    if maps.device.type == "cpu":
        return _Largest.apply(maps.float(), at, corners)
    return by_torch(maps, at, corners)


def by_torch(maps: torch.Tensor, at: torch.Tensor, corners: bool = False) -> torch.Tensor:
    """As `largest`, on any device."""
    step, best = len(maps) if maps.requires_grad else VIEWS_AT_ONCE, None
    for first in range(0, len(maps), step):
        some = slice(first, first + step)
        shown = functional.grid_sample(maps[some].float(), at[some, None], align_corners=corners)
        shown = shown[:, :, 0].max(dim=0).values
        best = shown if best is None else torch.maximum(best, shown)
    return best


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps, at, corners):
        laid = maps.detach().permute(0, 2, 3, 1).contiguous().numpy()
        places = _pixels(at, laid.shape[1:3], corners)
        out = np.empty((places.shape[1], laid.shape[3]), np.float32)
        ctx.learns = maps.requires_grad
        winner = np.zeros(out.shape if ctx.learns else (0, 0), np.int16)
        run_threaded(_look_up, len(out), laid, places, out, winner, ctx.learns, chunk=POINTS_AT_ONCE)
        ctx.places, ctx.winner, ctx.shape = places, winner, laid.shape
        return torch.from_numpy(out).T

    @staticmethod
    def backward(ctx, gradient):
        given = gradient.T.contiguous().float().numpy()
        found = np.zeros(ctx.shape, np.float32)
        run_threaded(_hand_back, ctx.shape[0], given, ctx.places, ctx.winner, found, chunk=1)
        return torch.from_numpy(found).permute(0, 3, 1, 2), None, None


def _pixels(at: torch.Tensor, shape: tuple[int, int], corners: bool) -> np.ndarray:
    """Rows and columns (views, n, 2), in pixels from the first one's centre, of places in maps of a shape (v, u)."""
    size = torch.tensor(shape[::-1], dtype=torch.float32)
    pixels = (at.detach().float() + 1) / 2 * (size - 1) if corners else (at.detach().float() + 1) / 2 * size - 0.5
    return pixels.flip(-1).contiguous().numpy()


@kernel(inline=True)
def _taps(row, column, rows, columns):
    """The first and second row and column around a place, and what each counts; what lies beyond the map counts nothing."""
    r, c = int(np.floor(row)), int(np.floor(column))
    lower, right = np.float32(row - r), np.float32(column - c)
    upper, left = np.float32(1) - lower, np.float32(1) - right
    if r < 0 or r >= rows:
        upper = np.float32(0)
    if r + 1 < 0 or r + 1 >= rows:
        lower = np.float32(0)
    if c < 0 or c >= columns:
        left = np.float32(0)
    if c + 1 < 0 or c + 1 >= columns:
        right = np.float32(0)
    r0, r1 = min(max(r, 0), rows - 1), min(max(r + 1, 0), rows - 1)
    c0, c1 = min(max(c, 0), columns - 1), min(max(c + 1, 0), columns - 1)
    return r0, r1, c0, c1, upper * left, upper * right, lower * left, lower * right


@kernel
def _look_up(start, stop, maps, places, out, winner, learns):
    """Points start to stop: the largest over the views, and which view it was where something is to learn from it."""
    views, rows, columns, channels = maps.shape
    for point in range(start, stop):
        for view in range(views):
            row, column = places[view, point, 0], places[view, point, 1]
            r0, r1, c0, c1, w0, w1, w2, w3 = _taps(row, column, rows, columns)
            first, second = maps[view, r0], maps[view, r1]
            if view == 0:
                for c in range(channels):
                    out[point, c] = w0 * first[c0, c] + w1 * first[c1, c] + w2 * second[c0, c] + w3 * second[c1, c]
            elif learns:
                for c in range(channels):
                    value = w0 * first[c0, c] + w1 * first[c1, c] + w2 * second[c0, c] + w3 * second[c1, c]
                    more = not value <= out[point, c]
                    out[point, c] = value if more else out[point, c]
                    winner[point, c] = view if more else winner[point, c]
            else:
                for c in range(channels):
                    value = w0 * first[c0, c] + w1 * first[c1, c] + w2 * second[c0, c] + w3 * second[c1, c]
                    out[point, c] = out[point, c] if value <= out[point, c] else value


@kernel
def _hand_back(start, stop, gradient, places, winner, found):
    """Views start to stop: the gradient of the maps, from that of the points that they won."""
    points, channels = gradient.shape
    _, rows, columns, _ = found.shape
    for view in range(start, stop):
        for point in range(points):
            row, column = places[view, point, 0], places[view, point, 1]
            r0, r1, c0, c1, w0, w1, w2, w3 = _taps(row, column, rows, columns)
            if w0 + w1 + w2 + w3 == 0:
                continue
            first, second = found[view, r0], found[view, r1]
            for c in range(channels):
                if winner[point, c] == view:
                    share = gradient[point, c]
                    first[c0, c] += w0 * share
                    first[c1, c] += w1 * share
                    second[c0, c] += w2 * share
                    second[c1, c] += w3 * share
