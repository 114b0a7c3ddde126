"""What a card keeps of the scans that weights have learnt from, and what is said of a scan beyond them."""

import json

import numpy as np
import pytest
import small_dice
import small_xgrm
from phantoms import Phantom

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.networks import scan_range
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.networks.scan_range import NUMBERS, distance, line_integrals, numbers
from SparseCTReconLib.scan import Scan


def scan(seed=0, views=None, radius=None, factor=1.0, **changes):
    """A scan of a body of random size from half a circle, 6 to 10 views, as a training draws them."""
    rng = np.random.default_rng(seed)
    made_gap = changes.pop("gap", False)
    views = views or int(rng.integers(6, 11))
    made = {"sid_mm": rng.uniform(180, 220), "arc_rad": np.pi, "detector_shape": (16, 16), "pixel_mm": (4.0, 4.0)} | changes
    geometry = Geometry.circular(views, sdd_mm=1.6 * made["sid_mm"], **made)
    if made_gap:
        geometry = Geometry.from_gantry_angles(
            np.radians([0, 5, 10, 15, 90, 170, 175, 180]), made["sid_mm"], 1.6 * made["sid_mm"], (16, 16), (4.0, 4.0)
        )
    body = Phantom(radius or rng.uniform(9.0, 14.0))
    return Scan(np.float32(factor) * body.line_integrals(geometry), geometry)


@pytest.fixture(scope="module")
def network():
    return small_dice.network()


@pytest.fixture(scope="module")
def card(network):
    return json.loads(json.dumps({"range": scan_range.of(network, (scan(seed) for seed in range(24)))}))


def said(card, network, of):
    return scan_range.warning(card, "limb", of, lambda: scan_range.features(network, of))


def test_scans_like_those_that_were_learnt_from_are_not_warned_of(card, network):
    assert [said(card, network, scan(seed)) for seed in range(100, 112)] == [""] * 12


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"views": 5}, "it has 5 views, they 6 to 10"),
        ({"views": 20}, "it has 20 views, they 6 to 10"),
        ({"arc_rad": np.radians(120)}, "it has an orbit of 120 degrees, they 180 degrees"),
        ({"views": 8, "gap": True}, "it has a gap between neighbouring views of"),
        ({"offset_mm": (12.0, 0.0)}, "a detector out of its place by a share of its width of 0.18"),
        ({"pixel_mm": (8.0, 8.0), "radius": 22.0}, "it has a field of view of"),
        ({"detector_shape": (48, 48), "pixel_mm": (4 / 3, 4 / 3)}, "it has 48 detector columns, they 16"),
        ({"radius": 3.0}, "its line integrals are others"),
        ({"factor": 10.0}, "its line integrals are others"),
    ],
)
def test_a_scan_beyond_the_range_is_told_by_what_it_differs_in(card, network, changes, words):
    sentence = said(card, network, scan(200, **changes))
    assert words in sentence and sentence.startswith("this scan is unlike those that the weights limb have learnt from: ")
    assert sentence.endswith("do not trust what they add") and "\n" not in sentence


def test_a_tilted_orbit_is_beyond_a_flat_ones_range(card, network):
    flat = scan(3)
    turn = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    poses = (getattr(flat.geometry, name) @ turn.T for name in ("source", "detector", "u", "v"))
    tilted = Scan(flat.projections, Geometry(*poses, flat.geometry.detector_shape, flat.geometry.pixel_mm))
    assert "a source off the axial plane of 17.2 degrees, they 0 degrees" in said(card, network, tilted)


def test_what_the_network_sees_tells_textures_that_line_integrals_do_not(card, network):
    of = scan(5)
    mixed = np.random.default_rng(0).permuted(of.projections.reshape(of.views, -1), axis=1).reshape(of.projections.shape)
    edges = Scan(mixed, of.geometry)
    seen = scan_range.features(network, edges)
    assert distance(card["range"]["features"], seen) > 2 * distance(card["range"]["features"], scan_range.features(network, of))


def test_the_numbers_of_a_geometry():
    found = numbers(Geometry.circular(7, 500.0, 750.0, (30, 40), (2.0, 3.0), arc_rad=np.pi, offset_mm=(12.0, 0.0)))
    assert list(found) == list(NUMBERS)
    assert found["views"] == 7 and found["columns"] == 40 and found["magnification"] == pytest.approx(1.5)
    assert found["arc_deg"] == pytest.approx(180) and found["gap_deg"] == pytest.approx(30)
    assert found["offset"] == pytest.approx(0.1) and found["tilt_deg"] == pytest.approx(0)
    whole = numbers(Geometry.circular(8, start_rad=6.1))
    assert whole["arc_deg"] == 360 and whole["gap_deg"] == pytest.approx(45)
    assert numbers(Geometry.circular(1, arc_rad=1.0))["views"] == 1


def test_line_integrals_are_shares_of_water_across_the_field_whatever_the_units():
    of = scan(0)
    water = Box.of(of.geometry).edges_mm[0] * of.mu_water
    full = Scan(np.full_like(of.projections, water), of.geometry)
    np.testing.assert_allclose(line_integrals(full), 1, rtol=1e-5)
    harder = Scan(1.3 * of.projections, of.geometry, mu_water=1.3 * of.mu_water)
    np.testing.assert_allclose(line_integrals(harder), line_integrals(of), rtol=1e-5)


def test_a_distance_is_counted_in_spreads():
    cloud = {"mean": [1.0, 2.0], "spread": [0.5, 1.0]}
    assert distance(cloud, np.array([2.0, 2.0])) == pytest.approx(np.sqrt(2**2 / 2))


@pytest.mark.parametrize("make", [small_dice.network, small_xgrm.network])
def test_features_are_of_any_network_and_do_not_change_it(make):
    made = make().train()
    seen = scan_range.features(made, scan(0))
    assert seen.ndim == 1 and len(seen) >= 8 and np.isfinite(seen).all() and made.training
    np.testing.assert_array_equal(scan_range.features(made, scan(0)), seen)
    many = scan(0, views=30)
    few = many.subset(np.linspace(0, 29, scan_range.LOOKED_AT).round().astype(int))
    np.testing.assert_array_equal(scan_range.features(made, many), scan_range.features(made, few))


def test_a_range_can_do_without_a_network_and_needs_some_scans():
    made = scan_range.of(None, [scan(seed) for seed in range(8)])
    assert "features" not in made and made["scans"] == 8
    assert scan_range.warning({"range": made}, "w", scan(3), lambda: pytest.fail("looked")) == ""
    with pytest.raises(InputError, match="7 scans are too few"):
        scan_range.of(None, [scan(seed) for seed in range(7)])


def test_a_card_without_a_range_says_that_nothing_is_known(network):
    assert "does not say what scans" in said({}, network, scan(0))


@pytest.mark.parametrize(
    "changed",
    [
        {"numbers": [6, 10]},
        {"line_integrals": {"mean": 0, "spread": 1, "farthest": "far"}},
        {"numbers": {"views": 3}},
        {"line_integrals": {"mean": [1]}},
        {"numbers": {"height": [1, 2]}},
        {"numbers": {"views": ["a", 1]}},
    ],
)
def test_a_damaged_range_is_said(card, network, changed):
    with pytest.raises(InputError, match="range in the card of the weights limb cannot be read"):
        said({"range": card["range"] | changed}, network, scan(0))
