"""The small network behind the encoding: layer norm, two hidden layers, and an output that never saturates and is never negative.

    h0 = LN(features);  h1 = lrelu(W1 h0 + b1);  h2 = lrelu(W2 h1 + b2);  mu = scale * squareplus(w3 h2 + b3)

Layer norm directly behind the hash encoding as in NI-NeRF (Xu et al. 2025, section 2.3); squareplus(x) = (x + sqrt(x^2 + b)) / 2 with
its b. The kernels take blocks of points, channel first, so that every loop runs over neighbouring points; the backward pass computes
the activations anew instead of keeping them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..operators._jit import kernel, run_threaded

BLOCK = 128
BLOCK_U, BLOCK_U2, BLOCK_U3 = np.uint64(BLOCK), np.uint64(2 * BLOCK), np.uint64(3 * BLOCK)
LEAK = np.float32(0.01)
SQUAREPLUS = np.float32(1.5238)
EPSILON = np.float32(1e-5)
CHUNKS = 16
"""Ranges of points with a gradient of their own; a fixed number, so that sums do not depend on the threads."""


@dataclass(frozen=True)
class Head:
    """Sizes of the network; both are multiples of 4.

    Parameters
    ----------
    channels : int
        Of the encoding.
    hidden : int
        Width of both hidden layers.
    """

    channels: int
    hidden: int = 32

    @property
    def size(self) -> int:
        """Number of parameters; in order: LN gain and shift, W1, b1, W2, b2, w3, b3."""
        c, h = self.channels, self.hidden
        return 2 * c + h * c + h + h * h + h + h + 1

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """He-initialised parameters (size,), LN at identity, output bias -1: a thin fog."""
        c, h = self.channels, self.hidden
        w1 = rng.normal(0, np.sqrt(2 / c), h * c)
        w2 = rng.normal(0, np.sqrt(2 / h), h * h)
        w3 = rng.normal(0, np.sqrt(1 / h), h)
        parts = [np.ones(c), np.zeros(c), w1, np.zeros(h), w2, np.zeros(h), w3, [-1.0]]
        return np.concatenate(parts).astype(np.float32)


@kernel(inline=True)
def _matmul_add(w, at, rows, columns, x, out):
    """out[o] += sum_i w[at + o * columns + i] x[i] on a block; rows and columns are multiples of 4."""
    for o in range(0, rows, 4):
        for i in range(0, columns, 4):
            a = at + o * columns + i
            b, c, d = a + columns, a + 2 * columns, a + 3 * columns
            a0, a1, a2, a3 = w[a], w[a + 1], w[a + 2], w[a + 3]
            b0, b1, b2, b3 = w[b], w[b + 1], w[b + 2], w[b + 3]
            c0, c1, c2, c3 = w[c], w[c + 1], w[c + 2], w[c + 3]
            d0, d1, d2, d3 = w[d], w[d + 1], w[d + 2], w[d + 3]
            source, target = np.uint64(i * BLOCK), np.uint64(o * BLOCK)
            for p in range(BLOCK):
                s, t = source + np.uint64(p), target + np.uint64(p)
                x0, x1, x2, x3 = x[s], x[s + BLOCK_U], x[s + BLOCK_U2], x[s + BLOCK_U3]
                out[t] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                out[t + BLOCK_U] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                out[t + BLOCK_U2] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                out[t + BLOCK_U3] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@kernel(inline=True)
def _transposed_matmul(w, at, rows, columns, g, out):
    """out[i] = sum_o w[at + o * columns + i] g[o] on a block."""
    out[: columns * BLOCK] = 0
    for i in range(0, columns, 4):
        for o in range(0, rows, 4):
            a = at + o * columns + i
            b, c, d = a + columns, a + 2 * columns, a + 3 * columns
            a0, a1, a2, a3 = w[a], w[a + 1], w[a + 2], w[a + 3]
            b0, b1, b2, b3 = w[b], w[b + 1], w[b + 2], w[b + 3]
            c0, c1, c2, c3 = w[c], w[c + 1], w[c + 2], w[c + 3]
            d0, d1, d2, d3 = w[d], w[d + 1], w[d + 2], w[d + 3]
            source, target = np.uint64(o * BLOCK), np.uint64(i * BLOCK)
            for p in range(BLOCK):
                s, t = source + np.uint64(p), target + np.uint64(p)
                g0, g1, g2, g3 = g[s], g[s + BLOCK_U], g[s + BLOCK_U2], g[s + BLOCK_U3]
                out[t] += a0 * g0 + b0 * g1 + c0 * g2 + d0 * g3
                out[t + BLOCK_U] += a1 * g0 + b1 * g1 + c1 * g2 + d1 * g3
                out[t + BLOCK_U2] += a2 * g0 + b2 * g1 + c2 * g2 + d2 * g3
                out[t + BLOCK_U3] += a3 * g0 + b3 * g1 + c3 * g2 + d3 * g3


@kernel(inline=True)
def _outer_add(g, rows, x, columns, out, at):
    """out[at + o * columns + i] += sum_p g[o, p] x[i, p], two o by four i at a time."""
    for o in range(0, rows, 2):
        for i in range(0, columns, 4):
            source, target = np.uint64(i * BLOCK), np.uint64(o * BLOCK)
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = np.float32(0)
            for p in range(BLOCK):
                s, t = source + np.uint64(p), target + np.uint64(p)
                x0, x1, x2, x3 = x[s], x[s + BLOCK_U], x[s + BLOCK_U2], x[s + BLOCK_U3]
                g0, g1 = g[t], g[t + BLOCK_U]
                s00 += g0 * x0
                s01 += g0 * x1
                s02 += g0 * x2
                s03 += g0 * x3
                s10 += g1 * x0
                s11 += g1 * x1
                s12 += g1 * x2
                s13 += g1 * x3
            a = at + o * columns + i
            b = a + columns
            out[a] += s00
            out[a + 1] += s01
            out[a + 2] += s02
            out[a + 3] += s03
            out[b] += s10
            out[b + 1] += s11
            out[b + 2] += s12
            out[b + 3] += s13


@kernel(inline=True)
def _row_sums_add(g, rows, out, at):
    for o in range(rows):
        total = np.float32(0)
        for p in range(BLOCK):
            total += g[o * BLOCK + p]
        out[at + o] += total


@kernel(inline=True)
def _fill(w, at, rows, out):
    """out[o] = w[at + o] on a block: the biases, to which products are added."""
    for o in range(rows):
        out[o * BLOCK : (o + 1) * BLOCK] = w[at + o]


@kernel(inline=True)
def _leaky(x, count):
    for n in range(count):
        x[n] = x[n] if x[n] > 0 else LEAK * x[n]


@kernel(inline=True)
def _leaky_backward(activation, gradient, count):
    for n in range(count):
        gradient[n] = gradient[n] if activation[n] > 0 else LEAK * gradient[n]


@kernel(inline=True)
def _load(features, first, count, c, x):
    for i in range(c):
        for p in range(count):
            x[i * BLOCK + p] = features[i, first + p]
        x[i * BLOCK + count : (i + 1) * BLOCK] = 0


@kernel(inline=True)
def _normalise(x, c, inverse, unit):
    """unit = (x - mean) / deviation over channels, and 1 / deviation."""
    mean = np.zeros(BLOCK, dtype=np.float32)
    inverse[:] = 0
    for i in range(c):
        for p in range(BLOCK):
            mean[p] += x[i * BLOCK + p]
    for i in range(c):
        for p in range(BLOCK):
            d = x[i * BLOCK + p] - mean[p] / np.float32(c)
            unit[i * BLOCK + p] = d
            inverse[p] += d * d
    for p in range(BLOCK):
        inverse[p] = 1 / np.sqrt(inverse[p] / np.float32(c) + EPSILON)
    for i in range(c):
        for p in range(BLOCK):
            unit[i * BLOCK + p] *= inverse[p]


@kernel(inline=True)
def _activate(w, c, h, unit, h0, h1, h2, out):
    """All layers of a block from its normalised features; `out` before squareplus."""
    for i in range(c):
        for p in range(BLOCK):
            h0[i * BLOCK + p] = w[i] * unit[i * BLOCK + p] + w[c + i]
    at = 2 * c
    _fill(w, at + h * c, h, h1)
    _matmul_add(w, at, h, c, h0, h1)
    _leaky(h1, h * BLOCK)
    at += h * c + h
    _fill(w, at + h * h, h, h2)
    _matmul_add(w, at, h, h, h1, h2)
    _leaky(h2, h * BLOCK)
    at += h * h + h
    out[:] = w[at + h]
    for o in range(h):
        for p in range(BLOCK):
            out[p] += w[at + o] * h2[o * BLOCK + p]


@kernel(inline=True)
def _output_backward(w, at, h, h2, gradient, g2, grad):
    """The gradient `g2` of h2 from that of the last layer's output, and those of w3 and b3, which are added to `grad`."""
    _row_sums_add(gradient, 1, grad, at + h)
    for o in range(h):
        total = np.float32(0)
        for p in range(BLOCK):
            total += gradient[p] * h2[o * BLOCK + p]
            g2[o * BLOCK + p] = gradient[p] * w[at + o]
        grad[at + o] += total


