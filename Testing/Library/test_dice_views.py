"""What DiCE is shown of a scan: which way up, where points fall, and what the views say of them."""

import numpy as np
import pytest
import torch
from poses import hit_mm, random_geometry
from small_dice import orbit, random_scan
from small_scanners import helical, irregular, turned_in_plane, upside_down

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks.dice_views import OUTSIDE, Box, looks, shadow_matrices, shadows, upright, within
from SparseCTReconLib.networks.largest import by_torch, largest
from SparseCTReconLib.scan import Scan

BOX = Box((3.0, -5.0, 8.0), (40.0, 50.0, 60.0))
GEOMETRIES = {
    "circle": orbit(isocentre_mm=(3.0, -5.0, 8.0)),
    "half fan": orbit(offset_mm=(22.0, -7.0)),
    "helix": helical(orbit(), 40.0),
    "turned": turned_in_plane(orbit(), 0.3),
    "upside down": upside_down(orbit()),
    "irregular": irregular(),
    "random": random_geometry(4),
    "mirrored": random_geometry(5, mirrored=True),
    "one view": orbit(views=1),
}


def points_of(count, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (count, 3))).float()


def mm(box, points):
    return np.asarray(box.centre_mm) + points.numpy().astype(float) * np.asarray(box.edges_mm) / 2


# --- where points fall -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_point_falls_where_its_ray_meets_the_detector_in_every_view(name):
    geometry, points = GEOMETRIES[name], points_of(20)
    box = Box(geometry.isocentre_mm, (30.0, 40.0, 50.0))
    found = shadows(shadow_matrices(geometry, box, geometry.detector_shape), points).numpy()
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    for place, point in zip(found.transpose(1, 0, 2), mm(box, points)):
        wanted = hit_mm(geometry, point) / [nu * du / 2, nv * dv / 2]
        near = np.abs(wanted) < OUTSIDE
        np.testing.assert_allclose(place[near], wanted[near], atol=1e-4)


def test_it_is_what_the_geometry_says_of_shadows():
    geometry, points = GEOMETRIES["half fan"], points_of(50)
    _, u, v = geometry.shadows(mm(BOX, points))
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    wanted = np.stack([2 * u / (nu * du), 2 * v / (nv * dv)], axis=-1)
    np.testing.assert_allclose(shadows(shadow_matrices(geometry, BOX, (nv, nu)), points), wanted, atol=1e-5)


def test_the_centre_of_a_pixel_is_read_there_even_where_the_image_was_lengthened():
    geometry = orbit(views=2, detector_shape=(10, 13))
    scan = random_scan(geometry)
    look = looks(scan, BOX, path_mm=100.0, multiple=8)
    assert look.images.shape == (2, 1, 16, 16)
    np.testing.assert_array_equal(look.images[:, :, 10:], look.images[:, :, 9:10].expand(-1, -1, 6, -1))
    row, column, view = 7, 11, 1
    v, u = (axis[index] for axis, index in zip(geometry.pixel_offsets_mm(), (row, column)))
    pixel = geometry.detector[view] + u * geometry.u[view] + v * geometry.v[view]
    point = torch.tensor((pixel - BOX.centre_mm) / (np.asarray(BOX.edges_mm) / 2)).float()[None]
    found = largest(look.images[[view]], shadows(look.matrices[[view]], point))
    assert float(found) == pytest.approx(scan.projections[view, row, column] / (scan.mu_water * 100), rel=1e-3)


def test_what_lies_behind_the_source_or_beside_it_casts_no_shadow():
    geometry = orbit(views=1)
    box = Box((0, 0, 0), (1000.0, 1000.0, 1000.0))
    behind = geometry.source + [[0, -50, 0], [30, 0, 0], [0, -1e-9, 0]]
    at = shadows(shadow_matrices(geometry, box, geometry.detector_shape), torch.from_numpy(behind / 500).float())
    assert (at.abs().amax(dim=-1) >= OUTSIDE).all() and torch.isfinite(at).all()
    assert float(largest(torch.ones(1, 1, 4, 4), at).abs().max()) == 0


# --- which way up ----------------------------------------------------------------------------------------------------------------------


def counted(geometry, projections, rows, columns):
    """The same scan from a machine that counts rows or columns of some views the other way."""
    signs = np.where(rows, -1.0, 1.0)[:, None], np.where(columns, -1.0, 1.0)[:, None]
    turned = Geometry(
        geometry.source, geometry.detector, geometry.u * signs[1], geometry.v * signs[0], geometry.detector_shape, geometry.pixel_mm
    )
    array = projections.copy()
    array[rows] = array[rows, ::-1]
    array[columns] = array[columns, :, ::-1]
    return Scan(array, turned)


def test_however_a_machine_counts_its_pixels_the_network_sees_the_same():
    scan = random_scan(orbit(views=4, offset_mm=(10.0, 5.0)))
    plain = looks(scan, BOX, 100.0)
    np.testing.assert_array_equal(plain.images[:, 0] * (scan.mu_water * 100), scan.projections)
    for seed in range(4):
        rows, columns = np.random.default_rng(seed).integers(0, 2, (2, 4)).astype(bool)
        other = looks(counted(scan.geometry, scan.projections, rows, columns), BOX, 100.0)
        assert torch.equal(other.images, plain.images)
        torch.testing.assert_close(other.matrices, plain.matrices)


def test_upright_views_are_not_copied():
    scan = random_scan()
    assert upright(scan.projections, scan.geometry) == (scan.projections, scan.geometry)


