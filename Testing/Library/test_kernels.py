"""What the CPU kernels are made of: vector instructions, places at the grid's very edge, and the cache of compiled code."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from SparseCTReconLib.operators import _jit, _simd, columnar, general, projector

LANES = [16, 8, 0]
STEPS = [0.05, 0.26, 0.28, 0.7, 1.0, 1.5, 1.89, 1.91, 4.0, 30.0]


def simd_with(lanes):
    """`_simd` as it is on a processor with at most `lanes` lanes."""
    spec = importlib.util.spec_from_file_location(f"SparseCTReconLib.operators._simd_{lanes}", _simd.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSECTRECON_SIMD_LANES", str(lanes))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=LANES)
def resampling(request):
    """Lanes, and the functions `resample_add` and `resample_adjoint` compiled for them."""
    module = simd_with(request.param)
    if request.param != module.LANES:
        pytest.skip(f"this processor has no vectors of {request.param} lanes")
    add, adjoint = module.resample_add, module.resample_adjoint
    signatures = {
        "add": numba.void(numba.float32[::1], numba.float32, numba.float32, numba.int64, numba.int64, numba.float32[::1]),
        "adjoint": numba.types.UniTuple(numba.int64, 2)(
            numba.float32[::1], numba.float32, numba.float32, numba.int64, numba.int64, numba.float32[::1]
        ),
    }
    return (
        numba.njit(signatures["add"])(lambda c, z, s, v0, v1, t: add(c, z, s, v0, v1, t)),
        numba.njit(signatures["adjoint"])(lambda r, z, s, v0, v1, c: adjoint(r, z, s, v0, v1, c)),
    )


def interpolation_matrix(zo, zs, nz, nv):
    """Weights (row, cell) of linear interpolation in a column of `nz` cells, zero outside, at zo + zs v."""
    z = zo + zs * np.arange(nv)[:, None]
    return np.maximum(0, 1 - np.abs(z - np.arange(nz)))


def places(step):
    """Heights of row 0 over a column of 37 cells that is met by 50 rows: at its begin, middle and end, from above and below."""
    for zs in (step, -step):
        for meets in (-0.7, 11.3, 36.9):
            for row in (0, 23, 49):
                yield meets - zs * row, zs


@pytest.mark.parametrize("step", STEPS)
def test_a_column_is_resampled_as_its_matrix_says_whatever_the_lanes(resampling, step):
    resample_add, _ = resampling
    nz, nv = 37, 50
    cells = np.random.default_rng(0).random(nz, dtype=np.float32)
    for zo, zs in places(step):
        column = np.zeros(nz + 1 + _simd.PADDING, np.float32)
        column[1 : nz + 1] = cells
        total = np.full(nv + _simd.PADDING, 2, np.float32)
        v0, v1 = columnar._rows(zo, zs, nz, nv)
        resample_add(column, np.float32(zo + 1 + zs * v0), np.float32(zs), v0, v1, total)
        np.testing.assert_allclose(total[:nv] - 2, interpolation_matrix(zo, zs, nz, nv) @ cells, atol=2e-5)


@pytest.mark.parametrize("step", STEPS)
def test_a_column_receives_what_the_transposed_matrix_gives_whatever_the_lanes(resampling, step):
    _, resample_adjoint = resampling
    nz, nv = 37, 50
    values = np.random.default_rng(1).random(nv, dtype=np.float32)
    row = np.zeros(nv + 2 * _simd.PADDING, np.float32)
    row[_simd.PADDING : _simd.PADDING + nv] = values
    column = np.full(nz + 1 + _simd.PADDING, 9, np.float32)
    for zo, zs in places(step):
        v0, v1 = columnar._rows(zo, zs, nz, nv)
        k0, k1 = resample_adjoint(row, np.float32(zo + 1 + zs * v0), np.float32(zs), v0, v1, column)
        received = np.zeros(nz)
        received[k0 - 1 : k1 - 1] = column[k0:k1]
        np.testing.assert_allclose(received, interpolation_matrix(zo, zs, nz, nv).T @ values, atol=3e-5)


@pytest.mark.parametrize("zo", [-50.0, 50.0, -1.001, 9.001])
@pytest.mark.parametrize("zs", [0.0, 1e-19, -1e-19, 1e-300, -1e-9])
def test_a_column_beside_which_all_rows_pass_has_no_rows(zo, zs):
    first, stop = columnar._rows(zo, zs, 9, 20)
    assert first >= stop


def test_a_column_that_all_rows_meet_at_one_height_has_all_of_them():
    assert columnar._rows(4.0, 1e-19, 9, 20) == (0, 20)


@pytest.mark.parametrize("edge", [np.nextafter(4.0, 0.0), np.nextafter(-1.0, 0.0), 4.0 - 1e-9])
@pytest.mark.parametrize("slope", [0.0, 3e-12])
def test_a_ray_at_the_grids_very_edge_reads_nothing_beyond_it(edge, slope):
    size = 4
    first, last = general._clip(0.0, 3.0, edge, slope, size)
    assert first > last or 0 < edge + 1 + slope * last < size + 1


def test_kernels_compiled_for_other_lanes_or_with_other_helpers_are_kept_apart(monkeypatch):
    folder = _jit.cache_folder()
    monkeypatch.setenv("SPARSECTRECON_SIMD_LANES", "8")
    assert _jit.cache_folder() != folder
    monkeypatch.delenv("SPARSECTRECON_SIMD_LANES")
    monkeypatch.setattr(_jit.Path, "read_bytes", lambda path: b"changed")
    _jit._shared_digest.cache_clear()
    assert _jit.cache_folder() != folder
    monkeypatch.undo()
    _jit._shared_digest.cache_clear()


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path))
    assert _jit.cache_folder().parent == tmp_path


def test_a_cache_that_cannot_be_written_costs_time_but_no_result(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path / "file"))

    def doubled(x):
        return 2 * x

    assert _jit.kernel(doubled)(21) == 42
    assert "every process will compile" in caplog.text


def project(folder):
    """Projections and back-projections of scanners that take every path of the columnar kernels, after the number of lanes."""
    from small_scanners import COLUMNAR

    results = [np.array(_simd.LANES)]
    for name in ("half-fan", "upside down", "fine pixels", "coarse pixels", "source within the grid", "a detail"):
        A = projector(*COLUMNAR[name], backend="columnar")
        rng = np.random.default_rng(4)
        results += [A(A.volume(rng.random(A.volume_shape))).numpy(), A.T(A.projections(rng.random(A.projection_shape))).numpy()]
    np.savez(Path(folder) / f"{_simd.LANES}.npz", *results)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 0])
def test_the_projector_computes_the_same_with_fewer_lanes(lanes, tmp_path):
    command = f"import sys; sys.path[:0] = {sys.path!r}; import test_kernels; test_kernels.project({str(tmp_path)!r})"
    environment = os.environ | {"SPARSECTRECON_SIMD_LANES": str(lanes)}
    subprocess.run([sys.executable, "-c", command], env=environment, check=True)
    if not (tmp_path / f"{lanes}.npz").exists():
        pytest.skip(f"this processor has no vectors of {lanes} lanes")
    results = np.load(tmp_path / f"{lanes}.npz").values()
    for fewer, most in zip(results, project(tmp_path)):
        assert fewer.ndim == 0 or np.linalg.norm(fewer - most) < 1e-5 * np.linalg.norm(most)