@kernel(inline=True)
def _normalise_backward(w, c, inverse, unit, g, sums, grad):
    """Turn the gradient `g` of h0 into that of the features, and add those of gain and shift to `grad`."""
    sums[:] = 0
    for i in range(c):
        gain, shift = np.float32(0), np.float32(0)
        for p in range(BLOCK):
            n = i * BLOCK + p
            gain += g[n] * unit[n]
            shift += g[n]
            g[n] *= w[i]
            sums[0, p] += g[n]
            sums[1, p] += g[n] * unit[n]
        grad[i] += gain
        grad[c + i] += shift
    for i in range(c):
        for p in range(BLOCK):
            n = i * BLOCK + p
            g[n] = inverse[p] * (g[n] - (sums[0, p] + unit[n] * sums[1, p]) / np.float32(c))


@kernel
def _head_forward(start, stop, features, w, h, scale, mu):
    c, n = features.shape
    x, unit, h0 = np.empty(c * BLOCK, np.float32), np.empty(c * BLOCK, np.float32), np.empty(c * BLOCK, np.float32)
    h1, h2 = np.empty(h * BLOCK, np.float32), np.empty(h * BLOCK, np.float32)
    out, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(start, stop):
        first = block * BLOCK
        count = min(BLOCK, n - first)
        _load(features, first, count, c, x)
        _normalise(x, c, inverse, unit)
        _activate(w, c, h, unit, h0, h1, h2, out)
        for p in range(count):
            mu[first + p] = scale * np.float32(0.5) * (out[p] + np.sqrt(out[p] * out[p] + SQUAREPLUS))