def test_water_as_thick_as_the_path_is_shown_as_1_whatever_water_attenuates():
    geometry = orbit(views=2)
    scan = Scan(np.full((2, 12, 16), 0.02 * 123.0), geometry, mu_water=0.02)
    torch.testing.assert_close(looks(scan, BOX, 123.0).images, torch.ones(2, 1, 12, 16))


# --- boxes -----------------------------------------------------------------------------------------------------------------------------


def test_a_scans_box_is_the_cube_of_its_field_of_view_about_the_isocentre():
    geometry = orbit(isocentre_mm=(1.0, 2.0, 3.0))
    box, radius = Box.of(geometry), geometry.field_of_view()[0]
    assert box.centre_mm == (1.0, 2.0, 3.0) and box.edges_mm == (2 * radius,) * 3 and radius > 20
    missed = Box.of(orbit(offset_mm=(0.0, 500.0)))
    assert missed.edges_mm[0] > 20
    wide = Box.of(orbit(offset_mm=(500.0, 0.0)))
    assert wide.edges_mm[0] == pytest.approx(16 * 5 / 1.5)


def test_voxels_and_cells_lie_where_they_are():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    grid = Grid((4, 5, 6), (2.0, 3.0, 1.5), (7.0, -2.0, 1.0), turn)
    matrix = BOX.voxels(grid).numpy()
    for index in ((0, 0, 0), (3, 1, 5)):
        world = (grid.index_to_world @ [*index, 1])[:3]
        np.testing.assert_allclose(matrix @ [*index, 1], (world - BOX.centre_mm) / (np.asarray(BOX.edges_mm) / 2), atol=1e-6)
    cells = BOX.cells(4).reshape(4, 4, 4, 3)
    np.testing.assert_allclose(cells[1, 2, 3], [0.75, 0.25, -0.25])
    np.testing.assert_allclose(BOX.cells(4, corners=True).reshape(4, 4, 4, 3)[1, 2, 3], [0.5, 0.0, -0.5])
    volume = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    np.testing.assert_allclose(within(volume, cells.reshape(1, -1, 3))[0, 0], np.arange(64), atol=1e-4)
    assert float(within(volume, torch.tensor([[[5.0, 5.0, 5.0]]]))) == 63


# --- what the views say ----------------------------------------------------------------------------------------------------------------


def bilinear(image, x, y):
    """Of an image [v, u], the value at column x and row y of -1 to 1 from edge to edge; 0 beyond it. A loop to compare with."""
    (nv, nu), total = image.shape, 0.0
    column, row = (x + 1) / 2 * nu - 0.5, (y + 1) / 2 * nv - 0.5
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= r < nv and 0 <= c < nu:
                total += image[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("name", ["half fan", "helix", "irregular"])
def test_features_are_back_projected_as_a_loop_over_views_and_points_has_it(name, learning):
    geometry = GEOMETRIES[name]
    box = Box(geometry.isocentre_mm, (40.0, 50.0, 60.0))
    maps = torch.from_numpy(np.random.default_rng(1).normal(size=(geometry.views, 2, 6, 8))).float().requires_grad_(learning)
    points = box.cells(3)
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    wanted = np.full((2, 27), -np.inf)
    for n, point in enumerate(mm(box, points)):
        for view, (u, v) in enumerate(hit_mm(geometry, point)):
            for channel in range(2):
                value = bilinear(maps[view, channel].detach().numpy(), 2 * u / (nu * du), 2 * v / (nv * dv))
                wanted[channel, n] = max(wanted[channel, n], value)
    at = shadows(shadow_matrices(geometry, box, geometry.detector_shape), points)
    for look_up in (largest, by_torch):
        found = look_up(maps, at)
        np.testing.assert_allclose(found.detach(), wanted, atol=1e-4)
        assert found.requires_grad == learning


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("channels, last", [(1, False), (5, True), (19, True)])
def test_values_and_gradients_of_the_kernel_are_torchs(corners, channels, last):
    random = np.random.default_rng(channels)
    maps = torch.from_numpy(random.normal(size=(6, channels, 7, 9))).float()
    maps = maps.contiguous(memory_format=torch.channels_last) if last else maps
    at = torch.from_numpy(random.uniform(-1.4, 1.4, (6, 300, 2))).float()
    at[2, :40], at[:, 50] = OUTSIDE, OUTSIDE
    weights, found = torch.from_numpy(random.normal(size=(channels, 300))).float(), []
    for look_up in (largest, by_torch):
        given = maps.detach().requires_grad_()
        out = look_up(given, at, corners)
        (out * weights).sum().backward()
        found.append((out.detach(), given.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(largest(maps, at, corners), found[0][0])


def test_a_value_that_is_no_number_is_not_hidden():
    maps = torch.full((1, 3, 4, 4), torch.nan)
    assert largest(maps, torch.zeros(1, 2, 2)).isnan().all()


def test_the_gradient_goes_to_the_view_that_shows_most_and_to_no_other():
    geometry = orbit(views=3)
    maps = torch.stack([torch.full((1, 4, 4), value) for value in (1.0, 3.0, 2.0)]).requires_grad_()
    largest(maps, shadows(shadow_matrices(geometry, Box.of(geometry), geometry.detector_shape), torch.zeros(1, 3))).sum().backward()
    assert maps.grad.sum(dim=(1, 2, 3)).tolist() == pytest.approx([0, 1, 0])
