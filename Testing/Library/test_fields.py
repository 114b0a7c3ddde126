"""Neural attenuation fields: kernels against the readable reference, the optimiser, what a field learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_scanners import TURNED, circular, cubic

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import hash_grid, head, reference
from SparseCTReconLib.fields._trilinear import STRIP
from SparseCTReconLib.fields.adam import BETA1, BETA2, EPSILON, Adam
from SparseCTReconLib.fields.field import AttenuationField
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import BLOCK, Head
from SparseCTReconLib.fields.rays import RaySampler, UnitCube

DENSE, HASHED = 20, 8
ENCODINGS = {
    "dense": HashGrid(4, 3, 17, DENSE),
    "hashed": HashGrid(4, 8, 40, HASHED),
    "first dense, then hashed": HashGrid(6, 4, 60, 10),
    "a box that is no cube, dense": HashGrid(4, 5, 23, DENSE, (1.0, 0.37, 0.71)),
    "a box that is no cube, hashed": HashGrid(4, 8, 60, HASHED, (0.22, 1.0, 0.6)),
    "a thin slice": HashGrid(4, 4, 32, DENSE, (1.0, 1.0, 0.01)),
}
COUNTS = (1, BLOCK - 1, BLOCK, 3 * BLOCK + 5)


def relative(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def points_in(box, count=1000, seed=0):
    """Points in the box, on its faces and corners and beside it."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.2, 1.2, (3, count))
    faces = rng.integers(0, 4, (3, count))
    points = np.where(faces == 0, 0, np.where(faces == 1, 1, points))
    return (points * np.array(box)[:, None]).astype(np.float32)


def exact_encode(points, table, grid):
    return reference.encode(torch.from_numpy(points).double(), table, grid)


def double(array):
    return torch.from_numpy(array).double().requires_grad_()


@pytest.fixture
def on_threads():
    """Calls a function on one and on two threads."""
    before = torch.get_num_threads()

    def results(function):
        out = []
        for count in (1, 2):
            torch.set_num_threads(count)
            out.append(function())
        return out

    yield results
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_encoding_and_its_gradient_are_those_of_the_readable_reference(name):
    grid, points = ENCODINGS[name], points_in(ENCODINGS[name].box)
    table = grid.initial_table(np.random.default_rng(1))
    weights = np.random.default_rng(2).standard_normal((grid.channels, points.shape[1])).astype(np.float32)
    exact = double(table)
    features = exact_encode(points, exact, grid)
    (features * torch.from_numpy(weights)).sum().backward()
    gradient = np.zeros_like(table)
    hash_grid.encode_backward(points, weights, grid, gradient)
    assert relative(hash_grid.encode(points, table, grid), features.detach()) < 1e-4
    assert relative(gradient, exact.grad) < 1e-4


@pytest.mark.parametrize("count", [1, STRIP - 1, STRIP, 2 * STRIP + 3])
def test_any_number_of_points_is_encoded(count):
    """And each of them counts once in the gradient."""
    grid, points = ENCODINGS["first dense, then hashed"], points_in((1, 1, 1), 3 * STRIP)
    table = grid.initial_table(np.random.default_rng(1))
    weights = np.random.default_rng(2).standard_normal((grid.channels, 3 * STRIP)).astype(np.float32)
    whole = hash_grid.encode(points, table, grid)
    np.testing.assert_allclose(hash_grid.encode(points[:, :count].copy(), table, grid), whole[:, :count], rtol=1e-5, atol=1e-7)
    of_all, of_parts = np.zeros_like(table), np.zeros_like(table)
    hash_grid.encode_backward(points, weights, grid, of_all)
    for part in (slice(count), slice(count, None)):
        hash_grid.encode_backward(points[:, part].copy(), weights[:, part].copy(), grid, of_parts)
    assert relative(of_parts, of_all) < 1e-5


def test_a_level_is_dense_where_its_table_holds_all_vertices_of_the_box():
    dense = {name: (grid.layout()[:, 3] > 0).tolist() for name, grid in ENCODINGS.items()}
    assert all(dense["dense"]) and all(dense["a thin slice"]) and not any(dense["hashed"])
    assert dense["first dense, then hashed"][0] and not dense["first dense, then hashed"][-1]


def test_a_dense_level_has_a_row_for_every_vertex_of_the_box_and_no_other():
    grid = ENCODINGS["a box that is no cube, dense"]
    for cells, _, rows, *_ in grid.layout():
        assert rows == np.prod([np.ceil(cells * edge) + 1 for edge in grid.box])


@pytest.mark.parametrize("log2_table", [DENSE, HASHED])
def test_no_vertex_lies_beyond_its_level_s_table(log2_table):
    """Edges whose cells end a hair, as much as rounding, before or behind the last vertex."""
    for edge in np.float32((40.0001 + np.arange(-8, 9) * 4e-6) / 67):
        grid = HashGrid(1, 67, 67, log2_table, (float(edge),) * 3)
        table = grid.initial_table(np.random.default_rng(0))
        corner = np.full((3, 1), edge, np.float32)
        assert relative(hash_grid.encode(corner, table, grid), exact_encode(corner, torch.from_numpy(table).double(), grid)) < 1e-2


