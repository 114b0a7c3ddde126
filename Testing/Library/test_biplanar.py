"""Two X-rays at right angles, laid beside the slices of a grid."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import Phantom
from poses import random_geometry, rotation
from small_scanners import OBLIQUE, TURNED, circular, cubic, helical, tilted, turned_in_plane, upside_down

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks.biplanar import biplanar, orthogonal_views
from SparseCTReconLib.scan import Scan

MU_WATER = 0.02


def at_angles(degrees):
    return Geometry.from_gantry_angles(np.radians(degrees), 100.0, 160.0, (18, 20), (3.0, 3.0))


@pytest.mark.parametrize(
    "geometry, wanted",
    [
        (circular(views=12), (0, 3)),
        (circular(views=12, start_rad=2.0), (0, 3)),
        (circular(views=4), (0, 1)),
        (circular(views=19, arc_rad=np.pi), (0, 9)),
        (circular(views=10, arc_rad=np.pi / 3), (0, 9)),
        (circular(views=2, arc_rad=np.pi), (0, 0)),
        (at_angles([0, 10, 200, 290, 300]), (2, 3)),
        (at_angles([0, 180, 181]), (0, 2)),
        (at_angles([40, 40, 310]), (0, 2)),
        (at_angles([5]), (0, 0)),
    ],
)
def test_the_first_two_views_at_right_angles_are_found_or_those_nearest_to_it(geometry, wanted):
    assert orthogonal_views(geometry) == wanted


@pytest.mark.parametrize("seed", range(4))
def test_of_views_in_all_directions_no_two_are_nearer_to_a_right_angle(seed):
    geometry = random_geometry(seed, views=7, mirrored=seed % 2 == 1)
    towards = np.cross(geometry.u, geometry.v)
    angles = np.degrees(np.arccos(np.clip(np.abs(towards @ towards.T), 0, 1)))
    first, second = orthogonal_views(geometry)
    assert angles[first, second] == pytest.approx(angles.max(), abs=1e-3)


def sideways(geometry, grid, view):
    """Where the columns of a view's X-ray lead: across its rays and the slices' axis."""
    across = np.cross(grid.direction[:, 2], geometry.normal[view])
    return across / np.linalg.norm(across)


SCANNERS = {
    "circular": (circular(), cubic()),
    "half-fan": (circular(offset_mm=(17.0, -4.0)), cubic()),
    "short arc": (circular(arc_rad=3.5), cubic()),
    "helical": (helical(circular(), 8.0), cubic()),
    "upside down": (upside_down(circular()), cubic()),
    "turned in plane": (turned_in_plane(circular(), 0.4), cubic()),
    "tilted": (tilted(circular(), 0.25), cubic()),
    "anisotropic": (circular(), Grid.centred((11, 14, 12), (2.6, 1.3, 2.2))),
    "thick slices": (circular(), Grid.centred((15, 11, 6), (2.0, 2.0, 4.0))),
    "beside the isocentre": (circular(), cubic(centre_mm=(6.0, -5.0, 4.0))),
    "turned about z": (circular(), Grid((11, 13, 12), (2.0,) * 3, (-4.0, -15.0, -11.0), rotation((0, 0, 1), 0.5))),
    "oblique": (circular(), OBLIQUE),
    "oblique, anisotropic": (circular(), TURNED),
}


@pytest.mark.parametrize("name", SCANNERS)
def test_a_ball_lies_in_the_row_of_its_slice_and_in_the_column_of_its_place_across_the_rays(name):
    geometry, grid = SCANNERS[name]
    geometry = replace(geometry, detector_shape=(120, 140), pixel_mm=(0.6, 0.6))
    width, nz, n = max(grid.extent_mm[:2]), grid.size[2], max(grid.size[:2])
    row, column = round(0.7 * (nz - 1)), round(0.3 * (n - 1))
    up, across = (row - (nz - 1) / 2) * grid.spacing_mm[2], ((column + 0.5) / n - 0.5) * width
    for number, view in enumerate(orthogonal_views(geometry)):
        centre = grid.centre_mm + across * sideways(geometry, grid, view) + up * grid.direction[:, 2]
        ball = Phantom(3.0, ((MU_WATER, tuple(centre / 3.0), (1, 1, 1), 0.0),))
        sheet = biplanar(Scan(ball.line_integrals(geometry), geometry, mu_water=MU_WATER), grid)[number]
        assert np.unravel_index(sheet.argmax(), sheet.shape) == (row, column)
        assert sheet.max() == pytest.approx(6.0 / width, rel=0.05)


def test_columns_of_both_are_seen_from_the_detector():
    """With the source in front, what is on the patient's left is in the first columns; with it on the left, what is behind is."""
    geometry, grid = at_angles([0, 90]), cubic()
    for view, direction in enumerate(([1, 0, 0], [0, 1, 0])):
        np.testing.assert_allclose(sideways(geometry, grid, view), -np.array(direction), atol=1e-9)


