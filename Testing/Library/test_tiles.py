"""Products in registers, with the tiles of every kind of processor."""

import importlib.util
import platform

import numba
import numpy as np
import pytest

from SparseCTReconLib.fields import _tiles
from SparseCTReconLib.operators import _simd

PROCESSORS = {
    "AVX-512": (16, "x86_64", (64, 4)),
    "AVX2": (8, "AMD64", (16, 2)),
    "SSE": (0, "x86_64", (8, 2)),
    "NEON": (0, "arm64", (16, 4)),
}
"""Lanes, machine, and the points and columns of a tile."""


@pytest.fixture(scope="module", params=PROCESSORS)
def products(request):
    """The three products, compiled with the tiles of a processor; LLVM makes up for registers that are not here."""
    lanes, machine, expected = PROCESSORS[request.param]
    spec = importlib.util.spec_from_file_location("SparseCTReconLib.fields._tiles_of_another", _tiles.__file__)
    tiles = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_simd, "LANES", lanes)
        patch.setattr(platform, "machine", lambda: machine)
        spec.loader.exec_module(tiles)
    points, columns = expected
    assert points == tiles.TILE and columns == tiles.COLUMNS
    affine, transposed, outer = tiles.affine, tiles.transposed_product, tiles.outer_add

    @numba.njit
    def all_three(w, at, x, g, zeros, out, back, grad):
        affine(w, at, x, out)
        transposed(w, at, zeros, g, back)
        outer(g, x, grad, at)

    return all_three


@pytest.mark.parametrize("rows, columns", [(4, 4), (12, 8), (8, 20)])
def test_products_are_those_of_numpy_on_every_processor(rows, columns, products):
    rng, at, block = np.random.default_rng(0), 3, _tiles.BLOCK
    w, grad = rng.standard_normal((2, at + rows * columns + rows + 5)).astype(np.float32)
    x, g = (rng.standard_normal((channels, block)).astype(np.float32) for channels in (columns, rows))
    out, back, before = np.full_like(g, np.nan), np.full_like(x, np.nan), grad.copy()
    products(w, at, x, g, np.zeros(4, np.float32), out, back, grad)
    weights = w[at : at + rows * columns].reshape(rows, columns)
    biases = w[at + rows * columns :][:rows, None]
    np.testing.assert_allclose(out, weights @ x + biases, atol=1e-4)
    np.testing.assert_allclose(back, weights.T @ g, atol=1e-4)
    expected = before.copy()
    expected[at : at + rows * columns] += (g @ x.T).ravel()
    np.testing.assert_allclose(grad, expected, atol=1e-4)