def test_the_encoding_is_linear_between_vertices_and_continuous_across_them():
    grid = HashGrid(1, 8, 8, DENSE)
    table = grid.initial_table(np.random.default_rng(3))
    x = np.linspace(0, 1, 8 * 16 + 1, dtype=np.float32)
    features = hash_grid.encode(np.stack([x, 0 * x + 0.3, 0 * x + 0.7]), table, grid)
    bends = np.abs(np.diff(features, 2, axis=1)).max(axis=0)
    at_vertices = np.arange(1, len(x) - 1) % 16 == 0
    assert bends[~at_vertices].max() < 1e-6 < bends[at_vertices].max()


def test_points_outside_have_the_features_of_the_nearest_point_of_the_box():
    grid = ENCODINGS["a box that is no cube, dense"]
    table = grid.initial_table(np.random.default_rng(4))
    points = points_in(grid.box)
    inside = np.clip(points, 0, np.float32(grid.box)[:, None])
    np.testing.assert_array_equal(hash_grid.encode(points, table, grid), hash_grid.encode(inside, table, grid))


def test_the_gradient_is_added_to_what_is_there():
    grid = ENCODINGS["dense"]
    points = points_in(grid.box, 50)
    weights = np.ones((grid.channels, 50), np.float32)
    once, twice = np.zeros((2, *grid.initial_table(np.random.default_rng(0)).shape), np.float32)
    for target, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            hash_grid.encode_backward(points, weights, grid, target)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


HEADS = {
    "ours": Head(16, 32),
    "small": Head(4, 8),
    "smallest": Head(4, 4, skip=True),
    "odd sizes": Head(12, 20),
    "NI-NeRF": Head(20, 32, skip=True, activation="gelu"),
    "NAF": Head(32, 32, skip=True, output="sigmoid", layer_norm=False),
    "sigmoid": Head(8, 16, output="sigmoid", activation="gelu"),
    "skip without layer norm": Head(12, 8, skip=True, output="linear", layer_norm=False),
    "linear": Head(8, 12, output="linear", layer_norm=False, activation="gelu"),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", HEADS)
def test_the_head_and_its_gradients_are_those_of_the_readable_reference(count, name):
    rng, shape, scale = np.random.default_rng(count), HEADS[name], 0.02
    channels = shape.channels
    mask = (np.arange(channels) < channels - 2).astype(np.float32)
    features = (0.1 * rng.standard_normal((channels, count))).astype(np.float32)
    parameters = (shape.initial(rng) + 0.1 * rng.standard_normal(shape.size)).astype(np.float32)
    mu_gradient = rng.standard_normal(count).astype(np.float32)
    exact_features, exact_parameters = double(features), double(parameters)
    mu = reference.head(exact_features, exact_parameters, shape, scale, torch.from_numpy(mask))
    (mu * torch.from_numpy(mu_gradient)).sum().backward()
    feature_gradient, parameter_gradient = head.backward(features, parameters, shape, scale, mu_gradient, mask)
    assert relative(head.forward(features, parameters, shape, scale, mask), mu.detach()) < 1e-4
    assert relative(feature_gradient, exact_features.grad) < 1e-4
    assert relative(parameter_gradient, exact_parameters.grad) < 1e-4


@pytest.mark.parametrize("name", HEADS)
def test_every_layer_s_gradient_is_right_by_itself(name):
    """A wrong bias would drown in the norm over all parameters."""
    rng, shape = np.random.default_rng(0), HEADS[name]
    features = rng.standard_normal((shape.channels, 700)).astype(np.float32)
    parameters = (shape.initial(rng) + 0.1 * rng.standard_normal(shape.size)).astype(np.float32)
    mask = (0.5 + rng.random(shape.channels)).astype(np.float32)
    exact = double(parameters)
    reference.head(torch.from_numpy(features).double(), exact, shape, 1.0, torch.from_numpy(mask)).sum().backward()
    _, gradient = head.backward(features, parameters, shape, 1.0, np.ones(700, np.float32), mask)
    ends = np.cumsum(shape.sizes[:-1])
    for ours, expected in zip(np.split(gradient, ends), np.split(exact.grad.numpy(), ends)):
        assert relative(ours, expected) < 1e-4


@pytest.mark.parametrize("wrong", [{"activation": "gelo"}, {"output": "squareroot"}, {"channels": 6}, {"hidden": 30}, {"hidden": 0}])
def test_a_head_that_cannot_be_says_why(wrong):
    with pytest.raises(InputError):
        Head(**{"channels": 8, **wrong})


def test_a_head_with_a_linear_output_starts_at_zero():
    shape = Head(8, 12, output="linear")
    parameters = shape.initial(np.random.default_rng(0))
    assert not head.forward(np.ones((8, 5), np.float32), parameters, shape, 1.0).any()


def test_attenuation_is_never_negative_and_has_no_upper_bound():
    shape = Head(4, 8)
    parameters = np.zeros(shape.size, np.float32)
    for bias, expected in ((-30.0, 0.0), (30.0, 0.6)):
        parameters[-1] = bias
        mu = head.forward(np.zeros((4, 5), np.float32), parameters, shape, 0.02)
        assert (mu >= 0).all()
        np.testing.assert_allclose(mu, expected, atol=0.02 * 0.02)


def small_field(seed=0, grid=None, scale=0.02):
    grid = grid or HashGrid(4, 4, 16, 12)
    return AttenuationField(grid, Head(grid.channels, 16), scale, np.random.default_rng(seed))


def test_a_step_does_not_depend_on_the_threads(on_threads):
    points = torch.from_numpy(points_in((1, 1, 1), 40_000))
    gradient = torch.randn(points.shape[1], generator=torch.Generator().manual_seed(5))

    def step():
        field = small_field()
        for _ in range(2):
            mu, features = field.forward(points)
            field.descend(points, features, gradient, 0.01, 0.01)
        return mu, field.table, field.parameters

    for one, two in zip(*on_threads(step)):
        np.testing.assert_array_equal(one, two)


def test_adam_is_that_of_torch():
    rng = np.random.default_rng(6)
    start = rng.standard_normal(1001).astype(np.float32)
    ours, theirs = start.copy(), torch.nn.Parameter(torch.from_numpy(start.copy()))
    adam = Adam(ours)
    torch_adam = torch.optim.Adam([theirs], lr=0.05, betas=(float(BETA1), float(BETA2)), eps=float(EPSILON))
    for rate in (0.05, 0.05, 0.02, 0.01, 0.01):
        gradient = rng.standard_normal(1001).astype(np.float32)
        theirs.grad = torch.from_numpy(gradient.copy())
        torch_adam.param_groups[0]["lr"] = rate
        torch_adam.step()
        adam.step(gradient, rate)
        assert not gradient.any()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)


