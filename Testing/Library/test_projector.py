"""The projector: line integrals, their exact adjoint, and backends that agree."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import random_geometry, rotation
from small_scanners import COLUMNAR, GENERAL, circular, cubic

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import is_columnar, projector

SCANNERS = COLUMNAR | GENERAL
KERNELS = [(name, backend) for name in COLUMNAR for backend in ("columnar", "general")] + [(name, "general") for name in GENERAL]
COMBINATIONS = KERNELS + [(name, "torch") for name in ("half-fan", "irregular", "source within an oblique grid")]
SIZE_OF_BLOB = (20, 20, 20)


def random_volume(A, seed=1):
    return A.volume(np.random.default_rng(seed).random(A.volume_shape, dtype=np.float32))


def random_projections(A, seed=2):
    return A.projections(np.random.default_rng(seed).random(A.projection_shape, dtype=np.float32))


def inner(a, b):
    return float((a.double() * b.double()).sum())


def norm(a):
    return float(torch.linalg.vector_norm(a.double()))


def relative(a, b):
    return norm(a - b) / norm(b)


def adjoint_error(A):
    x, y = random_volume(A), random_projections(A)
    projected = A(x)
    scale = norm(projected) * norm(y)
    return abs(inner(projected, y) - inner(x, A.T(y))) / scale if scale else norm(A.T(y))


@pytest.mark.parametrize("name, backend", COMBINATIONS)
def test_the_adjoint_is_exact(name, backend):
    A = projector(*SCANNERS[name], backend=backend)
    assert norm(A(random_volume(A))) > 0
    assert adjoint_error(A) < 1e-5


@pytest.mark.parametrize("name, backend", KERNELS)
def test_a_kernel_computes_what_the_readable_reference_does(name, backend):
    A, truth = (projector(*SCANNERS[name], backend=which) for which in (backend, "torch"))
    x, y = random_volume(A), random_projections(A)
    assert relative(A(x), truth(x)) < 1e-5
    assert relative(A.T(y), truth.T(y)) < 1e-5


@pytest.mark.parametrize("name", SCANNERS)
def test_the_fast_path_is_taken_exactly_where_detector_columns_are_parallel_to_z(name):
    assert is_columnar(*SCANNERS[name]) is (name in COLUMNAR)
    assert projector(*SCANNERS[name]).backend == ("columnar" if name in COLUMNAR else "general")


def test_general_and_fast_path_agree_on_a_usual_orbit():
    geometry = Geometry.preset("linac", 10, detector_shape=(48, 64), pixel_mm=(8.5, 6.4))
    grid = Grid.centred((32, 32, 32), (8.0,) * 3)
    fast, general = (projector(geometry, grid, backend=backend) for backend in ("columnar", "general"))
    x, y = random_volume(fast), random_projections(fast)
    assert relative(general(x), fast(x)) < 1e-4
    assert relative(general.T(y), fast.T(y)) < 1e-4


@st.composite
def any_scanners(draw):
    """Poses in all directions about a small grid of any shape, spacing and orientation."""
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    poses = random_geometry(seed, views=draw(st.integers(1, 3)), mirrored=draw(st.booleans()), isocentre_mm=rng.uniform(-50, 50, 3))
    geometry = Geometry(
        poses.source,
        poses.detector,
        poses.u,
        poses.v,
        (draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        (draw(st.floats(1, 60)), draw(st.floats(1, 60))),
        poses.isocentre_mm,
    )
    size, spacing = [draw(st.integers(1, 9)) for _ in range(3)], [draw(st.floats(0.5, 80)) for _ in range(3)]
    direction = rotation(rng.normal(size=3), rng.uniform(0, 3)) if draw(st.booleans()) else np.eye(3)
    first = np.asarray(poses.isocentre_mm) - direction @ (np.multiply(size, spacing) / 2) + rng.uniform(-20, 20, 3)
    return geometry, Grid(tuple(size), tuple(spacing), tuple(first), direction)


@settings(max_examples=60, deadline=None)
@given(any_scanners())
def test_any_pose_on_any_grid_has_its_exact_adjoint_and_equals_the_reference(scanner):
    A, truth = (projector(*scanner, backend=backend) for backend in ("general", "torch"))
    x, y = random_volume(A), random_projections(A)
    expected = truth(x)
    rounding = 1e-7 * float(np.linalg.norm(A.grid.spacing_mm))  # of a weight near 0, which is 1 minus a weight near 1
    assert norm(A(x) - expected) <= 1e-5 * norm(expected) + rounding * norm(x)
    assert norm(A.T(y) - truth.T(y)) <= 1e-5 * norm(truth.T(y)) + rounding * norm(y)
    assert adjoint_error(A) < 1e-5


@st.composite
def orbits_about_z(draw):
    """Circular orbits, displaced, raised and with any pixels, about a small grid of any shape and spacing."""
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    geometry = circular(
        views=draw(st.integers(1, 3)),
        detector_shape=shape,
        pixel_mm=(draw(st.floats(0.2, 20)), draw(st.floats(0.2, 20))),
        start_rad=draw(st.floats(-7, 7)),
        offset_mm=(draw(st.floats(-20, 20)), draw(st.floats(-20, 20))),
    )
    size = tuple(draw(st.integers(1, 14)) for _ in range(3))
    spacing = tuple(draw(st.floats(0.2, 10)) for _ in range(3))
    centre = tuple(draw(st.floats(-10, 10)) for _ in range(3))
    return geometry, Grid.centred(size, spacing, centre)


@settings(max_examples=60, deadline=None)
@given(orbits_about_z())
def test_any_orbit_about_z_has_its_exact_adjoint_and_equals_the_general_path(scanner):
    if not is_columnar(*scanner):
        return
    A, general = (projector(*scanner, backend=backend) for backend in ("columnar", "general"))
    x, y = random_volume(A), random_projections(A)
    scale = max(A.grid.spacing_mm) * np.sqrt(A.geometry.views * np.prod(A.geometry.detector_shape))
    assert norm(A(x) - general(x)) <= 1e-4 * norm(general(x)) + 1e-6 * scale
    assert norm(A.T(y) - general.T(y)) <= 1e-4 * norm(general.T(y)) + 1e-6 * scale
    assert abs(inner(A(x), y) - inner(x, A.T(y))) < 1e-5 * norm(A(x)) * norm(y) + 1e-6 * scale


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
def test_a_ray_through_a_slab_measures_its_path(backend):
    geometry = Geometry.circular(1, 200.0, 300.0, (9, 9), (5.0, 5.0))
    grid = Grid.centred((40, 10, 40), (1.5, 2.0, 1.5))
    A = projector(geometry, grid, backend=backend)
    v, u = np.meshgrid(*geometry.pixel_offsets_mm(), indexing="ij")
    path = 20.0 * np.sqrt(300.0**2 + u**2 + v**2) / 300.0
    np.testing.assert_allclose(A(A.volume(np.full(grid.shape, 0.02)))[0].numpy(), 0.02 * path, rtol=1e-6)


def ray_distances_mm(geometry, point):
    """Distance of each pixel's ray from `point`, (views, v, u)."""
    rows, columns = geometry.pixel_offsets_mm()
    pixel = (
        geometry.detector[:, None, None] + columns[:, None] * geometry.u[:, None, None] + rows[:, None, None] * geometry.v[:, None, None]
    )
    ray = pixel - geometry.source[:, None, None]
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    return np.linalg.norm(np.cross(ray, np.asarray(point) - geometry.source[:, None, None]), axis=-1)


