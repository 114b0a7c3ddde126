"""The small network behind the encoding, ours and those of the papers.

    h0 = mask * LN(features);  h1 = act(W1 h0 + b1);  h2 = act(W2 h1 + b2);  [h3 = act(W3 (h2, h0) + b3);]  mu = scale * out(w h + b)

Layer norm directly behind the hash encoding, the channel mask and squareplus(x) = (x + sqrt(x^2 + b)) / 2 as in NI-NeRF (Xu et al. 2025,
section 2.3); it and NAF (Zha et al. 2022) have the third layer, which sees the encoding once more. The backward pass computes the
activations anew instead of keeping them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, nearest_name
from ..operators._jit import kernel, run_threaded
from ._blocks import (
    BLOCK,
    activate,
    fill,
    load,
    matmul_add,
    multiply,
    normalise,
    normalise_backward,
    outer_add,
    row_sums_add,
    transposed_matmul,
)

SQUAREPLUS = np.float32(1.5238)
CHUNKS = 16
"""Ranges of points with a gradient of their own; a fixed number, so that sums do not depend on the threads."""

ACTIVATIONS = ("leaky", "gelu")
OUTPUTS = ("squareplus", "sigmoid", "linear")


@dataclass(frozen=True)
class Head:
    """Sizes and kind of the network.

    Parameters
    ----------
    channels : int
        Of the encoding; a multiple of 4.
    hidden : int
        Width of the hidden layers; a multiple of 4.
    skip : bool
        A third hidden layer, which takes the second's output and the encoding.
    activation : str
        "leaky" (slope 0.01) or "gelu" (its tanh form).
    output : str
        "squareplus" is positive without an upper bound, "sigmoid" lies between 0 and 1, "linear" takes any value.
    layer_norm : bool
        Normalise each point's features.
    """

    channels: int
    hidden: int = 32
    skip: bool = False
    activation: str = "leaky"
    output: str = "squareplus"
    layer_norm: bool = True

    def __post_init__(self):
        for name, value, known in (("activation", self.activation, ACTIVATIONS), ("output", self.output, OUTPUTS)):
            if value not in known:
                raise InputError(f"no {name} {value!r}{nearest_name(value, known)}", "bad-option")
        if self.channels % 4 or self.hidden % 4 or min(self.channels, self.hidden) < 4:
            raise InputError(f"a head of {self.channels} channels and {self.hidden} neurons: both must be multiples of 4", "bad-option")

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Outputs and inputs of each linear layer."""
        c, h = self.channels, self.hidden
        return [(h, c), (h, h), *([(h, h + c)] if self.skip else []), (1, h)]

    @property
    def sizes(self) -> list[int]:
        """Numbers of parameters in order: LN gain and shift where there is a layer norm, then weights and biases of each layer."""
        norm = [self.channels] * 2 if self.layer_norm else []
        return norm + [size for rows, columns in self.layers for size in (rows * columns, rows)]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(self.sizes)

    @property
    def flags(self) -> tuple[int, bool, bool, bool, int]:
        """Width and kind as the kernels take them."""
        return self.hidden, self.skip, self.activation == "gelu", self.layer_norm, OUTPUTS.index(self.output)

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Parameters (size,): LN at identity, He-initialised layers, the output a thin fog, or 0 where it is linear."""
        parts = [np.ones(self.channels), np.zeros(self.channels)] if self.layer_norm else []
        for rows, columns in self.layers[:-1]:
            parts += [rng.normal(0, np.sqrt(2 / columns), rows * columns), np.zeros(rows)]
        linear = self.output == "linear"
        parts += [np.zeros(self.hidden) if linear else rng.normal(0, np.sqrt(1 / self.hidden), self.hidden), [0.0 if linear else -1.0]]
        return np.concatenate(parts).astype(np.float32)


@kernel(inline=True)
def _buffers(c, h):
    """Work space of a block: features, normalised ones, the joined input of the third layer, two layers' outputs, slopes of the three."""
    wide = (h + c) * BLOCK
    return (
        np.empty(c * BLOCK, np.float32),
        np.empty(c * BLOCK, np.float32),
        np.empty(wide, np.float32),
        np.empty(h * BLOCK, np.float32),
        np.empty(h * BLOCK, np.float32),
        np.empty((3, h * BLOCK), np.float32),
    )


