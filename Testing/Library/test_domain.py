"""A method works where the object is, also beyond the voxels that were asked for; what the geometry costs is said before."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import Phantom
from played_method import Played
from poses import rotation
from small_scanners import irregular
from small_scans import scan_of

from SparseCTReconLib import Geometry, Grid, Scan, methods
from SparseCTReconLib.classical.weights import photon_variance
from SparseCTReconLib.methods.base import State
from SparseCTReconLib.methods.cautions import cautions, conditions
from SparseCTReconLib.methods.domain import Cut, domain, whole
from SparseCTReconLib.methods.naf import Run
from SparseCTReconLib.methods.reconstruct import PREFIX, Reconstruction, prepare, residual
from SparseCTReconLib.methods.surroundings import coarser, share_within, without_surroundings

BODY = Phantom(100.0, ((0.02, (0.0, 0.0, 0.0), (0.9, 0.6, 0.5), 0.0), (0.01, (0.2, 0.1, 0.0), (0.2, 0.2, 0.2), 0.0)))
"""90, 60 and 50 mm in half its axes."""

WIDE = {"detector_shape": (32, 64), "pixel_mm": (6.0, 6.0)}
NARROW = {"detector_shape": (32, 32), "pixel_mm": (6.0, 6.0)}


def linac(views=24, **changes):
    return Geometry.preset("linac", views, **changes)


def cube(voxels, spacing_mm=6.0, centre_mm=(0, 0, 0)):
    return Grid.centred((voxels,) * 3, (spacing_mm,) * 3, centre_mm)


def tilted(geometry, angle_rad):
    """The orbit about another axis."""
    turn = rotation((1, 0, 0), angle_rad).T
    return replace(geometry, **{name: getattr(geometry, name) @ turn for name in ("source", "detector", "u", "v")})


def test_a_grid_about_the_object_is_left_as_it_is():
    scan, grid = scan_of(BODY, linac(**WIDE)), cube(36)
    found = domain(scan, grid)
    assert found.grid == grid and not found.is_larger and found.said == "" and found.beyond == 0


ORBITS = {
    "circle": linac(**WIDE),
    "another axis": tilted(linac(**WIDE), 1.2),
    "an arc": linac(**WIDE, arc_rad=np.radians(120)),
    "rows for columns": replace(linac(**WIDE), u=linac(**WIDE).v, v=-linac(**WIDE).u, detector_shape=(64, 32)),
}


@pytest.mark.parametrize("name", ORBITS)
def test_a_grid_within_the_object_grows_until_it_holds_it(name):
    grid = cube(16, 4.0, (10.0, -10.0, 0.0))
    found = domain(scan_of(BODY, ORBITS[name]), grid)
    assert found.is_larger and 0.3 < found.beyond < 0.95
    corners = found.grid.corners_mm()
    assert (corners.min(axis=0) < np.multiply(-100, (0.9, 0.6, 0.5)) + 2).all()
    assert (corners.max(axis=0) > np.multiply(100, (0.9, 0.6, 0.5)) - 2).all()
    if name != "an arc":  # which does not know the object's depth
        assert (np.abs(corners) < np.multiply(100, (0.9, 0.6, 0.5)) + 35).all()


def test_the_larger_grid_has_the_asked_voxels_where_they_were():
    turned = Grid((14, 15, 16), (4.0, 3.0, 5.0), (-20.0, -30.0, -35.0), rotation((1, 2, 3), 0.4))
    found = domain(scan_of(BODY, linac(**WIDE)), turned)
    assert found.is_larger and found.window_size == turned.size
    first = [part.start for part in reversed(found.window)]
    np.testing.assert_allclose((found.grid.index_to_world @ [*first, 1])[:3], turned.origin_mm, atol=1e-6)
    marked = np.zeros(found.grid.shape)
    marked[tuple(part.start for part in found.window)] = 1
    assert found.cut(marked).shape == turned.shape and found.cut(marked)[0, 0, 0] == 1


def test_an_object_beyond_the_detector_is_known_from_how_its_rows_end():
    scan, grid = scan_of(BODY, linac(**NARROW)), cube(22)
    found = domain(scan, grid)
    assert scan.geometry.field_of_view()[0] < 64
    reach = np.abs(found.grid.corners_mm()).max(axis=0) + 3
    assert reach[0] > 85 and reach[1] > 55 and (reach < 130).all()


def test_air_has_no_object():
    air = Scan(np.random.default_rng(0).normal(0, 1e-3, (24, 32, 32)), linac(**NARROW))
    assert not domain(Scan(np.zeros((24, 32, 32)), linac(**NARROW)), cube(8)).is_larger
    assert domain(air, cube(36)).grid.size[0] <= 36 * 5


def test_the_memory_limits_how_far_it_grows():
    scan, grid = scan_of(BODY, linac(**WIDE)), cube(12, 4.0)
    free, tight, none = (domain(scan, grid, lambda larger, most=most: np.prod(larger.size) < most) for most in (1e9, 2e4, 0))
    assert np.prod(free.grid.size) > np.prod(tight.grid.size) > np.prod(grid.size)
    assert np.prod(tight.grid.size) < 2e4 and not none.is_larger and none.beyond == free.beyond


def test_a_detail_does_not_grow_without_bounds():
    found = domain(scan_of(BODY, linac(**WIDE)), cube(40, 0.5))
    assert np.prod(found.grid.size, dtype=float) <= 1_000_000 and found.is_larger


def test_the_part_of_a_coarse_voxel_within_a_fine_box_is_counted():
    turn = rotation((1, 2, 3), 0.4)
    coarse = Grid((6, 5, 4), (4.0, 5.0, 6.0), (-10.0, -10.0, -9.0), turn)
    fine = Grid((5, 7, 6), (1.5, 1.0, 2.0), tuple(turn @ (1.0, 2.0, 3.0) + coarse.origin_mm), turn)
    share = share_within(coarse, fine)
    assert share.shape == coarse.shape and share.min() >= 0 and share.max() <= 1 and 0 < (share % 1 > 0).mean() < 1
    assert share.sum() * np.prod(coarse.spacing_mm) == pytest.approx(np.prod(fine.extent_mm), rel=1e-5)
    box = coarser(Grid((100, 90, 80), (0.5, 0.5, 1.0), (3.0, 4.0, 5.0), turn))
    assert np.prod(box.size) <= 250_000
    np.testing.assert_allclose(box.extent_mm, (50, 45, 80))
    np.testing.assert_allclose(box.centre_mm, Grid((100, 90, 80), (0.5, 0.5, 1.0), (3.0, 4.0, 5.0), turn).centre_mm)


def test_what_no_memory_holds_is_taken_out_of_the_projections():
    scan, grid = scan_of(BODY, linac(**WIDE), photons=1e5), cube(10, 5.0, (10.0, 5.0, 0.0))
    cramped = domain(scan, grid, lambda larger: False)
    assert cramped.grid == grid and "taken out" in cramped.said and np.prod(cramped.object_grid.size) > 1000
    method, truth = methods.get("cgls"), BODY.volume(grid)

    def error(works_on):
        *_, last = Reconstruction(scan, method, method.Options(), grid, "cpu", domain=works_on).states()
        return np.abs(last.volume().mean() - truth.mean()) / 0.02

    assert error(cramped) < 0.05 < 0.3 < error(whole(grid))
    assert without_surroundings(scan, whole(grid)) is scan


def test_rays_weigh_by_the_photons_that_were_measured_and_not_by_what_is_left_of_them():
    scan, grid = scan_of(BODY, linac(**WIDE), photons=1e3), cube(10, 5.0, (10.0, 5.0, 0.0))
    inner = without_surroundings(scan, domain(scan, grid, lambda larger: False))
    assert scan.projections.max() > inner.projections.max() + 1
    for part in (slice(None), slice(3, None, 2)):
        np.testing.assert_allclose(photon_variance(inner.subset(part)), photon_variance(scan.subset(part)), rtol=1e-3)


def test_a_field_does_not_take_for_air_what_lies_within_the_surroundings():
    scan, grid = scan_of(BODY, linac(12, detector_shape=(64, 128), pixel_mm=(3.0, 3.0)), photons=1e3), cube(20, 2.0)
    inner = without_surroundings(scan, domain(scan, grid, lambda larger: False))
    naf = methods.get("naf")
    run = Run(inner, grid, naf.Options(restoration="none", log2_table=12), "cpu")
    assert not run.training(None).outside.any(), "the detail lies within the body, at its corners too"


def test_states_show_the_asked_voxels_and_keep_the_whole():
    grid = cube(12, 4.0)
    large = domain(scan_of(BODY, linac(**WIDE)), grid)
    values = np.arange(np.prod(large.grid.shape), dtype=np.float32).reshape(large.grid.shape)
    beside = lambda: 2 * values  # noqa: E731
    cut = Cut(large)
    first, second = (cut(State("s", n, 2, lambda: values, others={"twice": beside})) for n in (1, 2))
    np.testing.assert_array_equal(first.volume(), values[large.window])
    np.testing.assert_array_equal(first.whole(), values)
    np.testing.assert_array_equal(first.others["twice"](), 2 * values[large.window])
    assert first.others["twice"] is second.others["twice"], "no new volume"
    plain = State("s", 1, 1, lambda: values)
    assert Cut(whole(large.grid))(plain) is plain


def test_the_residual_is_that_of_the_whole_and_the_volume_says_so(monkeypatch):
    monkeypatch.setattr(methods, "get", lambda name: Played())
    scan, grid = scan_of(BODY, linac(**WIDE)), cube(12, 4.0)
    job = prepare(scan, "played", grid)
    *_, last = job.states()
    volume = job.volume(job.settle(last), 0.0)
    assert volume.grid == grid and volume.array.shape == grid.shape
    mu = np.full(job.domain.grid.shape, 0.02 * (1 - 2.0**-8), np.float32)
    said = volume.attributes[PREFIX + "reprojection_residual"]
    assert float(said) == pytest.approx(residual(job.projector, mu, scan.projections), rel=1e-4)
    assert "about the 12 x 12 x 12 asked for" in volume.attributes[PREFIX + "domain"]
    assert prepare(scan, "played", grid, extended=False).domain.grid == grid


def test_a_method_that_computes_each_voxel_for_itself_stays_on_the_grid():
    scan, grid = scan_of(BODY, linac(**WIDE)), cube(12, 4.0)
    assert prepare(scan, "fdk", grid).domain.grid == grid and prepare(scan, "cgls", grid).domain.is_larger


@pytest.mark.parametrize("name", ["os-sart", "cgls", "admm-tv"])
def test_what_lies_beyond_a_narrow_detector_no_longer_spoils_what_it_sees(name):
    geometry = linac(**NARROW)
    scan, grid = scan_of(BODY, geometry, photons=1e5), cube(22)
    truth = BODY.volume(grid)
    z, y, x = (np.indices(grid.shape) - 10.5) * 6
    seen = (np.hypot(x, y) < 50) & (np.abs(z) < 40)

    def errors(extended):
        *_, last = prepare(scan, name, grid, extended=extended).states()
        return last.volume()[seen] - truth[seen]

    without, found = errors(False), errors(True)
    assert without.mean() > 0.01 * 0.02, "what lies beyond is put inside"
    assert abs(found.mean()) < 0.25 * without.mean() and np.square(found).mean() < 0.5 * np.square(without).mean()


@pytest.mark.parametrize(
    "geometry, truncated, held",
    [
        (linac(), False, []),
        (linac(), True, ["truncated"]),
        (linac(arc_rad=np.radians(200)), False, []),
        (linac(arc_rad=np.radians(120)), False, ["arc"]),
        (Geometry.preset("linac-half-fan", 30), False, ["half-fan"]),
        (linac(offset_mm=(20.0, 0.0)), False, []),
        (tilted(linac(), 0.5), False, ["no circle"]),
        (irregular(), False, ["no circle"]),
    ],
)
def test_what_a_geometry_is_like_has_a_name(geometry, truncated, held):
    assert conditions(geometry, truncated) == held


def test_a_method_says_where_others_are_better_and_all_say_what_a_half_fan_costs():
    arc, half = linac(arc_rad=np.radians(120)), Geometry.preset("linac-half-fan", 30)
    assert cautions(methods.get("admm-tv"), arc, False) == []
    (sentence,) = cautions(methods.get("fdk"), arc, False)
    assert "fdk leaves out" in sentence and "half a turn" in sentence
    for name in methods.names():
        (sentence, *_) = cautions(methods.get(name), half, False)
        assert "30 views on a wide detector, more than from 15" in sentence


def test_every_condition_that_a_method_is_poor_on_exists():
    from SparseCTReconLib.methods.cautions import CONDITIONS

    for name in methods.names():
        assert set(methods.get(name).poor_on) <= set(CONDITIONS)