def distances_mm(grid, point):
    """Distance of each voxel from `point`, [z, y, x]."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")[::-1], axis=-1)
    return np.linalg.norm(index @ grid.index_to_world[:3, :3].T + grid.origin_mm - point, axis=-1)


@pytest.mark.parametrize("name", ["circular", "half-fan", "helical", "upside down", "tilted", "turned in plane", "irregular", "oblique"])
def test_a_blob_has_the_line_integrals_of_its_closed_form(name):
    geometry, coarse = SCANNERS[name]
    width, centre = 2.2 * max(coarse.spacing_mm), coarse.centre_mm
    expected = width * np.sqrt(2 * np.pi) * np.exp(-(ray_distances_mm(geometry, centre) ** 2) / (2 * width**2))
    errors = []
    for finer in (2, 4):
        grid = Grid.centred(np.multiply(SIZE_OF_BLOB, finer), np.full(3, max(coarse.spacing_mm) / finer), centre)
        A = projector(geometry, grid)
        blob = np.exp(-(distances_mm(grid, centre) ** 2) / (2 * width**2))
        errors.append(np.abs(A(A.volume(blob)).numpy() - expected).max() / expected.max())
    assert errors[0] < 0.015
    assert errors[1] < errors[0] / 3


def test_a_ball_is_as_thick_as_a_ball():
    geometry, grid, radius = circular(views=3, detector_shape=(30, 30), pixel_mm=(2.0, 2.0)), Grid.centred((40,) * 3, (1.0,) * 3), 14.0
    A = projector(geometry, grid)
    difference = A(A.volume(distances_mm(grid, (0, 0, 0)) < radius)).numpy()
    difference -= 2 * np.sqrt(np.maximum(radius**2 - ray_distances_mm(geometry, (0, 0, 0)) ** 2, 0))
    assert np.abs(difference).mean() < 0.5 and abs(difference.mean()) < 0.05


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
def test_rays_that_miss_measure_nothing_and_give_nothing_back(backend):
    A = projector(circular(), cubic(centre_mm=(0, 0, 90)), backend=backend)
    assert norm(A(A.volume(np.ones(A.volume_shape)))) == 0
    assert norm(A.T(random_projections(A))) == 0


@pytest.mark.parametrize("backend", ["columnar", "general"])
@pytest.mark.parametrize("height_mm", [0.0, 11.0, 100.0])
def test_a_source_on_a_plane_of_voxels_is_no_trouble(backend, height_mm):
    geometry = Geometry.circular(4, 16.0, 64.0, (8, 10), (5.0, 4.0))
    grid = Grid.centred((33, 33, 9), (1.0, 1.0, 2.0), (0, 0, height_mm))
    A, truth = (projector(geometry, grid, backend=which) for which in (backend, "torch"))
    x, y = random_volume(A), random_projections(A)
    # The voxels at the source itself may count or not: the sample there is at the very end of the ray.
    at_source = distances_mm(grid, (0, 0, 0)) >= 16.0 - 1e-3
    x[torch.from_numpy(at_source)] = 0
    assert norm(A(x) - truth(x)) <= 1e-5 * norm(truth(x))
    assert torch.isfinite(A.T(y)).all()


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
@pytest.mark.parametrize("views", [slice(None, None, 2), [3, 0], 2, [False, True, True, False, True], np.array([4, 4, 1])])
def test_a_subset_of_views_is_those_rows_of_the_whole(backend, views):
    A = projector(circular(), cubic(), backend=backend)
    x, y = random_volume(A), random_projections(A)
    picked = np.atleast_1d(np.arange(5)[views])
    np.testing.assert_array_equal(A[views](x).numpy(), A(x).numpy()[picked])
    only = torch.zeros_like(y)
    for view in picked:
        only[view] += y[view]
    assert relative(A[views].T(y[picked]), A.T(only)) < 1e-6


@pytest.mark.parametrize("name, backend", [("half-fan", "columnar"), ("irregular", "general"), ("circular", "torch")])
def test_gradients_are_those_of_the_mathematics(name, backend):
    A = projector(*SCANNERS[name], backend=backend)
    x, y = random_volume(A).requires_grad_(), random_projections(A)
    misfit = 0.5 * (A(x) - y).square().sum()
    (gradient,) = torch.autograd.grad(misfit, x, create_graph=True)
    with torch.no_grad():
        assert relative(gradient, A.T(A(x) - y)) < 1e-6
        direction = random_volume(A, seed=3)
        step = 0.01 * norm(x) / norm(direction)
        ahead, behind = (0.5 * (A(x + sign * step * direction).double() - y).square().sum() for sign in (1, -1))
        assert float(ahead - behind) / (2 * step) == pytest.approx(inner(gradient, direction), rel=1e-4)
    (curvature,) = torch.autograd.grad((gradient * direction).sum(), x)
    assert relative(curvature, A.T(A(direction))) < 1e-6


def test_gradients_run_through_the_adjoint_too():
    A = projector(*SCANNERS["half-fan"])
    y = random_projections(A).requires_grad_()
    A.T(y).square().sum().backward()
    with torch.no_grad():
        assert relative(y.grad, 2 * A(A.T(y))) < 1e-6


@pytest.fixture
def with_threads():
    """A function that sets torch's threads; they are put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["half-fan", "thick slices", "irregular", "oblique"])
