"""X-GRM: what it makes of views, of how many, in which order, and on what grid."""

import numpy as np
import pytest
import torch
from small_scanners import turned_in_plane
from small_xgrm import GRID, network, raw, scan, size, views_of
from torch.nn import functional

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import xgrm
from SparseCTReconLib.networks.dice_views import Box, shadow_matrices
from SparseCTReconLib.networks.xgrm import BASE, COMPACT, GAUSSIANS, VOXELS, XGRM, Maps, Size
from SparseCTReconLib.networks.xgrm_result import Reconstruction
from SparseCTReconLib.scan import Scan

# --- looking voxels up in maps ---------------------------------------------------------------------------------------------------------


def one_by_one(maps, geometry, grid):
    """Features (n, c) of a grid's voxels: a loop over voxels and views, with the geometry's own shadows."""
    _, c, h, w = maps.shape
    (along_v, along_u) = np.multiply(geometry.detector_shape, geometry.pixel_mm)
    out = []
    for k, j, i in np.ndindex(*grid.shape):
        depth, u, v = geometry.shadows((grid.index_to_world @ [i, j, k, 1])[None, :3])
        shown = np.zeros((geometry.views, c))
        for view in np.flatnonzero(depth[:, 0] > 0):
            x, y = (u[view, 0] / along_u + 0.5) * w - 0.5, (v[view, 0] / along_v + 0.5) * h - 0.5
            for row, column in np.ndindex(h, w):
                shown[view] += max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column)) * maps[view, :, row, column]
        out.append(shown.max(axis=0))
    return np.array(out)