@kernel(inline=True)
def _forward_block(w, c, flags, mask, buffers, inverse, out):
    """All layers of a block from its features; `out` before the output function."""
    h, skip, gelu, norm, _ = flags
    x, unit, joined, h1, h3, slopes = buffers
    h2, h0 = joined[: h * BLOCK], joined[h * BLOCK :]
    at = 0
    if norm:
        normalise(x, c, inverse, unit)
        for i in range(c):
            for p in range(BLOCK):
                h0[i * BLOCK + p] = mask[i] * (w[i] * unit[i * BLOCK + p] + w[c + i])
        at = 2 * c
    else:
        for i in range(c):
            for p in range(BLOCK):
                h0[i * BLOCK + p] = mask[i] * x[i * BLOCK + p]
    fill(w, at + h * c, h, h1)
    matmul_add(w, at, h, c, h0, h1)
    activate(h1, slopes[0], h * BLOCK, gelu)
    at += h * c + h
    fill(w, at + h * h, h, h2)
    matmul_add(w, at, h, h, h1, h2)
    activate(h2, slopes[1], h * BLOCK, gelu)
    at += h * h + h
    last = h2
    if skip:
        fill(w, at + h * (h + c), h, h3)
        matmul_add(w, at, h, h + c, joined, h3)
        activate(h3, slopes[2], h * BLOCK, gelu)
        at += h * (h + c) + h
        last = h3
    out[:] = w[at + h]
    for o in range(h):
        for p in range(BLOCK):
            out[p] += w[at + o] * last[o * BLOCK + p]


@kernel(inline=True)
def _output(kind, x):
    """The output function, and its slope."""
    if kind == 0:
        root = np.sqrt(x * x + SQUAREPLUS)
        return np.float32(0.5) * (x + root), np.float32(0.5) * (1 + x / root)
    if kind == 1:
        s = 1 / (1 + np.exp(-x))
        return s, s * (1 - s)
    return x, np.float32(1)


@kernel
def _head_forward(start, stop, features, w, flags, mask, scale, mu):
    c, n = features.shape
    buffers = _buffers(c, flags[0])
    out, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(start, stop):
        first = block * BLOCK
        count = min(BLOCK, n - first)
        load(features, first, count, c, buffers[0])
        _forward_block(w, c, flags, mask, buffers, inverse, out)
        for p in range(count):
            mu[first + p] = scale * _output(flags[4], out[p])[0]


@kernel(inline=True)
def _last_layer_backward(w, at, h, last, gradient, g, grad):
    """The gradient `g` of the last hidden layer from that of the output, and those of its weights and bias, which are added to `grad`."""
    row_sums_add(gradient, 1, grad, at + h)
    for o in range(h):
        total = np.float32(0)
        for p in range(BLOCK):
            total += gradient[p] * last[o * BLOCK + p]
            g[o * BLOCK + p] = gradient[p] * w[at + o]
        grad[at + o] += total


@kernel(inline=True)
def _layer_backward(w, at, rows, columns, slope, x, g, g_in, grad):
    """Through one layer: `g` of its output becomes that before the activation, `g_in` that of its input; weights' and biases' are added."""
    multiply(g, slope, rows * BLOCK)
    outer_add(g, rows, x, columns, grad, at)
    row_sums_add(g, rows, grad, at + rows * columns)
    transposed_matmul(w, at, rows, columns, g, g_in)