def test_the_result_does_not_depend_on_the_threads(name, with_threads):
    A = projector(*SCANNERS[name])
    x, y = random_volume(A), random_projections(A)
    results = []
    for threads in (1, 2, 3):
        with_threads(threads)
        results.append((A(x).numpy(), A.T(y).numpy()))
    for forward, adjoint in results[1:]:
        np.testing.assert_array_equal(forward, results[0][0])
        np.testing.assert_array_equal(adjoint, results[0][1])


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 9, 1), (9, 1, 1), (1, 1, 9), (7, 7, 1)])
@pytest.mark.parametrize("detector", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_shapes_work(backend, size, detector):
    geometry = circular(views=1, detector_shape=detector, pixel_mm=(4.0, 4.0), offset_mm=(1.0, 0.7))
    A = projector(geometry, Grid.centred(size, (3.0,) * 3), backend=backend)
    assert norm(A(random_volume(A))) > 0
    assert adjoint_error(A) < 1e-5


@pytest.mark.parametrize("name", ["circular", "irregular"])
def test_memory_order_and_precision_of_what_is_given_do_not_matter(name):
    A = projector(*SCANNERS[name])
    x, y = random_volume(A), random_projections(A)
    expected, back = A(x).numpy(), A.T(y).numpy()
    for change in (torch.Tensor.contiguous, torch.Tensor.double, lambda t: t.repeat(2, 1, 1)[: len(t)], lambda t: t.flip(1).flip(1)):
        np.testing.assert_array_equal(A(change(x)).numpy(), expected)
        np.testing.assert_array_equal(A.T(change(y)).numpy(), back)
    every_other = torch.zeros(*x.shape[:2], 2 * x.shape[2])[:, :, ::2].copy_(x)
    np.testing.assert_array_equal(A(every_other).numpy(), expected)


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
def test_the_input_is_left_as_it_was_and_the_output_is_float32(backend):
    A = projector(circular(), cubic(), backend=backend)
    x, y = random_volume(A), random_projections(A)
    before = x.clone(), y.clone()
    assert A(x).dtype == A.T(y).dtype == torch.float32
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
def test_another_default_precision_of_torch_does_not_matter(backend):
    A = projector(circular(), cubic(), backend=backend)
    x, y = random_volume(A), random_projections(A)
    expected, back = A(x), A.T(y)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(A(x), expected) and torch.equal(A.T(y), back)
        assert A.zeros().dtype == A.volume(x).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("backend", ["columnar", "general", "torch"])
def test_a_volume_or_stack_of_another_shape_is_refused(backend):
    A = projector(circular(), cubic(), backend=backend)
    for call, array in (
        (A, torch.zeros(A.volume_shape[::-1])),
        (A, torch.zeros(1, *A.volume_shape)),
        (A.T, torch.zeros(A.projection_shape[0], *A.projection_shape[:0:-1])),
        (A.T, torch.zeros(4, *A.projection_shape[1:])),
        (A.volume, np.zeros(1)),
        (A.projections, np.zeros(A.projection_shape[1:])),
    ):
        with pytest.raises(ValueError, match="expected a tensor of shape"):
            call(array)


def test_a_nan_stays_one():
    A = projector(circular(), cubic())
    x = A.zeros()
    x[6, 6, 5] = np.nan
    seen = torch.isnan(A(x))
    assert seen.any() and not seen.all()


def test_a_backend_that_does_not_fit_or_does_not_exist_is_refused():
    with pytest.raises(InputError, match="use 'general'"):
        projector(*GENERAL["tilted"], backend="columnar")
    with pytest.raises(InputError, match="no projector backend 'fast': choose one of columnar, general, torch"):
        projector(circular(), cubic(), backend="fast")