CENTRED = Geometry.circular(4, 60.0, 100.0, (14, 18), (2.5, 2.0), start_rad=0.2, isocentre_mm=(1.0, -2.0, 3.0))
GEOMETRIES = {
    "centred": CENTRED,
    "offset": Geometry.circular(3, 60.0, 100.0, (9, 12), (2.0, 2.0), arc_rad=2.0, offset_mm=(9.0, 4.0)),
    "turned": turned_in_plane(CENTRED, 0.4),
    "narrow": Geometry.circular(3, 60.0, 100.0, (4, 4), (2.0, 2.0), isocentre_mm=(8.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_voxels_are_looked_up_where_they_cast_their_shadows_and_the_largest_counts(name):
    """The mlp is replaced by one that hands on what it is given."""
    geometry, made = GEOMETRIES[name], network(octaves=0)
    maps = torch.randn(geometry.views, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    made.decoder, made.last = torch.nn.Identity(), torch.nn.Linear(6, 6)
    with torch.no_grad():
        made.last.weight.copy_(torch.eye(6))
        made.last.bias.zero_()
    box = Box.of(geometry)
    known = Maps(maps, shadow_matrices(geometry, box, geometry.detector_shape))
    found = torch.cat([some for _, some in made.decode(known, box, GRID)]).detach()
    np.testing.assert_allclose(found, one_by_one(maps.numpy(), geometry, GRID), atol=2e-4)


# --- the network -----------------------------------------------------------------------------------------------------------------------


def test_the_order_of_the_views_does_not_matter_to_the_volume():
    of, made = scan(5), network()
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(raw(made, of.subset(order)), raw(made, of), rtol=1e-3, atol=1e-4)


def test_every_view_matters_and_so_does_where_it_was_taken_from():
    of, made = scan(4), network()
    whole = raw(made, of)
    for view in range(4):
        changed = of.projections.copy()
        changed[view] += 0.2
        assert (raw(made, Scan(changed, of.geometry)) - whole).abs().max() > 1e-3
    elsewhere = scan(4, seed=1).geometry
    assert (raw(made, Scan(of.projections, elsewhere)) - whole).abs().max() > 1e-3


def test_views_learn_from_each_other():
    """Tokens of a view change when another view does."""
    of, made = scan(4), network(finer=1)
    changed = of.projections.copy()
    changed[0] += 0.2
    one, other = (made.look(views_of(made, each)[0]).features for each in (of, Scan(changed, of.geometry)))
    assert (one - other)[1:].abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("views", [3, 6, 11])
def test_any_number_of_views_from_three_on_will_do(views):
    assert torch.isfinite(raw(network(), scan(views))).all()


@pytest.mark.parametrize("views", [1, 2])
def test_one_or_two_views_are_refused(views):
    with pytest.raises(InputError, match="at least 3"):
        Reconstruction(network(), scan(views), GRID)


def test_a_detector_of_any_shape_and_place_will_do():
    half_fan = scan(8, detector_shape=(10, 14), pixel_mm=(3.0, 2.0), offset_mm=(10.0, 0.0), arc_rad=2 * np.pi)
    assert torch.isfinite(raw(network(), half_fan)).all()


@pytest.mark.parametrize("head, numbers", [(GAUSSIANS, 8), (VOXELS, 1)])
@pytest.mark.parametrize("finer, octaves", [(1, 0), (2, 2), (4, 1)])
def test_gradients_reach_every_parameter(head, numbers, finer, octaves):
    made = network(head, finer=finer, octaves=octaves)
    out = made(*views_of(made, scan()), GRID)
    assert out.shape == (7 * 6 * 5, numbers) and out.dtype == torch.float32
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    still = [name for name, parameter in made.named_parameters() if parameter.grad is None or not parameter.grad.abs().max() > 0]
    assert still == []


def test_decoded_some_voxels_at_a_time_a_volume_is_the_same(monkeypatch):
    made, of = network(), scan()
    whole = raw(made, of)
    monkeypatch.setitem(xgrm.HELD, "cpu", 4 * 6 * 32)
    parts = list(made.decode(made.look(views_of(made, of)[0]), Box.of(of.geometry), GRID))
    assert [start for start, _ in parts] == list(range(0, 210, 32)) and max(len(some) for _, some in parts) == 32
    torch.testing.assert_close(torch.cat([some for _, some in parts]), whole, rtol=1e-4, atol=1e-5)


def test_a_voxel_is_what_it_is_whatever_grid_it_belongs_to():
    made, of = network(), scan()
    whole = raw(made, of).view(*GRID.shape, -1)
    origin = GRID.index_to_world @ [2, 1, 3, 1]
    part = Grid((3, 4, 2), GRID.spacing_mm, tuple(origin[:3]))
    torch.testing.assert_close(raw(made, of, part).view(*part.shape, -1), whole[3:5, 1:5, 2:5], rtol=1e-4, atol=1e-5)


def test_sparing_memory_changes_neither_volume_nor_gradients():
    found = []
    for sparing in (False, True):
        made = network().spare_memory(sparing)
        out = made(*views_of(made, scan()), GRID)
        found.append([out, *torch.autograd.grad(out.square().sum(), list(made.parameters()))])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


# --- its sizes -------------------------------------------------------------------------------------------------------------------------


def parameters(of):
    with torch.device("meta"):
        made = XGRM(of)
    return {name: sum(one.numel() for one in part.parameters()) for name, part in made.named_children()}


def test_the_base_size_is_the_papers_two_vit_b():
    d, counted = 768, parameters(BASE)
    blocks = 12 * (12 * d**2 + 13 * d)
    assert counted["fusion"] == blocks + 2 * d
    assert counted["encoder"] == blocks + 2 * d + (16**2 + 1) * d + (16**2 + 2) * d
    assert sum(counted.values()) == pytest.approx(172.6e6, rel=2e-3)


def test_the_compact_size_fits_into_a_small_file():
    assert sum(parameters(COMPACT).values()) < 10e6


@pytest.mark.parametrize("wrong", [{"edge": 18}, {"width": 15}, {"head": "points"}, {"features": 0}, {"octaves": -1}, {"hidden": 2.5}])
def test_a_size_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="X-GRM"):
        size(**wrong)


def test_a_network_begins_from_its_own_seed_and_leaves_the_callers_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other, third = (xgrm.begin(size(), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert any(not torch.equal(weight, third[name]) for name, weight in one.items())


# --- what comes of it ------------------------------------------------------------------------------------------------------------------


def test_the_volume_is_the_opacities_relative_to_water():
    made, of = network(), scan()
    of.mu_water = 0.03
    volume = Reconstruction(made, of, GRID).volume()
    wanted = 0.03 * functional.softplus(raw(made, of)[:, 0]).view(GRID.shape)
    assert volume.dtype == np.float32
    np.testing.assert_allclose(volume, wanted, rtol=1e-5)


def test_it_depends_on_attenuation_relative_to_water_alone():
    of = scan()
    doubled = Scan(2 * of.projections, of.geometry, mu_water=2 * of.mu_water)
    one, two = (Reconstruction(network(), each, GRID).volume() for each in (of, doubled))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4)


def test_a_network_that_has_learnt_nothing_casts_about_the_xrays_of_its_volume():
    grid, geometry = Grid.centred((12, 12, 12), (2.0,) * 3), scan(3, seed=2).geometry
    plain, voxels = (xgrm.begin(size(head, width=8)) for head in (GAUSSIANS, VOXELS))
    voxels.load_state_dict({**{name: tensor for name, tensor in plain.state_dict().items() if not name.startswith("last")},
                            "last.weight": plain.last.weight[:1], "last.bias": plain.last.bias[:1]})  # fmt: skip
    gaussians, volume = (Reconstruction(made, scan(), grid) for made in (plain, voxels))
    np.testing.assert_allclose(gaussians.volume(), volume.volume(), rtol=1e-5)
    made, wanted = gaussians.xrays(geometry), volume.xrays(geometry)
    assert made.shape == (3, 16, 16)
    inside = wanted > 0.5 * wanted.max()
    assert np.abs(made - wanted)[inside].mean() < 0.05 * wanted.max()


def test_novel_views_do_not_depend_on_how_many_voxels_are_decoded_at_a_time(monkeypatch):
    result = Reconstruction(network(), scan(), GRID)
    whole = result.xrays(scan(3, seed=2).geometry)
    monkeypatch.setitem(xgrm.HELD, "cpu", 4 * 6 * 50)
    np.testing.assert_allclose(result.xrays(scan(3, seed=2).geometry), whole, rtol=1e-4, atol=1e-6)


def test_sizes_survive_their_cards():
    for of in (BASE, COMPACT, size(VOXELS)):
        assert Size.from_card(xgrm.card_of(of)) == of
