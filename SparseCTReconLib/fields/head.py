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
    ONE,
    activate,
    activate_backward,
    last_product,
    last_product_backward,
    load,
    normalise,
    normalise_backward,
    store,
)
from ._tiles import BLOCK, ROWS, affine, outer_add, transposed_product

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
def _buffers(c, flags, backward):
    """Work space of a block: the joined input of the third layer, outputs of the first and the third, slopes of the three."""
    h, skip, gelu, _, _ = flags
    return (
        np.empty((h + c, BLOCK), np.float32),
        np.empty((h, BLOCK), np.float32),
        np.empty((h if skip else 0, BLOCK), np.float32),
        np.empty((3, h if gelu and backward else 0, BLOCK), np.float32),
    )


@kernel(inline=True)
def _forward_block(w, flags, buffers, inverse, out):
    """All layers of a block from its features, which lie behind the second layer's outputs; `out` before the output function."""
    h, skip, gelu, norm, _ = flags
    joined, h1, h3, slopes = buffers
    h2, h0 = joined[:h], joined[h:]
    if norm:
        normalise(h0, inverse)
    affine(w, 0, h0, h1)
    activate(h1, gelu, slopes[0])
    at = h * len(h0) + h
    affine(w, at, h1, h2)
    activate(h2, gelu, slopes[1])
    at += h * h + h
    if skip:
        affine(w, at, joined, h3)
        activate(h3, gelu, slopes[2])
        at += h * len(joined) + h
    last_product(w, at, h3 if skip else h2, out)


@kernel(inline=True)
def _output(kind, x):
    """The output function, and its slope."""
    if kind == 0:
        root = np.sqrt(x * x + SQUAREPLUS)
        return np.float32(0.5) * (x + root), np.float32(0.5) * (ONE + x / root)
    if kind == 1:
        s = ONE / (ONE + np.exp(-x))
        return s, s * (ONE - s)
    return x, ONE


@kernel
def _head_forward(start, stop, features, w, flags, scale, mu):
    c, n = features.shape
    buffers = _buffers(c, flags, False)
    out, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(start, stop):
        first = block * BLOCK
        count = min(BLOCK, n - first)
        load(features, first, count, buffers[0][flags[0] :])
        _forward_block(w, flags, buffers, inverse, out)
        values = mu[first : first + count]
        for p in range(count):
            values[p] = scale * _output(flags[4], out[p])[0]


@kernel(inline=True)
def _layer_backward(w, at, x, g, g_in, zeros, grad):
    """Through one affine layer, given the gradient `g` of its output: `g_in` of its input, of the weights added to `grad`."""
    outer_add(g, x, grad, at)
    transposed_product(w, at, zeros, g, g_in)


@kernel(inline=True)
def _backward_block(w, flags, buffers, inverse, gradient, work, grad):
    """Gradients of a block: of the features into the first of `work`, of the weights and biases added to `grad`."""
    h, skip, gelu, norm, _ = flags
    joined, h1, h3, slopes = buffers
    g0, g1, g_joined, zeros = work
    h2, h0, g2 = joined[:h], joined[h:], g_joined[:h]
    second = h * len(h0) + h
    third = second + h * h + h
    if skip:
        last = third + h * len(joined) + h
        last_product_backward(w, last, h3, gradient, g1, grad)
        activate_backward(g1, h3, gelu, slopes[2], grad, last - h)
        _layer_backward(w, third, joined, g1, g_joined, zeros, grad)
    else:
        last_product_backward(w, third, h2, gradient, g2, grad)
    activate_backward(g2, h2, gelu, slopes[1], grad, third - h)
    _layer_backward(w, second, h1, g2, g1, zeros, grad)
    activate_backward(g1, h1, gelu, slopes[0], grad, second - h)
    _layer_backward(w, 0, h0, g1, g0, zeros, grad)
    if skip:
        g0 += g_joined[h:]
    if norm:
        normalise_backward(inverse, h0, g0)


