"""Made-up limbs: CTs of bodies that follow from a seed, with bones inside."""

import numpy as np
import pytest

from SparseCTReconLib.formats.ct import check_hounsfield
from SparseCTReconLib.training.bodies import MadeUpLimb, limb
from SparseCTReconLib.training.data import Drawn, Examples

SEEDS = range(12)


@pytest.fixture(scope="module")
def limbs():
    return [limb(seed, 40, 5.0) for seed in SEEDS]


def test_each_holds_air_fat_muscle_and_bone_as_a_ct_has_them(limbs):
    for made in limbs:
        check_hounsfield(made, "limb")
        assert made.array.dtype == np.float32 and made.array.shape == (40, 40, 40) and made.array.max() < 2000
        for low, high, least in ((-1001, -900, 0.2), (-160, -50, 0.001), (0, 130, 0.01), (400, 2000, 0.001)):
            share = ((made.array > low) & (made.array < high)).mean()
            assert share > least, (low, high, share)


def test_bones_lie_inside(limbs):
    from scipy.ndimage import binary_dilation

    for made in limbs:
        bone = made.array[2:-2] > 600
        beside = binary_dilation(bone) & ~bone
        assert (made.array[2:-2][beside] < -700).mean() < 0.02


def test_no_two_are_alike_and_each_follows_from_its_seed(limbs):
    assert len({made.array.tobytes() for made in limbs}) == len(SEEDS)
    np.testing.assert_array_equal(limb(3, 40, 5.0).array, limbs[3].array)
    bodies = [(made.array > -500).mean() for made in limbs]
    assert np.std(bodies) > 0.02 and min(bodies) > 0.03


def test_the_voxels_do_not_change_the_limb_much():
    """A limb on finer voxels is the same but for its texture's grains, which are voxels wide."""
    coarse, fine = limb(1, 24, 6.0).array, limb(1, 48, 3.0).array
    means = fine.reshape(24, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5))
    assert ((coarse > -500) != (means > -500)).mean() < 0.03


def test_examples_can_be_made_of_them():
    one = Examples([MadeUpLimb(0, 24, 8.0), MadeUpLimb(1, 24, 8.0)], Drawn(voxels=(8,), views=(3, 3), of=6))[0]
    assert one.truth.shape == (8, 8, 8) and one.truth.max() > 0.8 and one.scan.projections.max() > 0.3