def test_adam_leaves_alone_what_has_no_gradient():
    values = np.ones((10, 2), np.float32)
    adam = Adam(values)
    gradient = np.zeros((10, 2), np.float32)
    for _ in range(3):
        gradient[::2] = 1
        adam.step(gradient, 0.1)
    assert (values[1::2] == 1).all() and (values[::2] < 0.75).all()
    assert not adam.first.reshape(10, 2)[1::2].any() and not adam.second.reshape(10, 2)[1::2].any()


def test_the_field_s_volume_is_the_field_at_the_voxel_centres():
    field, cube = small_field(), UnitCube(TURNED)
    index = np.array([[3, 7, 12], [19, 0, 13], [0, 8, 0]])
    world = index @ TURNED.index_to_world[:3, :3].T + TURNED.index_to_world[:3, 3]
    matrix, shift = cube.from_world()
    expected = field(torch.from_numpy((matrix @ world.T + shift[:, None]).astype(np.float32)))
    volume = field.volume(cube)
    assert volume.shape == TURNED.shape and volume.dtype == np.float32
    np.testing.assert_allclose(volume[tuple(index.T[::-1])], expected, rtol=1e-4)


def test_a_field_goes_on_exactly_from_its_arrays():
    points, gradient = torch.from_numpy(points_in((1, 1, 1), 300)), torch.randn(300, generator=torch.Generator().manual_seed(14))

    def train(field, steps):
        for _ in range(steps):
            _, features = field.forward(points)
            field.descend(points, features, gradient, 0.01, 0.005)
        return field

    through = train(small_field(), 5)
    kept = {name: np.array(array) for name, array in train(small_field(), 3).arrays().items()}
    other = small_field(seed=99)
    other.restore(kept)
    train(other, 2)
    for name, array in through.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array, err_msg=name)
    np.testing.assert_array_equal(other(points), through(points))


def test_a_field_that_learns_the_rays_of_an_even_volume_becomes_even():
    geometry, grid, mu = circular(views=8, detector_shape=(16, 18), pixel_mm=(3.6, 3.6)), cubic(), 0.015
    cube = UnitCube(grid)
    field, sampler = small_field(grid=HashGrid(4, 4, 12, 14)), RaySampler(geometry, cube, 2.0)  # the scanner sees all of the grid
    rng = np.random.default_rng(15)
    for step in range(250):
        pixels = sampler.draw(8, rng)
        points, lengths = sampler(pixels, rng)
        at_samples, features = field.forward(points)
        error = (at_samples.reshape(len(pixels), -1).sum(axis=1) - mu * sampler.samples) * lengths
        rate = 0.02 * 0.02 ** (step / 250)
        field.descend(points, features, (error * lengths).repeat_interleave(sampler.samples), rate, rate)
    volume = field.volume(cube)
    assert volume.mean() == pytest.approx(mu, rel=0.01)
    assert np.abs(volume / mu - 1).mean() < 0.08


def test_an_encoding_says_how_large_it_is():
    grid = replace(ENCODINGS["hashed"], levels=3)
    assert grid.channels == 6 and grid.initial_table(np.random.default_rng(0)).shape == (3 << HASHED, 2)
    assert grid.resolutions()[0] == 8 and grid.resolutions()[-1] == 40