@kernel(inline=True)
def _backward_block(w, c, flags, mask, buffers, inverse, gradient, work, grad):
    """Gradients of a block: of the features into the first of `work`, of the parameters added to `grad`."""
    h, skip, _, norm, _ = flags
    _, unit, joined, h1, h3, slopes = buffers
    g0, g1, g_joined, sums = work
    g2 = g_joined[: h * BLOCK]
    first = 2 * c if norm else 0
    second = first + h * c + h
    third = second + h * h + h
    if skip:
        _last_layer_backward(w, third + h * (h + c) + h, h, h3, gradient, g1, grad)
        _layer_backward(w, third, h, h + c, slopes[2], joined, g1, g_joined, grad)
    else:
        _last_layer_backward(w, third, h, joined[: h * BLOCK], gradient, g2, grad)
    _layer_backward(w, second, h, h, slopes[1], h1, g2, g1, grad)
    _layer_backward(w, first, h, c, slopes[0], joined[h * BLOCK :], g1, g0, grad)
    if skip:
        for n in range(c * BLOCK):
            g0[n] += g_joined[h * BLOCK + n]
    for i in range(c):
        for p in range(BLOCK):
            g0[i * BLOCK + p] *= mask[i]
    if norm:
        normalise_backward(w, c, inverse, unit, g0, sums, grad)


@kernel
def _head_backward(start, stop, features, w, flags, mask, scale, mu_gradient, feature_gradient, gradients):
    """Gradients of the ranges start .. stop out of `CHUNKS`: of the features, and of the parameters, (CHUNKS, size)."""
    c, n = features.shape
    h = flags[0]
    buffers = _buffers(c, h)
    g0, g1, g_joined = np.empty(c * BLOCK, np.float32), np.empty(h * BLOCK, np.float32), np.empty((h + c) * BLOCK, np.float32)
    work = (g0, g1, g_joined, np.empty((2, BLOCK), np.float32))
    out, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    blocks = (n + BLOCK - 1) // BLOCK
    for chunk in range(start, stop):
        grad = gradients[chunk]
        for block in range(blocks * chunk // CHUNKS, blocks * (chunk + 1) // CHUNKS):
            first = block * BLOCK
            count = min(BLOCK, n - first)
            load(features, first, count, c, buffers[0])
            _forward_block(w, c, flags, mask, buffers, inverse, out)
            for p in range(BLOCK):
                out[p] = scale * _output(flags[4], out[p])[1] * mu_gradient[first + p] if p < count else np.float32(0)
            _backward_block(w, c, flags, mask, buffers, inverse, out, work, grad)
            for i in range(c):
                for p in range(count):
                    feature_gradient[i, first + p] = g0[i * BLOCK + p]


def forward(features: np.ndarray, parameters: np.ndarray, head: Head, scale: float, mask: np.ndarray | None = None) -> np.ndarray:
    """Attenuation (n,) in the unit of `scale` for features (channels, n); `mask` (channels,) multiplies the normalised features."""
    mu = np.empty(features.shape[1], dtype=np.float32)
    mask = _mask(mask, head)
    run_threaded(_head_forward, -(-features.shape[1] // BLOCK), features, parameters, head.flags, mask, np.float32(scale), mu)
    return mu


def backward(
    features, parameters, head: Head, scale: float, mu_gradient: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to features (channels, n) and parameters (size,), given that with respect to mu (n,)."""
    feature_gradient = np.empty_like(features)
    gradients = np.zeros((CHUNKS, head.size), dtype=np.float32)
    arguments = (features, parameters, head.flags, _mask(mask, head), np.float32(scale), mu_gradient, feature_gradient, gradients)
    run_threaded(_head_backward, CHUNKS, *arguments, chunk=1)
    return feature_gradient, gradients.sum(axis=0)


def _mask(mask, head: Head) -> np.ndarray:
    return np.ones(head.channels, dtype=np.float32) if mask is None else np.ascontiguousarray(mask, dtype=np.float32)
