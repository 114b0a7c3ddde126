"""Figures of organs: shapes with known answers, and every distance by brute force."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.evaluation.organs import LabelMap, compare_labels, surface
from SparseCTReconLib.grid import Grid

SPACING = (0.9, 1.4, 3.1)


def compared(labels, reference, spacing=(1, 1, 1), names=None, **more):
    grid = Grid.centred(labels.shape[::-1], spacing)
    maps = [LabelMap(np.asarray(each, np.uint8), grid, names or {}) for each in (labels, reference)]
    return {organ["label"]: organ for organ in compare_labels(*maps, **more)}


def box(shape, start, stop, label=1):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, b) for a, b in zip(start, stop))] = label
    return labels


def ball(shape, centre, radius_mm, spacing):
    index = np.stack(np.indices(shape)[::-1], -1)
    return (np.sum(((index - centre) * spacing) ** 2, -1) < radius_mm**2).astype(np.uint8)


def brute_force(mine, theirs, spacing):
    """ASSD and HD95 with every distance between any two surface voxels."""
    points = []
    for mask in (mine, theirs):
        padded = np.pad(mask.astype(bool), 1)
        inner = np.ones(mask.shape, bool)
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        points.append(np.argwhere(mask.astype(bool) & ~inner) * spacing[::-1])
    distances = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    there, back = distances.min(1), distances.min(0)
    return np.concatenate([there, back]).mean(), max(np.percentile(there, 95), np.percentile(back, 95))


def test_the_same_organ_twice_agrees_wholly():
    organ = compared(box((9, 9, 9), (2, 2, 2), (6, 7, 8)), box((9, 9, 9), (2, 2, 2), (6, 7, 8)), names={1: "liver"})[1]
    assert (organ["name"], organ["dice"], organ["assd_mm"], organ["hd95_mm"]) == ("liver", 1, 0, 0)


@pytest.mark.parametrize(("axis", "shift"), [(0, 1), (1, 2), (2, 3)])
def test_dice_of_a_shifted_box_is_its_overlap(axis, shift):
    start, stop = np.array([4, 4, 4]), np.array([14, 14, 14])
    moved = np.eye(3, dtype=int)[axis] * shift
    organ = compared(box((20,) * 3, start + moved, stop + moved), box((20,) * 3, start, stop), SPACING)[1]
    assert organ["dice"] == pytest.approx((10 - shift) / 10)


def test_two_sheets_are_as_far_apart_as_they_are():
    organ = compared(box((12, 8, 8), (2, 0, 0), (3, 8, 8)), box((12, 8, 8), (7, 0, 0), (8, 8, 8)), SPACING)[1]
    assert organ["dice"] == 0
    assert organ["assd_mm"] == organ["hd95_mm"] == pytest.approx(5 * 3.1)


def test_concentric_balls_are_apart_by_the_difference_of_their_radii():
    shape, centre, spacing = (30, 62, 62), (30.5, 30.5, 14.5), (1.0, 1.0, 2.0)
    organ = compared(ball(shape, centre, 24, spacing), ball(shape, centre, 18, spacing), spacing)[1]
    assert organ["dice"] == pytest.approx(2 * 18**3 / (24**3 + 18**3), abs=0.01)
    assert organ["assd_mm"] == pytest.approx(6, abs=0.4)
    assert organ["hd95_mm"] == pytest.approx(6, abs=1.1)


def test_volumes_are_in_millilitres():
    organ = compared(box((9, 9, 9), (1, 1, 1), (4, 5, 6)), box((9, 9, 9), (1, 1, 1), (5, 5, 6)), SPACING)[1]
    voxel = np.prod(SPACING) / 1000
    assert organ["volume_ml"] == pytest.approx(60 * voxel, abs=1e-4)
    assert organ["reference_volume_ml"] == pytest.approx(80 * voxel, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.5, 3, 3)
    noise = [np.cumsum(rng.normal(size=(9, 11, 10)), axis=seed % 3) for _ in range(2)]
    mine, theirs = (each > np.percentile(each, 65) for each in noise)
    organ = compared(mine, theirs, tuple(spacing))[1]
    assert (organ["assd_mm"], organ["hd95_mm"]) == pytest.approx(brute_force(mine, theirs, spacing), abs=1e-5)


def test_distances_are_those_of_a_distance_transform():
    mine, theirs = ball((24,) * 3, (11, 10, 12), 9, SPACING), ball((24,) * 3, (13, 11, 11), 8, SPACING)
    edges = [surface(mask.astype(bool)) for mask in (mine, theirs)]
    there, back = (distance_transform_edt(~b, sampling=SPACING[::-1])[a] for a, b in (edges, edges[::-1]))
    organ = compared(mine, theirs, SPACING)[1]
    assert organ["assd_mm"] == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-5)
    assert organ["hd95_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-5)


def test_labels_do_not_disturb_each_other():
    one, other = box((16,) * 3, (2, 2, 2), (6, 6, 6)), box((16,) * 3, (6, 2, 2), (10, 6, 6), 7)
    alone = compared(one, np.roll(one, 1, 2))[1]
    together = compared(one + other, np.roll(one + other, 1, 2))
    assert set(together) == {1, 7}
    assert together[1] == alone
    assert together[7]["name"] == "label 7"


def test_an_organ_that_only_one_has_scores_zero_and_has_no_distance():
    organs = compared(box((8,) * 3, (2, 2, 2), (5, 5, 5), 2), box((8,) * 3, (2, 2, 2), (5, 5, 5), 1))
    assert [organs[label]["dice"] for label in (1, 2)] == [0, 0]
    assert organs[1]["assd_mm"] is None and organs[2]["hd95_mm"] is None
    assert organs[1]["volume_ml"] == 0 and organs[2]["reference_volume_ml"] == 0


def test_two_empty_maps_have_no_figures():
    assert compared(np.zeros((4, 4, 4)), np.zeros((4, 4, 4))) == {}


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, 1])
def test_an_organ_cut_by_the_volume_is_flagged(axis, end):
    start, stop = np.array([3, 3, 3]), np.array([7, 7, 7])
    inside = box((10,) * 3, start, stop)
    start[axis], stop[axis] = (6, 10) if end else (0, 4)
    assert not compared(inside, inside)[1]["at_border"]
    assert compared(box((10,) * 3, start, stop), inside)[1]["at_border"]


def test_an_organ_cut_by_the_field_of_view_is_flagged():
    view = np.zeros((12,) * 3, bool)
    view[2:10, 2:10, 2:10] = True
    inside, touching = box((12,) * 3, (3, 3, 3), (6, 6, 6)), box((12,) * 3, (3, 3, 3), (6, 6, 10))
    assert not compared(inside, inside, field_of_view=view)[1]["at_border"]
    assert compared(touching, touching, field_of_view=view)[1]["at_border"]


def test_different_grids_are_refused_in_one_sentence():
    labels = np.zeros((4, 5, 6), np.uint8)
    maps = [LabelMap(labels, Grid.centred((6, 5, 4), (1, 1, 1), (0, 0, z))) for z in (0, 2)]
    with pytest.raises(InputError, match="different grids.*segment both") as refusal:
        compare_labels(*maps)
    assert refusal.value.code == "different-grids" and "\n" not in str(refusal.value)


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2)), np.full((2, 2, 2), -1)])
def test_what_is_no_label_map_is_refused(array):
    with pytest.raises(InputError, match="label"):
        LabelMap(array, Grid.centred((2, 2, 2), (1, 1, 1)))
