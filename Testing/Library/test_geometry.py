"""Poses: what is put into an orbit comes out of it, and which ones cannot be."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from poses import circular_orbits, hit_mm, random_geometry

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import PRESETS, Geometry, default_grid

SMALL = {"views": 8, "sid_mm": 100.0, "sdd_mm": 150.0, "detector_shape": (20, 24), "pixel_mm": (2.0, 1.5)}


@given(circular_orbits())
def test_an_orbit_has_the_distances_and_displacement_it_was_made_with(orbit):
    geometry = Geometry.circular(**orbit)
    np.testing.assert_allclose(geometry.sid_mm, orbit["sid_mm"], rtol=1e-9)
    np.testing.assert_allclose(geometry.sdd_mm, orbit["sdd_mm"], rtol=1e-9)
    np.testing.assert_allclose(geometry.principal_point_mm, -np.broadcast_to(orbit["offset_mm"], (orbit["views"], 2)), atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(geometry.source - geometry.isocentre_mm, axis=1), orbit["sid_mm"])


@given(circular_orbits())
def test_an_orbit_visits_the_gantry_angles_it_was_given(orbit):
    geometry = Geometry.circular(**orbit)
    angles = np.unwrap(np.append(orbit["start_rad"], geometry.gantry_angles_rad))[1:]
    assert np.cos(angles[0] - orbit["start_rad"]) == pytest.approx(1)
    if orbit["views"] > 1:
        full = orbit["arc_rad"] > 2 * np.pi - 1e-6
        step = orbit["arc_rad"] / (orbit["views"] if full else orbit["views"] - 1)
        assume(step < 3)
        np.testing.assert_allclose(np.diff(angles), step, atol=1e-7)


def test_the_source_starts_anterior_and_moves_to_the_patients_left():
    geometry = Geometry.from_gantry_angles(np.radians([0, 90, 180, 270]), 100, 150, (4, 4), (1, 1), isocentre_mm=(1, 2, 3))
    np.testing.assert_allclose(geometry.source - [1, 2, 3], [[0, -100, 0], [100, 0, 0], [0, 100, 0], [-100, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(geometry.detector - [1, 2, 3], [[0, 50, 0], [-50, 0, 0], [0, -50, 0], [50, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(geometry.v, [[0, 0, 1]] * 4)


@given(st.integers(0, 10**6), st.booleans())
def test_the_isocentre_is_seen_at_the_principal_point_of_any_pose(seed, mirrored):
    geometry = random_geometry(seed, mirrored=mirrored)
    np.testing.assert_allclose(geometry.principal_point_mm, hit_mm(geometry, geometry.isocentre_mm), atol=1e-8)


@given(st.integers(0, 10**6), st.booleans())
def test_the_normal_points_away_from_the_source(seed, mirrored):
    geometry = random_geometry(seed, mirrored=mirrored)
    assert (np.sum(geometry.normal * (geometry.detector - geometry.source), axis=1) > 0).all()
    np.testing.assert_allclose(np.sum(geometry.normal * geometry.u, axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("pick", [3, slice(1, 6, 2), [4, 1, 1], np.arange(8) % 3 == 0])
def test_a_subset_has_the_poses_of_its_views(pick):
    geometry = Geometry.circular(**SMALL, offset_mm=(3, -2), isocentre_mm=(5, 6, 7))
    views = np.atleast_1d(np.arange(8)[pick])
    subset = geometry[pick]
    assert subset.views == len(views)
    for name in ("source", "detector", "u", "v"):
        np.testing.assert_array_equal(getattr(subset, name), getattr(geometry, name)[views])
    assert (subset.detector_shape, subset.pixel_mm, subset.isocentre_mm) == ((20, 24), (2.0, 1.5), (5.0, 6.0, 7.0))


def test_an_empty_subset_is_no_geometry():
    with pytest.raises(InputError, match="at least one view"):
        Geometry.circular(**SMALL)[[]]


def seen(geometry, point, *, row_too=False):
    """For each view, whether the ray through `point` meets the detector (its columns alone unless `row_too`)."""
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    u, v = hit_mm(geometry, point).T
    tolerance = 1e-6
    return (np.abs(u) <= nu * du / 2 + tolerance) & (~np.array(row_too) | (np.abs(v) <= nv * dv / 2 + tolerance))


def ring(geometry, radius):
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.asarray(geometry.isocentre_mm) + radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 10), st.floats(1.0, 5.0), st.floats(120, 250))
def test_every_view_sees_the_whole_field_of_view_and_no_wider_disc(offset, arc, sdd):
    geometry = Geometry.circular(**SMALL | {"views": 30, "sdd_mm": sdd}, arc_rad=arc, offset_mm=(offset, 0), isocentre_mm=(3, -8, 5))
    radius, _ = geometry.field_of_view()
    assert all(seen(geometry, point).all() for point in ring(geometry, radius))
    wider = np.concatenate([ring(geometry, radius * 1.02), ring(geometry[:1], radius * 1.02)])
    assert not all(seen(geometry, point).all() for point in wider)


@settings(max_examples=30, deadline=None)
@given(st.floats(-17, 17))
def test_on_a_half_fan_circle_each_point_is_seen_by_a_view_or_its_opposite(offset):
    geometry = Geometry.circular(**SMALL | {"views": 360}, offset_mm=(offset, 0))
    radius, _ = geometry.field_of_view()
    for point in ring(geometry, radius * 0.999):
        assert seen(geometry, point).mean() > 0.49
    outside = [seen(geometry, point).mean() for point in ring(geometry, radius * 1.03)]
    inside = [seen(geometry, point).mean() for point in ring(geometry, radius * 0.5)]
    assert max(outside) < min(inside)


@given(st.floats(-15, 15))
def test_every_view_sees_the_axis_over_the_height_of_the_field_of_view(offset):
    geometry = Geometry.circular(**SMALL, offset_mm=(0, offset))
    _, half_height = geometry.field_of_view()
    ends = [(0, 0, half_height), (0, 0, -half_height)]
    assert all(seen(geometry, end, row_too=True).all() for end in ends)
    assert not all(seen(geometry, np.multiply(end, 1.02), row_too=True).all() for end in ends)


@pytest.mark.parametrize("arc", [2 * np.pi, 3.5])
@pytest.mark.parametrize("offset", [(30, 0), (0, 30)])
def test_a_detector_that_misses_the_isocentre_has_no_field_of_view_and_no_default_grid(arc, offset):
    geometry = Geometry.circular(**SMALL, arc_rad=arc, offset_mm=offset)
    assert min(geometry.field_of_view()) == 0
    with pytest.raises(InputError, match="misses the isocentre"):
        default_grid(geometry)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_default_grid_about_its_isocentre(name):
    geometry = Geometry.preset(name, 40, isocentre_mm=(10, 20, 30))
    grid = default_grid(geometry, 64)
    np.testing.assert_allclose(grid.centre_mm, (10, 20, 30), atol=1e-9)
    assert grid.size[:2] == (64, 64)
    assert grid.extent_mm[0] == pytest.approx(2 * geometry.field_of_view()[0])


def test_a_circle_with_a_wide_gap_is_no_full_circle():
    assert Geometry.circular(**SMALL).is_full_circle()
    assert not Geometry.circular(**SMALL | {"views": 40}, arc_rad=4.0).is_full_circle()
    assert not Geometry.circular(**SMALL)[:2].is_full_circle()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sdd_mm": 100.0}, r"SDD > SID > 0"),
        ({"sdd_mm": 90.0}, r"SDD 90 mm, SID 100 mm"),
        ({"sid_mm": -1.0}, r"SDD > SID > 0"),
        ({"sid_mm": float("nan")}, r"SDD > SID > 0"),
        ({"views": 0}, "at least one"),
        ({"arc_rad": 0.0}, "more than 0 and at most 360"),
        ({"arc_rad": 7.0}, "more than 0 and at most 360"),
        ({"detector_shape": (0, 5)}, "must be positive"),
        ({"pixel_mm": (1.0, 0.0)}, "must be positive"),
        ({"pixel_mm": (1.0, float("nan"))}, "must be positive"),
        ({"offset_mm": (float("nan"), 0.0)}, "view 0: the detector's position is no finite number"),
        ({"detector_shape": (5,)}, "two numbers of pixels"),
        ({"pixel_mm": (1.0, 1.0, 1.0)}, "both pitches"),
    ],
)
def test_an_impossible_orbit_is_refused_with_what_is_wrong(change, said):
    with pytest.raises(InputError, match=said):
        Geometry.circular(**SMALL | change)


def test_a_pose_with_the_detector_before_the_isocentre_is_named():
    good = random_geometry(1, isocentre_mm=(0, 0, 0))
    detector = np.array(good.detector)
    detector[3] = 0.5 * good.source[3]
    with pytest.raises(InputError, match=r"view 3: source-to-detector distance .* \(SDD > SID > 0\)"):
        Geometry(good.source, detector, good.u, good.v, (4, 4), (1, 1))


def test_skewed_detector_axes_are_refused():
    good = random_geometry(1)
    with pytest.raises(InputError, match="view 0: detector axes u and v must be orthogonal unit vectors"):
        Geometry(good.source, good.detector, good.u, good.u, (4, 4), (1, 1), good.isocentre_mm)
    with pytest.raises(InputError, match="orthogonal unit vectors"):
        Geometry(good.source, good.detector, 2 * good.u, good.v, (4, 4), (1, 1), good.isocentre_mm)


def test_an_isocentre_is_a_point():
    good = random_geometry(1)
    with pytest.raises(InputError, match=r"isocentre \(0, 0\) mm: give three numbers"):
        Geometry(good.source, good.detector, good.u, good.v, (4, 4), (1, 1), (0, 0))


@pytest.mark.parametrize("voxels", [0, -3])
def test_a_default_grid_has_voxels(voxels):
    with pytest.raises(InputError, match=f"{voxels} voxels"):
        default_grid(Geometry.circular(**SMALL), voxels)


def test_an_unknown_preset_is_answered_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'linac'"):
        Geometry.preset("linak", 5)
