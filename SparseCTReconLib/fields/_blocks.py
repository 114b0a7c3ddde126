"""Inline kernels on blocks of points, channel first, so that every loop runs over neighbouring points: products, sums, activations.

A block of c channels is a flat array of ``c * BLOCK`` numbers.
"""

from __future__ import annotations

import numpy as np

from ..operators._jit import kernel
from ._tiles import BLOCK

ONE = np.float32(1)
"""For numba an integer and a float32 make a float64."""

LEAK = np.float32(0.01)
EPSILON = np.float32(1e-5)
GELU_SLOPE, GELU_CUBE, GELU_CUBE_SLOPE = np.float32(1.5957691), np.float32(0.044715), np.float32(0.134145)
"""2 sqrt(2 / pi), and the cubic term and its slope's factor of GELU's tanh form (Hendrycks and Gimpel 2016)."""

E0, E1, E2, E3, E4, E5 = (np.float32(c) for c in (0.999999554, -0.999967851, 0.499620874, -0.165012717, 0.0383389223, -0.00509972763))
"""exp(-s) for s in 0 .. 1, to 1e-6: a Chebyshev interpolation."""


@kernel(inline=True)
def load(features, first, count, x):
    """x <- `count` points from the `first` one on, and zeros behind them."""
    for i in range(len(x)):
        source = features[i, first : first + count]
        for p in range(count):
            x[i, p] = source[p]
        x[i, count:] = 0


@kernel(inline=True)
def store(x, first, count, features):
    """The way back of `load`."""
    for i in range(len(x)):
        target = features[i, first : first + count]
        for p in range(count):
            target[p] = x[i, p]


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
def _gelu(x):
    """GELU in its tanh form, and its slope."""
    t = GELU_SLOPE * x * (ONE + GELU_CUBE * x * x)
    e = exp_of_minus(abs(t))
    s = (ONE if t >= 0 else e) / (ONE + e)
    return x * s, s + x * s * (ONE - s) * GELU_SLOPE * (ONE + GELU_CUBE_SLOPE * x * x)


@kernel(inline=True)
def activate(x, gelu, slopes):
    """x <- act(x), GELU or leaky ReLU; of GELU `slopes` get act'(x) where there is room for them."""
    for o in range(len(x)):
        if not gelu:
            for p in range(BLOCK):
                x[o, p] = max(x[o, p], LEAK * x[o, p])
        elif len(slopes):
            for p in range(BLOCK):
                x[o, p], slopes[o, p] = _gelu(x[o, p])
        else:
            for p in range(BLOCK):
                x[o, p] = _gelu(x[o, p])[0]


@kernel(inline=True)
def activate_backward(g, x, gelu, slopes, grad, at):
    """g <- g * act' for what `activate` left in `x` and `slopes`; its sums over points, the biases' gradient, are added to grad[at ..]."""
    for o in range(len(g)):
        total = np.float32(0)
        if gelu:
            for p in range(BLOCK):
                g[o, p] *= slopes[o, p]
                total += g[o, p]
        else:
            for p in range(BLOCK):
                g[o, p] *= ONE if x[o, p] > 0 else LEAK
                total += g[o, p]
        grad[at + o] += total


@kernel(inline=True)
def last_product(w, at, x, out):
    """The last layer, which has one output: weights w[at ..] and the bias behind them."""
    out[:] = w[at + len(x)]
    for o in range(0, len(x), 4):
        a, b, c, d = w[at + o], w[at + o + 1], w[at + o + 2], w[at + o + 3]
        for p in range(BLOCK):
            out[p] += a * x[o, p] + b * x[o + 1, p] + c * x[o + 2, p] + d * x[o + 3, p]


@kernel(inline=True)
def last_product_backward(w, at, x, gradient, g, grad):
    """Gradients of `last_product`, given `gradient` (BLOCK,): of x into `g`, of weights and bias added to `grad`."""
    grad[at + len(x)] += gradient.sum()
    for o in range(len(x)):
        total = np.float32(0)
        for p in range(BLOCK):
            total += gradient[p] * x[o, p]
            g[o, p] = gradient[p] * w[at + o]
        grad[at + o] += total


@kernel(inline=True)
def normalise(x, inverse):
    """x <- (x - mean) / deviation over channels, and 1 / deviation."""
    share = ONE / np.float32(len(x))
    mean = np.zeros(BLOCK, np.float32)
    inverse[:] = 0
    for i in range(len(x)):
        for p in range(BLOCK):
            mean[p] += share * x[i, p]
    for i in range(len(x)):
        for p in range(BLOCK):
            x[i, p] -= mean[p]
            inverse[p] += x[i, p] * x[i, p]
    for p in range(BLOCK):
        inverse[p] = ONE / np.sqrt(share * inverse[p] + EPSILON)
    for i in range(len(x)):
        for p in range(BLOCK):
            x[i, p] *= inverse[p]


@kernel(inline=True)
def normalise_backward(inverse, unit, g):
    """Turn the gradient `g` of the normalised features `unit` into that of the features."""
    share = ONE / np.float32(len(g))
    mean, product = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    for i in range(len(g)):
        for p in range(BLOCK):
            mean[p] += share * g[i, p]
            product[p] += share * g[i, p] * unit[i, p]
    for i in range(len(g)):
        for p in range(BLOCK):
            g[i, p] = inverse[p] * (g[i, p] - mean[p] - unit[i, p] * product[p])
