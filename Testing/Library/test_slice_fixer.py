"""A fixer with all that a scan tells it: units, sizes, organs."""

import logging

import numpy as np
import pytest
from small_fixers import fixer
from small_scans import tiny_scan

from SparseCTReconLib.networks.biplanar import biplanar
from SparseCTReconLib.networks.slice_fixer import VolumeRepair

SCAN, GRID = tiny_scan()
MU_WATER = SCAN.mu_water


class Played:
    """A fixer that keeps what it was given and gives what a function makes of the stack."""

    make, source, anatomies = "played", "nobody", ("limb", "head")

    def __init__(self, change=lambda stack: stack, edge=None):
        self.change, self.edge, self.given = change, edge, []

    def repair(self, stack, xrays, organ):
        self.given.append((stack.copy(), xrays, organ))
        return self.change(stack)


def noise(shape=GRID.shape, most=2 * MU_WATER):
    return np.random.default_rng(0).uniform(0, most, shape).astype(np.float32)


def smooth(shape=GRID.shape):
    """Half of water and more towards the middle, without an edge."""
    ticks = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in shape)
    z, y, x = np.meshgrid(*ticks, indexing="ij")
    return (MU_WATER * (0.5 + x * y * z)).astype(np.float32)


def test_what_a_fixer_leaves_alone_stays_as_it_is():
    mu = noise()
    kept = mu.copy()
    found = VolumeRepair(Played(), SCAN, GRID, "limb")(mu)
    np.testing.assert_allclose(found, kept, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(mu, kept)


def test_a_fixer_that_works_in_place_leaves_the_volume_it_was_asked_about_alone():
    mu = noise()
    kept = mu.copy()
    VolumeRepair(Played(lambda stack: np.add(stack, 1, out=stack)), SCAN, GRID, "limb")(mu)
    np.testing.assert_array_equal(mu, kept)


def test_attenuation_is_relative_to_water_for_the_fixer_and_in_1_per_mm_for_everybody_else():
    played = Played(lambda stack: stack + 1)
    found = VolumeRepair(played, SCAN, GRID, "limb")(noise())
    np.testing.assert_allclose(played.given[0][0], noise() / MU_WATER, rtol=1e-6)
    np.testing.assert_allclose(found, noise() + MU_WATER, rtol=1e-6)


def test_the_fixer_is_told_the_organ_and_the_xrays_of_the_scan():
    played = Played()
    VolumeRepair(played, SCAN, GRID, "head")(noise())
    ((stack, xrays, organ),) = played.given
    np.testing.assert_array_equal(xrays, biplanar(SCAN, GRID))
    assert organ == "head" and stack.dtype == np.float32 and xrays.shape == (2, 11, 13)


@pytest.mark.parametrize("finer, edge", [(1, None), (2, None), (1, 20)])
def test_nothing_becomes_negative(finer, edge):
    repair = VolumeRepair(Played(lambda stack: -stack, edge), SCAN, GRID, "limb", finer)
    np.testing.assert_array_equal(repair(noise()), 0)


def test_slices_are_interpolated_to_twice_their_pixels_and_averaged_back():
    played = Played()
    found = VolumeRepair(played, SCAN, GRID, "limb", finer=2)(smooth())
    nz, ny, nx = GRID.shape
    assert played.given[0][0].shape == (nz, 2 * ny, 2 * nx)
    np.testing.assert_allclose(found, smooth(), atol=0.06 * MU_WATER)
    constant = VolumeRepair(Played(), SCAN, GRID, "limb", finer=2)(np.full(GRID.shape, MU_WATER, np.float32))
    np.testing.assert_allclose(constant, MU_WATER, rtol=1e-6)


@pytest.mark.parametrize("finer, edge", [(2, None), (1, 60)])
def test_what_is_finer_than_a_voxel_is_averaged_away(finer, edge):
    def chequered(stack):
        _, y, x = np.indices(stack.shape)
        return stack + np.where((x + y) % 2, 0.5, -0.5).astype(np.float32)

    found = VolumeRepair(Played(chequered, edge), SCAN, GRID, "limb", finer)(np.full(GRID.shape, MU_WATER, np.float32))
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], MU_WATER, rtol=0.03)


@pytest.mark.parametrize("edge", [8, 13, 32])
@pytest.mark.parametrize("finer", [1, 2])
def test_a_fixer_of_slices_of_one_size_gets_these(edge, finer):
    played = Played(edge=edge)
    found = VolumeRepair(played, SCAN, GRID, "limb", finer)(smooth())
    assert played.given[0][0].shape == (11, edge, edge) and found.shape == GRID.shape
    np.testing.assert_allclose(found, smooth(), atol=(0.15 if edge == 8 else 0.06) * MU_WATER)


def test_interpolation_shifts_nothing():
    ramp = np.broadcast_to(np.linspace(0, MU_WATER, GRID.size[0], dtype=np.float32), GRID.shape)
    for options in ({"finer": 2}, {"edge": 40}):
        edge = options.pop("edge", None)
        found = VolumeRepair(Played(edge=edge), SCAN, GRID, "limb", **options)(ramp)
        np.testing.assert_allclose(found[:, :, 2:-2], ramp[:, :, 2:-2], atol=1e-3 * MU_WATER)


@pytest.mark.parametrize("organ, warned", [("limb", False), ("head", False), ("chest", True)])
def test_another_part_of_the_body_than_the_fixer_has_learnt_from_is_said(caplog, organ, warned):
    with caplog.at_level(logging.WARNING):
        VolumeRepair(Played(), SCAN, GRID, organ)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert ("has learnt from limb, head, and this seems to be chest" in caplog.text) == warned


def test_the_compact_fixer_repairs_a_volume_of_any_shape():
    for finer in (1, 2):
        found = VolumeRepair(fixer(), SCAN, GRID, "limb", finer)(noise())
        assert found.shape == GRID.shape and (found >= 0).all() and not np.allclose(found, noise(), atol=1e-3 * MU_WATER)