@kernel
def _head_backward(start, stop, features, w, flags, scale, mu_gradient, feature_gradient, gradients):
    """Gradients of the ranges start .. stop out of `CHUNKS`: of the features, and of weights and biases, (CHUNKS, ...)."""
    c, n = features.shape
    h = flags[0]
    buffers = _buffers(c, flags, True)
    g0, g1, g_joined = np.empty((c, BLOCK), np.float32), np.empty((h, BLOCK), np.float32), np.empty((h + c, BLOCK), np.float32)
    work = g0, g1, g_joined, np.zeros(ROWS, np.float32)
    out, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    blocks = (n + BLOCK - 1) // BLOCK
    for chunk in range(start, stop):
        for block in range(blocks * chunk // CHUNKS, blocks * (chunk + 1) // CHUNKS):
            first = block * BLOCK
            count = min(BLOCK, n - first)
            load(features, first, count, buffers[0][h:])
            _forward_block(w, flags, buffers, inverse, out)
            given = mu_gradient[first : first + count]
            for p in range(count):
                out[p] = scale * _output(flags[4], out[p])[1] * given[p]
            out[count:] = 0
            _backward_block(w, flags, buffers, inverse, out, work, gradients[chunk])
            store(g0, first, count, feature_gradient)


def forward(features: np.ndarray, parameters: np.ndarray, head: Head, scale: float, mask: np.ndarray | None = None) -> np.ndarray:
    """Attenuation (n,) in the unit of `scale` for features (channels, n); `mask` (channels,) multiplies the normalised features."""
    mu = np.empty(features.shape[1], dtype=np.float32)
    folded = _fold(parameters, head, _mask(mask, head))
    run_threaded(_head_forward, -(-features.shape[1] // BLOCK), features, folded, head.flags, np.float32(scale), mu)
    return mu


def backward(
    features, parameters, head: Head, scale: float, mu_gradient: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to features (channels, n) and parameters (size,), given that with respect to mu (n,)."""
    feature_gradient = np.empty_like(features)
    mask = _mask(mask, head)
    folded = _fold(parameters, head, mask)
    gradients = np.zeros((CHUNKS, len(folded)), dtype=np.float32)
    arguments = (features, folded, head.flags, np.float32(scale), mu_gradient, feature_gradient, gradients)
    run_threaded(_head_backward, CHUNKS, *arguments, chunk=1)
    return feature_gradient, _unfold(gradients.sum(axis=0), parameters, head, mask)


def _fold(parameters: np.ndarray, head: Head, mask: np.ndarray) -> np.ndarray:
    """Weights and biases with the layer norm's gain and shift and the mask in those of the layers that see the encoding."""
    gain, shift, layers = _split(parameters, head)
    for weights, biases in _on_encoding(layers, head):
        biases += weights @ (mask * shift)
        weights *= mask * gain
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def _unfold(folded_gradient: np.ndarray, parameters: np.ndarray, head: Head, mask: np.ndarray) -> np.ndarray:
    """Gradient with respect to the parameters, given that with respect to what `_fold` makes of them."""
    gain, shift, layers = _split(parameters, head)
    _, _, gradients = _split(np.concatenate([parameters[: len(parameters) - len(folded_gradient)], folded_gradient]), head)
    of_gain, of_shift = np.zeros_like(gain), np.zeros_like(shift)
    for (weights, _), (of_weights, of_biases) in zip(_on_encoding(layers, head), _on_encoding(gradients, head)):
        of_gain += mask * (weights * of_weights).sum(axis=0)
        of_shift += mask * (of_biases @ weights)
        of_weights *= mask * gain
        of_weights += np.outer(of_biases, mask * shift)
    norm = [of_gain, of_shift] if head.layer_norm else []
    return np.concatenate([part.ravel() for part in (*norm, *(part for layer in gradients for part in layer))])


def _split(parameters: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray, list]:
    """Copies of gain and shift (channels,), which are 1 and 0 without a layer norm, and of each layer's weights and biases."""
    parts = [part.copy() for part in np.split(parameters, np.cumsum(head.sizes)[:-1])]
    if head.layer_norm:
        gain, shift, *parts = parts
    else:
        gain, shift = np.ones(head.channels, np.float32), np.zeros(head.channels, np.float32)
    weights = [part.reshape(shape) for part, shape in zip(parts[::2], head.layers)]
    return gain, shift, list(zip(weights, parts[1::2]))


def _on_encoding(layers: list, head: Head) -> list:
    """Weights on the encoding and biases of the layers that see it."""
    (first, biases), *_ = layers
    return [(first, biases)] + ([(layers[2][0][:, head.hidden :], layers[2][1])] if head.skip else [])


def _mask(mask, head: Head) -> np.ndarray:
    return np.ones(head.channels, dtype=np.float32) if mask is None else np.ascontiguousarray(mask, dtype=np.float32)
