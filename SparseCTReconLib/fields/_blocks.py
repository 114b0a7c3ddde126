"""Inline kernels on blocks of points, channel first, so that every loop runs over neighbouring points: products, sums, activations.

A block of c channels is a flat array of ``c * BLOCK`` numbers.
"""

from __future__ import annotations

import numpy as np

from ..operators._jit import kernel

BLOCK = 128
BLOCK_U, BLOCK_U2, BLOCK_U3 = np.uint64(BLOCK), np.uint64(2 * BLOCK), np.uint64(3 * BLOCK)
LEAK = np.float32(0.01)
EPSILON = np.float32(1e-5)
GELU_SLOPE, GELU_CUBE = np.float32(1.5957691), np.float32(0.044715)
"""2 sqrt(2 / pi), and the cubic term of GELU's tanh form (Hendrycks and Gimpel 2016)."""

E0, E1, E2, E3, E4, E5 = (np.float32(c) for c in (0.999999554, -0.999967851, 0.499620874, -0.165012717, 0.0383389223, -0.00509972763))
"""exp(-s) for s in 0 .. 1, to 1e-6: a Chebyshev interpolation."""


@kernel(inline=True)
def matmul_add(w, at, rows, columns, x, out):
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
def transposed_matmul(w, at, rows, columns, g, out):
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
def outer_add(g, rows, x, columns, out, at):
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
def row_sums_add(g, rows, out, at):
    for o in range(rows):
        total = np.float32(0)
        for p in range(BLOCK):
            total += g[o * BLOCK + p]
        out[at + o] += total


@kernel(inline=True)
def fill(w, at, rows, out):
    """out[o] = w[at + o] on a block: the biases, to which products are added."""
    for o in range(rows):
        out[o * BLOCK : (o + 1) * BLOCK] = w[at + o]


@kernel(inline=True)
def load(features, first, count, c, x):
    for i in range(c):
        for p in range(count):
            x[i * BLOCK + p] = features[i, first + p]
        x[i * BLOCK + count : (i + 1) * BLOCK] = 0


@kernel(inline=True)
def exp_of_minus(x):
    """exp(-x) to 3e-5 for x in 0 .. 32, written so that loops over it vectorise."""
    s = min(x, np.float32(32)) * np.float32(1 / 32)
    e = E0 + s * (E1 + s * (E2 + s * (E3 + s * (E4 + s * E5))))
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@kernel(inline=True)
def activate(x, slope, count, gelu):
    """x <- act(x) and slope <- act'(x) for the first `count` numbers: GELU or leaky ReLU."""
    if gelu:
        for n in range(count):
            v = x[n]
            t = GELU_SLOPE * v * (1 + GELU_CUBE * v * v)
            e = exp_of_minus(abs(t))
            s = (np.float32(1) if t >= 0 else e) / (1 + e)
            x[n] = v * s
            slope[n] = s + v * s * (1 - s) * GELU_SLOPE * (1 + 3 * GELU_CUBE * v * v)
    else:
        for n in range(count):
            s = np.float32(1) if x[n] > 0 else LEAK
            slope[n] = s
            x[n] *= s


@kernel(inline=True)
def multiply(x, y, count):
    for n in range(count):
        x[n] *= y[n]


@kernel(inline=True)
def normalise(x, c, inverse, unit):
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
def normalise_backward(w, c, inverse, unit, g, sums, grad):
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
