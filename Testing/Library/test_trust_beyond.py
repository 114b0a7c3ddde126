"""Trust in a volume that does not hold the whole object: what lies beyond it is no contradiction, and hides none."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import Phantom
from small_scans import scan_of

from SparseCTReconLib import Geometry, Grid, Volume, reconstruct
from SparseCTReconLib.evaluation.trust import Asked, examine
from SparseCTReconLib.evaluation.trust_balls import ball
from SparseCTReconLib.evaluation.trust_beyond import beyond
from SparseCTReconLib.evaluation.trust_reruns import held_back, predicted
from SparseCTReconLib.evaluation.trust_residual import residual_of
from SparseCTReconLib.operators import projector

BODY = Phantom(
    100.0,
    (
        (0.02, (0.0, 0.0, 0.0), (0.9, 0.6, 0.5), 0.0),
        (0.01, (0.2, 0.1, 0.0), (0.2, 0.2, 0.2), 0.0),
        (0.02, (0.75, 0.0, 0.0), (0.1, 0.2, 0.3), 0.0),
        (0.015, (0.0, 0.45, 0.0), (0.2, 0.1, 0.3), 0.0),
    ),
)
"""Wider than the detector sees, with something dense beyond."""
GEOMETRY = Geometry.preset("linac", 36, detector_shape=(48, 48), pixel_mm=(4.0, 4.0))
GRID = Grid.centred((28, 28, 20), (4.0,) * 3)
SIZE_MM = 14.0
PLACES = np.array([(0.0, 0.0, 0.0), (20.0, -15.0, 8.0), (-25.0, 10.0, -10.0), (10.0, 28.0, 0.0), (-12.0, -22.0, 15.0)])
SIGNS = np.array([1, -1, 1, -1, 1])


@pytest.fixture(scope="module")
def truncated():
    """A scan of a body that is wider than the detector, and what ADMM-TV made of it within the field of view."""
    scan = scan_of(BODY, GEOMETRY)
    return scan, reconstruct(scan, "admm-tv", GRID, device="cpu")


def planted(volume, hu=100.0):
    spots = sum(sign * ball(volume.grid, place, SIZE_MM) for place, sign in zip(PLACES, SIGNS))
    return replace(volume, array=volume.array + (hu * spots).astype(np.float32))


def at_places(values, grid):
    index = np.round((PLACES - grid.origin_mm) / grid.spacing_mm).astype(int)
    return np.array([values[tuple(place[::-1])] for place in index])


def test_planted_detail_stands_out_of_a_volume_that_holds_a_part_of_the_object(truncated):
    scan, volume = truncated
    before, after = (examine(each, scan, Asked(SIZE_MM)) for each in (volume, planted(volume)))
    z = at_places(after.maps["contradiction"].array, GRID)
    assert (z * -SIGNS > 4).all() and (np.abs(at_places(before.maps["contradiction"].array, GRID)) < 2).all()
    assert len(before.figures["stand_out"]) <= 2
    assert after.figures["determined_percent"] > 70
    assert 10 < after.figures["scan"]["beyond_percent"] < 30
    assert any("lies beyond the volume: what is there was estimated" in sentence for sentence in after.figures["warnings"])
    assert not any("unexplained" in sentence for sentence in after.figures["warnings"])


def test_what_lies_beyond_is_what_the_rays_met_there(truncated):
    scan, _ = truncated
    truth = BODY.volume(GRID)
    found = beyond(truth, GRID, scan)
    inner = found.taken_out_of(scan)
    A, whole = projector(GEOMETRY, GRID), BODY.line_integrals(GEOMETRY)
    outside = whole - A(A.volume(truth)).numpy()
    assert np.abs(inner.taken_out - outside).mean() < 0.03 * whole.mean() < 0.3 * outside.mean()
    np.testing.assert_allclose(inner.attenuation, scan.projections, atol=1e-5)


def test_views_that_were_held_back_do_not_show_what_lies_beyond(truncated):
    scan, volume = truncated
    volume = replace(volume, attributes=volume.attributes | {"SparseCTRecon.method": "cgls", "SparseCTRecon.options": "{}"})
    found = predicted(list(held_back(volume, scan, 4)), residual_of(volume, scan))
    assert found["seen"] < found["predicted"] < 8, "some 30 where what lies beyond counts"


def test_a_volume_that_holds_the_object_has_nothing_beyond():
    geometry = Geometry.preset("linac", 12, detector_shape=(32, 64), pixel_mm=(6.0, 6.0))
    scan, grid = scan_of(BODY, geometry), Grid.centred((34, 24, 20), (6.0,) * 3)
    found = beyond(BODY.volume(grid), grid, scan)
    assert found.share == 0 and found.taken_out_of(scan) is scan


def test_a_detail_of_a_large_body_is_examined_by_itself():
    geometry = Geometry.preset("linac", 36, detector_shape=(48, 96), pixel_mm=(4.0, 4.0))
    scan = scan_of(BODY, geometry)
    grid = Grid.centred((20, 20, 16), (3.0,) * 3)
    hu = 50_000 * BODY.volume(grid) - 1000
    found = residual_of(Volume(hu, grid), scan)
    assert found.beyond.share > 0.5 and found.relative < 0.05
    crosses = found.met.mean()
    assert 0 < crosses < 0.7, "rays that miss the detail say nothing of it"