@pytest.mark.parametrize("mu_water", [0.02, 0.04])
@pytest.mark.parametrize("grid", [cubic(), Grid.centred((20, 9, 5), (1.0, 1.5, 3.0))])
def test_a_cylinder_of_water_as_wide_as_the_grid_reads_as_its_chords_over_its_width(grid, mu_water):
    width = max(grid.extent_mm[:2])
    geometry = Geometry.circular(4, 5000.0, 5100.0, (60, 120), (0.4, 0.25))
    cylinder = Phantom(width / 2, ((mu_water, (0, 0, 0), (1, 1, 1000), 0.0),))
    sheets = biplanar(Scan(cylinder.line_integrals(geometry), geometry, mu_water=mu_water), grid)
    n = max(grid.size[:2])
    assert sheets.shape == (2, grid.size[2], n) and sheets.dtype == np.float32
    chords = np.sqrt(1 - ((np.arange(n) + 0.5) / n * 2 - 1) ** 2)
    np.testing.assert_allclose(sheets, np.broadcast_to(chords, sheets.shape), atol=0.01)


@pytest.mark.parametrize("offset_mm", [(0.0, 0.0), (14.0, 0.0), (-14.0, 9.0)])
def test_where_the_detector_does_not_reach_there_is_nothing(offset_mm):
    grid = cubic()
    geometry = Geometry.circular(4, 1000.0, 1600.0, (8, 12), (2.0, 2.0), offset_mm=offset_mm)
    sheets = biplanar(Scan(np.ones((4, 8, 12)), geometry, mu_water=MU_WATER), grid) * MU_WATER * max(grid.extent_mm[:2])
    across, up = (((np.arange(n) + 0.5) / n - 0.5) * 26 for n in (13, 13))
    up = (np.arange(12) - 5.5) * 2
    for number, view in enumerate(orthogonal_views(geometry)):
        along_u = 1.6 * across * np.dot(sideways(geometry, grid, view), geometry.u[view])
        inside = (np.abs(1.6 * up - offset_mm[1]) <= 7)[:, None] & (np.abs(along_u - offset_mm[0]) <= 11)
        assert 0 < inside.mean() < 1
        np.testing.assert_allclose(sheets[number], inside, atol=1e-5)


def test_a_view_along_the_axis_and_a_single_view_give_numbers_too():
    above = Geometry([[0, 0, 100.0]], [[0, 0, -60.0]], [[1.0, 0, 0]], [[0, 1.0, 0]], (18, 20), (3.0, 3.0))
    sheets = biplanar(Scan(np.ones((1, 18, 20)), above, mu_water=MU_WATER), cubic())
    assert np.isfinite(sheets).all() and sheets.max() > 0
    np.testing.assert_array_equal(sheets[0], sheets[1])


def test_a_source_in_the_middle_of_the_grid_casts_no_shadow_on_itself():
    geometry = Geometry([[0, 0, 0.0]], [[0, 60.0, 0]], [[1.0, 0, 0]], [[0, 0, 1.0]], (18, 20), (3.0, 3.0), (0.0, 30.0, 0.0))
    np.testing.assert_array_equal(biplanar(Scan(np.ones((1, 18, 20)), geometry, mu_water=MU_WATER), cubic()), 0)
