"""What X-GRM is shown of a scan: its images, and the rays through their patches."""

import numpy as np
import pytest
import torch
from small_xgrm import scan
from torch.nn import functional

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.networks.posed_views import ModLN, pluecker_rays, posed
from SparseCTReconLib.scan import Scan

TILTED = Geometry.circular(5, 100.0, 150.0, (6, 9), (2.0, 3.0), offset_mm=(4.0, -3.0), isocentre_mm=(7.0, -20.0, 50.0))


def rays(geometry=TILTED, rows=3, columns=4):
    """Directions and moments (views, rows, columns, 3), and the box they are in."""
    box = Box.of(geometry)
    return *np.split(pluecker_rays(geometry, box, rows, columns), 2, axis=-1), box


def test_a_direction_is_a_unit_vector_and_a_moment_is_at_right_angles_to_it():
    direction, moment, _ = rays()
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1)
    np.testing.assert_allclose((direction * moment).sum(axis=-1), 0, atol=1e-12)


def test_the_moment_is_as_long_as_the_ray_is_far_from_the_isocentre_in_half_edges_of_the_box():
    direction, moment, box = rays()
    source = TILTED.source[:, None, None] - TILTED.isocentre_mm
    nearest = source - (source * direction).sum(axis=-1, keepdims=True) * direction
    distance = np.linalg.norm(nearest, axis=-1) / (box.edges_mm[0] / 2)
    np.testing.assert_allclose(np.linalg.norm(moment, axis=-1), distance, atol=1e-12)


def test_any_point_of_a_ray_has_the_same_moment_the_middle_of_the_patch_too():
    direction, moment, box = rays()
    for row, column in ((0, 0), (2, 3), (1, 2)):
        v, u = ((row + 0.5) / 3 - 0.5) * 12.0, ((column + 0.5) / 4 - 0.5) * 27.0
        pixel = (TILTED.detector + v * TILTED.v + u * TILTED.u - TILTED.isocentre_mm) / (box.edges_mm[0] / 2)
        np.testing.assert_allclose(np.cross(pixel, direction[:, row, column]), moment[:, row, column], atol=1e-12)


def test_the_ray_through_the_isocentre_has_no_moment():
    geometry = Geometry.circular(4, 100.0, 150.0, (5, 5), (2.0, 2.0))
    direction, moment, _ = rays(geometry, 5, 5)
    np.testing.assert_allclose(moment[:, 2, 2], 0, atol=1e-12)
    np.testing.assert_allclose(direction[:, 2, 2], geometry.normal, atol=1e-12)


def test_a_machine_twice_as_large_is_the_same_to_the_network():
    small, large = (Geometry.circular(3, 100.0 * k, 150.0 * k, (4, 6), (2.0 * k, 2.0 * k)) for k in (1, 2))
    np.testing.assert_allclose(*(pluecker_rays(geometry, Box.of(geometry), 2, 3) for geometry in (small, large)), atol=1e-12)


def test_images_keep_proportions_and_means_and_say_how_much_water():
    geometry = Geometry.circular(3, 100.0, 150.0, (8, 20), (4.0, 2.0))
    of = Scan(np.random.default_rng(0).random((3, 8, 20)).astype(np.float32), geometry, mu_water=0.03)
    box = Box.of(geometry)
    views = posed(of, box, edge=20, patch=4)
    assert views.images.shape == (3, 1, 16, 20) and views.rays.shape == (3, 4, 5, 6) and views.matrices.shape == (3, 3, 4)
    constant = Scan(np.full((3, 8, 20), 0.6, np.float32), geometry, mu_water=0.03)
    torch.testing.assert_close(posed(constant, box, 8, 4).images, torch.full((3, 1, 8, 8), 0.6 / (0.03 * box.edges_mm[0])))


def test_it_does_not_matter_how_a_machine_counts_rows_and_columns():
    of = scan()
    flipped = Geometry(of.geometry.source, of.geometry.detector, -of.geometry.u, -of.geometry.v, (16, 16), (3.0, 3.0))
    again = Scan(of.projections[:, ::-1, ::-1], flipped)
    for one, other in zip(posed(of, Box.of(of.geometry), 16, 4), posed(again, Box.of(flipped), 16, 4)):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("views", [1, 2])
def test_one_or_two_views_are_refused(views):
    of = scan(views)
    with pytest.raises(InputError, match=f"has {views} views: a learned volume needs at least 3"):
        posed(of, Box.of(of.geometry), 16, 4)


def test_modln_begins_as_a_layer_norm_and_is_scaled_and_shifted_by_what_the_ray_says():
    torch.manual_seed(0)
    layer, tokens, told = ModLN(8), torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4, 6)
    plain = functional.layer_norm(tokens, (8,))
    torch.testing.assert_close(layer(tokens, told), plain)
    torch.nn.init.normal_(layer.change.weight)
    torch.nn.init.normal_(layer.change.bias)
    hidden = told @ layer.told.weight.T + layer.told.bias
    change = (hidden * hidden.sigmoid()) @ layer.change.weight.T + layer.change.bias
    torch.testing.assert_close(layer(tokens, told), plain * (1 + change[..., :8]) + change[..., 8:])
