"""DiCE: its sizes, what it sees of a scan, what learns, and volumes on any grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_dice import SMALL, network, orbit, random_scan
from small_scanners import helical, irregular

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks.dice import DiCE, begin, reconstruct, with_denoising
from SparseCTReconLib.networks.dice_configuration import COMPACT, FULL, SIZES, VIEWS_ALONE, Configuration
from SparseCTReconLib.networks.dice_views import Box, shadows
from SparseCTReconLib.scan import Scan


def count(module):
    """Numbers that are learnt or follow, as the paper counts them: without the statistics of batches."""
    held = list(module.parameters()) + [tensor for name, tensor in module.named_buffers() if name.endswith(("codes", "sizes", "sums"))]
    return sum(tensor.numel() for tensor in held)


# --- sizes -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return DiCE(FULL)


def test_full_has_7_2_million_numbers_as_the_paper_says(full):
    assert count(full) == pytest.approx(7.2e6, rel=0.01)


@pytest.mark.parametrize(
    "part, millions", [("encoder", 0.314), ("quantisers", 0.292), ("decoders", 5.257), ("denoisers", 1.176), ("points", 0.179)]
)
def test_its_parts_have_what_the_published_weights_have(full, part, millions):
    assert round(count(getattr(full, part)) / 1e6, 3) == millions


def test_its_scales_are_the_papers(full):
    assert full.configuration.widths == (16, 32, 64, 128) and full.multiple == 8 and full.configuration.cells == 32
    assert full.points.layers[0][0].in_channels == 368 and full.quantisers[0].codes.shape == (512, 16)


def test_compact_is_a_third_of_it_at_most_and_a_seventh_without_a_first_volume():
    with torch.device("meta"):
        assert count(DiCE(COMPACT)) < 7.2e6 / 3 and count(DiCE(VIEWS_ALONE)) < 7.2e6 / 6
    assert SIZES["compact"] == COMPACT and SIZES["full"] == Configuration()


@pytest.mark.parametrize("wrong", [{"widths": ()}, {"widths": (2, 0)}, {"cells": 0}, {"codes": -1}, {"top": 0.0}, {"points": (3, -1)}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="every size must be positive"):
        replace(SMALL, **wrong)


@pytest.mark.parametrize(
    "change", [lambda card: card.pop("cells"), lambda card: card.update(colour="red"), lambda card: card.update(cells="many")]
)
def test_a_card_that_is_none_of_its_is_refused(change):
    card = SMALL.card()
    assert Configuration.from_card(card) == SMALL
    change(card)
    with pytest.raises(InputError, match="none of DiCE's"):
        Configuration.from_card(card)


# --- any scan, any grid ----------------------------------------------------------------------------------------------------------------

GRID = Grid.centred((7, 6, 5), (4.0, 5.0, 6.0), (1.0, 2.0, -3.0))


@pytest.mark.parametrize(
    "geometry",
    [
        orbit(views=1),
        orbit(views=2),
        orbit(views=13),
        orbit(detector_shape=(9, 11), pixel_mm=(6.0, 7.0)),
        orbit(offset_mm=(25.0, 3.0), arc_rad=2 * np.pi),
        helical(orbit(), 30.0),
        irregular(),
    ],
    ids=["one view", "two views", "13 views", "odd detector", "half fan", "helix", "irregular"],
)
@pytest.mark.parametrize("denoising", [False, True])
def test_any_number_of_views_of_any_orbit_gives_a_volume_that_is_nowhere_negative(geometry, denoising):
    volume = reconstruct(network(replace(SMALL, denoising=denoising)), random_scan(geometry), GRID)
    assert volume.shape == GRID.shape and volume.dtype == np.float32 and np.isfinite(volume).all()
    assert volume.min() >= 0 and np.ptp(volume) > 0


@pytest.mark.parametrize("at_once", [1, 11, 10**6])
def test_decoding_in_pieces_gives_the_same(at_once):
    made, scan = network(), random_scan()
    whole = reconstruct(made, scan, GRID)
    np.testing.assert_allclose(reconstruct(made, scan, GRID, at_once=at_once), whole, rtol=1e-4, atol=1e-7)


def test_images_are_encoded_in_groups_with_the_same_result():
    made, scan = network(), random_scan(orbit(views=21))
    seen = made.looks(scan, Box.of(scan.geometry))
    with torch.no_grad():
        grouped = made._encoded(seen.images)
    for one, other in zip(grouped, made._encoded(seen.images)):
        torch.testing.assert_close(one, other)


def test_a_part_of_a_grid_has_the_values_that_the_whole_has_there():
    made, scan = network(), random_scan()
    whole = reconstruct(made, scan, GRID)
    origin = (GRID.index_to_world @ [2, 1, 1, 1])[:3]
    part = Grid((4, 3, 2), GRID.spacing_mm, tuple(origin))
    np.testing.assert_allclose(reconstruct(made, scan, part), whole[1:3, 1:4, 2:6], rtol=1e-4, atol=1e-7)


def test_a_turned_grid_shows_the_same_space():
    made, scan = network(), random_scan()
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    plain = Grid.centred((6, 6, 6), (5.0,) * 3)
    turned = Grid((6, 6, 6), (5.0,) * 3, plain.origin_mm, turn)
    shown = reconstruct(made, scan, plain).transpose(2, 0, 1)
    np.testing.assert_allclose(reconstruct(made, scan, turned), shown, rtol=1e-4, atol=1e-7)


def test_the_same_at_twice_the_size_looks_the_same():
    """A body twice as large, of half the attenuation, casts the same line integrals."""
    made, geometry = network(), orbit()
    scan = random_scan(geometry)
    larger = Geometry(2 * geometry.source, 2 * geometry.detector, geometry.u, geometry.v, geometry.detector_shape, (10.0, 10.0))
    twice = Scan(scan.projections, larger, mu_water=scan.mu_water / 2)
    grid, larger_grid = (Grid.centred((5, 5, 5), (scale * 6.0,) * 3) for scale in (1, 2))
    np.testing.assert_allclose(2 * reconstruct(made, twice, larger_grid), reconstruct(made, scan, grid), rtol=1e-3, atol=1e-7)


def test_the_order_of_views_does_not_matter():
    made, scan = network(), random_scan()
    np.testing.assert_allclose(reconstruct(made, scan.subset([3, 0, 4, 2, 1]), GRID), reconstruct(made, scan, GRID), rtol=1e-4, atol=1e-7)


def test_images_of_a_size_that_does_not_divide_are_refused():
    made = network()
    seen = made.looks(random_scan(), Box.of(orbit()))
    with pytest.raises(InputError, match=r"\(11, 16\) pixels: give multiples of 4"):
        made([seen._replace(images=seen.images[:, :, :11])], torch.zeros(1, 2, 3))


@pytest.mark.parametrize("few", [[0], [6]])
def test_an_impossible_number_of_views_is_refused(few):
    made = network()
    with pytest.raises(InputError, match="give at least one and no more than there are"):
        made([made.looks(random_scan(), Box.of(orbit()))], torch.zeros(1, 2, 3), few)


# --- few views and many ----------------------------------------------------------------------------------------------------------------


def asked(made, scan, few=None, seed=0):
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (1, 9, 3))).float()
    return made([made.looks(scan, Box.of(scan.geometry))], points, few)


def changed_after(scan, view):
    projections = scan.projections.copy()
    projections[view:] = 1 - projections[view:]
    return Scan(projections, scan.geometry)


def test_before_adjustment_points_see_the_few_views_and_the_volume_all():
    made, scan = network(), random_scan()
    few, every = made.features([made.looks(scan, Box.of(scan.geometry))], [2]), made.features([made.looks(scan, Box.of(scan.geometry))])
    assert torch.equal(few.volume, every.volume) and len(few.maps[0][0]) == len(few.matrices[0]) == 2
    assert not torch.allclose(asked(made, scan, [2]).values, asked(made, scan).values)
    assert not torch.allclose(asked(made, scan, [2]).values, asked(made, changed_after(scan, 2), [2]).values)
    assert float(few.denoising) == 0 and float(few.quantisation) > 0


def test_after_adjustment_the_others_only_say_what_denoising_should_give():
    made, scan = network(replace(SMALL, denoising=True)), random_scan()
    one, other = asked(made, scan, [2]), asked(made, changed_after(scan, 2), [2])
    torch.testing.assert_close(one.values, other.values)
    torch.testing.assert_close(one.values, asked(made, scan.subset([0, 1])).values)
    assert float(one.denoising) > 0 and abs(float(one.denoising - other.denoising)) > 1e-6
    assert float(asked(made, scan).denoising) == 0


def test_the_denoising_loss_is_the_mean_distance_to_the_features_of_all_views():
    made, scan = network(replace(SMALL, denoising=True)), random_scan()
    few, every = (made.features([made.looks(some, Box.of(scan.geometry))]) for some in (scan.subset([0, 1]), scan))
    at = shadows(every.matrices[0], made.cells)
    distances = []
    for scale, (quantise, denoise) in enumerate(zip(made.quantisers, made.denoisers)):
        sparse = made._back_projected(few.maps, [at[:2]], scale)
        target = quantise(made._back_projected(every.maps, [at], scale))[0]
        distances.append(float((denoise(quantise(sparse)[0]) - target).abs().mean()))
    assert float(asked(made, scan, [2]).denoising) == pytest.approx(np.mean(distances), rel=1e-4)


def test_scans_of_a_batch_do_not_see_each_other():
    made, scans = network(), [random_scan(orbit(views=n), seed=n) for n in (3, 5)]
    points = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 9, 3))).float()
    seen = [made.looks(scan, Box.of(scan.geometry)) for scan in scans]
    together = made(seen, points, [2, 4]).values
    for n in range(2):
        torch.testing.assert_close(made([seen[n]], points[n : n + 1], [(2, 4)[n]]).values, together[n : n + 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learning", [False, True])
def test_images_of_a_batch_may_differ_in_size(learning):
    made, scans = network(), [random_scan(orbit(detector_shape=shape), seed=n) for n, shape in enumerate([(12, 16), (8, 20)])]
    points = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 9, 3))).float()
    seen = [made.looks(scan, Box.of(scan.geometry)) for scan in scans]
    with torch.set_grad_enabled(learning):
        together = made(seen, points).values
        for n in range(2):
            torch.testing.assert_close(made([seen[n]], points[n : n + 1]).values, together[n : n + 1], rtol=1e-4, atol=1e-6)


# --- what learns -----------------------------------------------------------------------------------------------------------------------


def still(made, few):
    """Names of what no gradient reaches."""
    made.train()
    prediction = asked(made, random_scan(), few)
    (prediction.values.square().mean() + prediction.quantisation + prediction.denoising).backward()
    return {name for name, parameter in made.named_parameters() if parameter.grad is None or not parameter.grad.abs().max() > 0}


def indifferent(made):
    """Constants that normalisation takes away again."""
    names = {name for name, _ in made.named_parameters()}
    return {name for name in names if name.endswith(".0.bias") and name.replace(".0.bias", ".1.bias") in names}


@pytest.mark.parametrize("denoising", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_gradients_reach_everything(denoising, plain):
    made = begin(replace(SMALL, denoising=denoising, plain_output=plain), seed=3)
    assert still(made, [3]) <= indifferent(made)


def test_of_a_frozen_network_encoder_and_codebooks_stay_and_the_rest_learns():
    made = begin(replace(SMALL, denoising=True)).freeze()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    resting = {name for name, _ in made.named_parameters() if name.startswith(("encoder.", "quantisers."))}
    assert still(made, [3]) - indifferent(made) <= resting and not any(made.get_parameter(name).requires_grad for name in resting)
    made.train().eval().train()
    asked(made, random_scan(seed=4), [3])
    state = made.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in state if name.startswith(("encoder.", "quantisers.")))
    assert made.decoders[0].training and not torch.equal(
        state["decoders.0.enter.1.running_mean"], before["decoders.0.enter.1.running_mean"]
    )


def test_denoise_layers_come_and_go_and_the_rest_stays():
    made = network()
    more = with_denoising(made, True)
    assert len(more.denoisers) == 3 and more.configuration.denoising and not more.training
    again = with_denoising(more, False)
    for name, tensor in made.state_dict().items():
        assert torch.equal(more.state_dict()[name], tensor) and torch.equal(again.state_dict()[name], tensor)
    assert with_denoising(made, False) is made


def test_a_seed_gives_the_same_network_and_leaves_other_random_numbers_alone():
    torch.manual_seed(5)
    one, state = begin(SMALL, 1), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), state)
    other, different = begin(SMALL, 1), begin(SMALL, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    assert not torch.equal(one.encoder.stem[0].weight, different.encoder.stem[0].weight)
