"""Which voxels the views see: all of them, enough, too few; in memory, in a file, and in the figures of a comparison."""

import json
from dataclasses import replace

import numpy as np
import pytest
from poses import rotation
from small_scanners import irregular
from small_scans import tiny_scan

from SparseCTReconLib import Geometry, Grid, InputError, Volume, evaluate
from SparseCTReconLib.evaluation.label_files import read_labels
from SparseCTReconLib.jobs import tasks
from SparseCTReconLib.jobs.spec import ReconstructJob
from SparseCTReconLib.jobs.volumes import write_field_of_view
from SparseCTReconLib.methods.reconstruct import PREFIX, prepare
from SparseCTReconLib.operators.field_of_view import ENOUGH, EVERY, FEW, field_of_view

FLAT = Grid.centred((50, 50, 1), (8.0, 8.0, 8.0))
from_axis = np.hypot(*np.meshgrid(*[(np.arange(50) - 24.5) * 8] * 2))


def flat(geometry):
    return field_of_view(geometry, FLAT)[0]


@pytest.mark.parametrize("views", [10, 51, 200])
def test_a_centred_detector_sees_a_disc_with_every_view(views):
    geometry = Geometry.preset("linac", views)
    radius = geometry.field_of_view()[0]
    seen = flat(geometry)
    assert (seen[from_axis < radius - 2] == EVERY).all() and (seen[from_axis > 1.1 * radius] != EVERY).all()
    if views >= 50:
        assert (seen[from_axis > 1.05 * radius] == FEW).all(), "where a view misses a voxel, so does the opposite one"


@pytest.mark.parametrize("views", [16, 51, 200])
@pytest.mark.parametrize("offset", [148.0, -148.0])
def test_a_displaced_detector_sees_the_rest_from_the_other_side(views, offset):
    geometry = Geometry.preset("linac-half-fan", views, offset_mm=(offset, 0.0))
    radius = geometry.field_of_view()[0]
    seen = flat(geometry)
    assert (seen[from_axis < 25] == EVERY).all()
    assert (seen[(from_axis > 60) & (from_axis < radius - 10)] == ENOUGH).all()


def test_on_half_a_turn_there_is_no_other_side():
    geometry = Geometry.preset("linac-half-fan", 60, arc_rad=np.radians(200))
    assert (flat(geometry)[(from_axis > 80) & (from_axis < 180)] == FEW).mean() > 0.3


def test_seen_by_every_view_means_a_shadow_on_every_detector():
    geometry, grid = irregular(), Grid.centred((13, 12, 11), (14.0, 15.0, 16.0), (5.0, 3.0, -4.0))
    k, j, i = np.indices(grid.shape)
    points = np.stack([i, j, k], -1).reshape(-1, 3) @ grid.index_to_world[:3, :3].T + grid.origin_mm
    depth, u, v = geometry.shadows(points)
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    expected = ((depth > 0) & (np.abs(u) <= nu * du / 2) & (np.abs(v) <= nv * dv / 2)).all(axis=0).reshape(grid.shape)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(field_of_view(geometry, grid) == EVERY, expected)


def test_the_axis_about_which_the_sources_turn_may_be_any():
    geometry = Geometry.preset("linac-half-fan", 40)
    turn = rotation((1, 2, -1), 0.9)
    other = replace(geometry, **{name: getattr(geometry, name) @ turn.T for name in ("source", "detector", "u", "v")})
    grid = Grid.centred((20, 20, 8), (20.0, 20.0, 20.0))
    turned = Grid(grid.size, grid.spacing_mm, tuple(turn @ grid.origin_mm), turn)
    assert (field_of_view(other, turned) != field_of_view(geometry, grid)).mean() < 0.01


def test_it_is_written_as_a_label_map_on_the_grid(tmp_path):
    scan, grid = tiny_scan()
    job = prepare(scan, "fdk", grid)
    for name in ("seen.nrrd", "seen.nii.gz"):
        assert write_field_of_view(job, tmp_path / name) == pytest.approx((job.field_of_view >= ENOUGH).mean(), abs=1e-6)
        labels = read_labels(tmp_path / name)
        np.testing.assert_array_equal(labels.array, job.field_of_view)
        assert labels.grid.matches(grid)
    head = (tmp_path / "seen.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert json.loads(head.split(PREFIX + "labels:=")[1].splitlines()[0])["2"] == "seen by every view"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen.nii.gz", "seen.nrrd"]


def test_a_file_of_another_kind_is_refused_before_the_work(tmp_path):
    spec = ReconstructJob(scan="absent", output=str(tmp_path / "out.nrrd"), field_of_view=str(tmp_path / "seen.txt"))
    with pytest.raises(InputError, match=r"seen\.txt"):
        tasks.reconstruct(spec, tmp_path, False, None, None)


def test_figures_within_the_field_of_view_are_those_of_its_voxels():
    rng, grid = np.random.default_rng(0), Grid.centred((24, 24, 8), (20.0, 20.0, 20.0))
    truth = Volume(rng.normal(0, 50, grid.shape), grid)
    geometry = Geometry.preset("linac", 50)
    seen = field_of_view(geometry, grid) >= ENOUGH
    wrong = Volume(truth.array + np.where(seen, 10, 500), grid)
    found = evaluate(wrong, truth, geometry=geometry)
    assert found["fov_rmse_hu"] == pytest.approx(10, rel=1e-3) and found["rmse_hu"] > 100
    assert found["fov_psnr_db"] == pytest.approx(20 * np.log10(2000 / 10), abs=0.01)
    assert found["fov_fraction"] == pytest.approx(seen.mean(), abs=1e-6)
    assert "seen by enough views" in found["conventions"]["fov_psnr_db"]
    assert not any(key.startswith("fov") for key in evaluate(wrong, truth))