@kernel
def _head_backward(start, stop, features, w, h, scale, mu_gradient, feature_gradient, gradients):
    """Gradients of the ranges start .. stop out of `CHUNKS`: of the features, and of the parameters, (CHUNKS, size)."""
    c, n = features.shape
    x, unit, h0 = np.empty(c * BLOCK, np.float32), np.empty(c * BLOCK, np.float32), np.empty(c * BLOCK, np.float32)
    h1, h2 = np.empty(h * BLOCK, np.float32), np.empty(h * BLOCK, np.float32)
    g0, g1, g2 = np.empty(c * BLOCK, np.float32), np.empty(h * BLOCK, np.float32), np.empty(h * BLOCK, np.float32)
    out, inverse, sums = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty((2, BLOCK), np.float32)
    blocks = (n + BLOCK - 1) // BLOCK
    at1 = 2 * c
    at2 = at1 + h * c + h
    at3 = at2 + h * h + h
    for chunk in range(start, stop):
        grad = gradients[chunk]
        for block in range(blocks * chunk // CHUNKS, blocks * (chunk + 1) // CHUNKS):
            first = block * BLOCK
            count = min(BLOCK, n - first)
            _load(features, first, count, c, x)
            _normalise(x, c, inverse, unit)
            _activate(w, c, h, unit, h0, h1, h2, out)
            for p in range(BLOCK):
                slope = np.float32(0.5) * (1 + out[p] / np.sqrt(out[p] * out[p] + SQUAREPLUS))
                out[p] = scale * slope * mu_gradient[first + p] if p < count else np.float32(0)
            _output_backward(w, at3, h, h2, out, g2, grad)
            _leaky_backward(h2, g2, h * BLOCK)
            _outer_add(g2, h, h1, h, grad, at2)
            _row_sums_add(g2, h, grad, at2 + h * h)
            _transposed_matmul(w, at2, h, h, g2, g1)
            _leaky_backward(h1, g1, h * BLOCK)
            _outer_add(g1, h, h0, c, grad, at1)
            _row_sums_add(g1, h, grad, at1 + h * c)
            _transposed_matmul(w, at1, h, c, g1, g0)
            _normalise_backward(w, c, inverse, unit, g0, sums, grad)
            for i in range(c):
                for p in range(count):
                    feature_gradient[i, first + p] = g0[i * BLOCK + p]


def forward(features: np.ndarray, parameters: np.ndarray, head: Head, scale: float) -> np.ndarray:
    """Attenuation (n,) in the unit of `scale` for features (channels, n)."""
    mu = np.empty(features.shape[1], dtype=np.float32)
    run_threaded(_head_forward, -(-features.shape[1] // BLOCK), features, parameters, head.hidden, np.float32(scale), mu)
    return mu


def backward(features, parameters, head: Head, scale: float, mu_gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to features (channels, n) and parameters (size,), given that with respect to mu (n,)."""
    feature_gradient = np.empty_like(features)
    gradients = np.zeros((CHUNKS, head.size), dtype=np.float32)
    arguments = (features, parameters, head.hidden, np.float32(scale), mu_gradient, feature_gradient, gradients)
    run_threaded(_head_backward, CHUNKS, *arguments, chunk=1)
    return feature_gradient, gradients.sum(axis=0)
