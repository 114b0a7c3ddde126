"""The voxel grid: where its voxels lie, and which grids cannot be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poses import rotation

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid, Volume

OBLIQUE = Grid((4, 5, 6), (0.5, 1.0, 2.0), (10.0, -20.0, 30.0), rotation((1, 2, 3), 0.7))


@given(
    st.tuples(*[st.integers(1, 50)] * 3),
    st.tuples(*[st.floats(0.05, 10)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_a_centred_grid_has_its_middle_where_it_was_asked_for(size, spacing, centre):
    grid = Grid.centred(size, spacing, centre)
    np.testing.assert_allclose(grid.centre_mm, centre, atol=1e-9)
    np.testing.assert_allclose(grid.corners_mm().mean(axis=0), centre, atol=1e-9)
    np.testing.assert_allclose(np.ptp(grid.corners_mm(), axis=0) + spacing, grid.extent_mm, atol=1e-9)


def test_index_and_world_undo_each_other_on_an_oblique_grid():
    index = np.array([1.0, 2.0, 3.0, 1.0])
    world = OBLIQUE.index_to_world @ index
    by_hand = np.array(OBLIQUE.origin_mm) + sum(index[a] * OBLIQUE.spacing_mm[a] * OBLIQUE.direction[:, a] for a in range(3))
    np.testing.assert_allclose(world[:3], by_hand)
    np.testing.assert_allclose(OBLIQUE.world_to_index @ world, index, atol=1e-12)


def test_corners_come_in_the_order_of_the_array():
    grid = Grid((2, 3, 4), (1, 1, 1), (0, 0, 0))
    assert grid.corners_mm()[1].tolist() == [1, 0, 0]
    assert grid.corners_mm()[4].tolist() == [0, 0, 3]
    assert grid.shape == (4, 3, 2)


def test_a_grid_survives_a_job_file():
    again = Grid.from_dict(OBLIQUE.to_dict())
    assert again == OBLIQUE
    assert again.matches(OBLIQUE)
    assert hash(again) == hash(OBLIQUE)


def test_grids_that_only_point_another_way_are_not_equal():
    turned = Grid(OBLIQUE.size, OBLIQUE.spacing_mm, OBLIQUE.origin_mm, np.eye(3))
    assert turned != OBLIQUE
    assert not turned.matches(OBLIQUE)


def test_a_grid_matches_one_that_is_off_by_less_than_a_micrometre():
    near = Grid(OBLIQUE.size, OBLIQUE.spacing_mm, np.add(OBLIQUE.origin_mm, 5e-4), OBLIQUE.direction)
    far = Grid(OBLIQUE.size, OBLIQUE.spacing_mm, np.add(OBLIQUE.origin_mm, 5e-2), OBLIQUE.direction)
    assert near.matches(OBLIQUE)
    assert not far.matches(OBLIQUE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (0, 5, 5)}, "positive numbers of voxels"),
        ({"size": (5, 5)}, "three positive numbers"),
        ({"spacing_mm": (1, 0, 1)}, "spacing must be a positive number"),
        ({"spacing_mm": (1, -1, 1)}, "spacing must be a positive number"),
        ({"spacing_mm": (1, float("nan"), 1)}, "spacing must be a positive number"),
        ({"origin_mm": (0, float("inf"), 0)}, "three finite numbers"),
        ({"direction": np.diag([1, 1, 2.0])}, "not orthonormal"),
        ({"direction": np.eye(2)}, "nine numbers"),
        ({"direction": np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])}, "not orthonormal"),
    ],
)
def test_an_impossible_grid_is_refused_with_what_is_wrong(change, said):
    with pytest.raises(InputError, match=said):
        Grid(**{"size": (5, 5, 5), "spacing_mm": (1, 1, 1), "origin_mm": (0, 0, 0)} | change)


def test_a_volume_must_fit_its_grid_and_name_a_known_unit():
    with pytest.raises(InputError, match=r"\(4, 5, 6\) on a grid of shape \(6, 5, 4\)"):
        Volume(np.zeros((4, 5, 6)), OBLIQUE)
    with pytest.raises(InputError, match="'1/cm'"):
        Volume(np.zeros((6, 5, 4)), OBLIQUE, unit="1/cm")
