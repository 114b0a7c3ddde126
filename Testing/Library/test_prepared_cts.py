"""CTs made alike for training: where things lie, what values they have, what is kept, and what is left out of a folder."""

import logging
import os
import tracemalloc

import numpy as np
import pytest

from SparseCTReconLib import Grid, Volume, write_volume
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.training import prepared
from SparseCTReconLib.training.prepared import RECIPES, TOP, Recipe, alike, candidates, prepare

RECIPE = Recipe(12, 2.0, (-1000.0, 1000.0))


def ct(size=(12, 13, 14), spacing_mm=(2.0, 2.0, 2.0), centre_mm=(40.0, -30.0, 500.0), direction=None, radius_mm=9.0):
    """A ball of soft tissue in air about the centre, with a spot of bone towards LPS (+x, +y, +z)."""
    grid = Grid.centred(size, spacing_mm)
    direction = np.eye(3) if direction is None else direction
    origin = np.asarray(centre_mm) + direction @ np.asarray(grid.origin_mm)
    grid = Grid(size, spacing_mm, tuple(origin), direction)
    index = np.indices(grid.shape).reshape(3, -1)[::-1]
    points = (grid.index_to_world[:3, :3] @ index).T + grid.origin_mm - centre_mm
    values = np.where(np.linalg.norm(points, axis=1) < radius_mm, 40.0, -1000.0)
    values[np.linalg.norm(points - [4.0, 3.0, 2.0], axis=1) < 3.0] = 1800.0
    return Volume(values.reshape(grid.shape).astype(np.float32), grid)


def bone_mm(crop, recipe=RECIPE):
    """Where the spot of bone lies in a crop, x, y, z from its middle."""
    index = np.argwhere(crop > 0.9 * crop.max()).mean(axis=0)[::-1]
    return (index - (recipe.voxels - 1) / 2) * recipe.spacing_mm


def test_values_are_clipped_and_go_from_0_to_1():
    (crop,) = alike(ct(), RECIPE)
    assert crop.dtype == np.uint16 and crop.shape == (12, 12, 12)
    assert crop.min() == 0 and crop.max() == TOP
    assert np.abs(crop / TOP - 1040 / 2000).min() < 1e-4
    (whole,) = alike(ct(), Recipe(12, 2.0, (-1000.0, 3000.0)))
    assert whole.max() / TOP == pytest.approx(2800 / 4000, abs=1e-4)


TURNS = {
    "along LPS": np.eye(3),
    "as NIfTI has it": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]]),
    "oblique": np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_crop_shows_the_patient_the_same_way_up_however_the_ct_was_stored(name):
    (crop,) = alike(ct((15, 15, 15), direction=TURNS[name]), RECIPE)
    np.testing.assert_allclose(bone_mm(crop), [4, 3, 2], atol=1.2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.2, 3.0)])
def test_sizes_in_mm_and_means_stay_whatever_the_spacing(spacing):
    size = tuple(round(26 / step) for step in spacing)
    (crop,) = alike(ct(size, spacing), RECIPE)
    np.testing.assert_allclose(bone_mm(crop), [4, 3, 2], atol=1.2)
    tissue_mm3 = (crop > 0.3 * TOP).sum() * 8.0
    assert tissue_mm3 == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.25)


def test_a_crop_is_centred_on_the_body_and_what_lies_beyond_the_ct_is_air():
    shifted = ct((30, 30, 12))
    shifted.array = np.roll(shifted.array, 7, axis=2)
    (crop,) = alike(shifted, RECIPE)
    np.testing.assert_allclose(bone_mm(crop), [4, 3, 2], atol=1.5)
    (small,) = alike(ct((9, 9, 9), (2.0,) * 3), Recipe(30, 2.0))
    assert (small[:8] == 0).all() and (small[-8:] == 0).all() and small.max() > 0.8 * TOP


def test_the_middle_of_a_large_body_is_found_in_little_memory():
    """A CT of 512 x 512 x 1000 voxels has a hundred million of body, whose places must not be listed."""
    large = ct((60, 70, 80))
    large.array[:] = 0
    large.array[:, :, :20] = -1000
    body = large.array > -500
    tracemalloc.start()
    (centre,) = prepared._centres(large, body, Recipe(80, 2.0))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(centre, [40.0 + 20.0, -30.0, 500.0])
    assert most < 2 * body.nbytes


def test_a_long_ct_gives_crops_one_above_the_other():
    long = ct((12, 12, 36))
    long.array[:] = np.linspace(-500, 500, 36)[:, None, None]
    crops = alike(long, RECIPE)
    assert len(crops) == 3
    means = [crop.mean() / TOP * 2000 - 1000 for crop in crops]
    np.testing.assert_allclose(means, [-333, 0, 333], atol=20)
    assert all((np.diff(crop[2:-2, 6, 6].astype(float)) > 0).all() for crop in crops)


@pytest.mark.parametrize("nothing", [ct((12, 12, 3)), ct(radius_mm=0.5)], ids=["three slices", "air"])
def test_a_ct_that_shows_nothing_is_refused(nothing):
    if nothing.grid.size[2] > 3:
        nothing.array[:] = -1000
    with pytest.raises(InputError, match="there is nothing to learn from"):
        alike(nothing, RECIPE)


@pytest.mark.parametrize("wrong", [{"voxels": 4}, {"spacing_mm": 0}, {"spacing_mm": np.nan}, {"clip_hu": (100, -100)}])
def test_a_recipe_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="a spacing and a range"):
        Recipe(**wrong)


def test_the_papers_recipes_are_its_own():
    assert (RECIPES["reconx"].voxels, RECIPES["reconx"].spacing_mm, RECIPES["reconx"].clip_hu) == (256, 1.0, (-1000, 1000))
    assert (RECIPES["reconx-teeth"].spacing_mm, RECIPES["reconx-teeth"].clip_hu) == (0.3, (-1000, 2000))


# --- folders ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Two CTs, one of them deeper, among files that are none."""
    place = tmp_path / "cts"
    (place / "more").mkdir(parents=True)
    write_volume(ct(), place / "b.nrrd")
    write_volume(ct(radius_mm=10.0), place / "more" / "a.nii.gz", compressed=True)
    (place / "broken.nrrd").write_bytes((place / "b.nrrd").read_bytes()[:3000])
    (place / "text.nii").write_text("no image")
    labels = ct()
    labels.array = (labels.array > -500).astype(np.float32)
    write_volume(labels, place / "labels.mha")
    write_volume(Volume(np.full((12, 12, 12), -1000, np.float32), Grid.centred((12,) * 3, (2,) * 3)), place / "air.nrrd")
    write_volume(Volume(0.02 + 0 * ct().array, ct().grid, unit="1/mm"), place / "mu.nrrd")
    (place / "readme.txt").write_text("CTs")
    return place


def test_a_folder_gives_its_cts_and_says_what_it_left_out_and_why(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = prepare([folder], RECIPE, tmp_path / "cache")
    assert [one.source for one in found.cts] == ["b.nrrd", "a.nii.gz"]
    reasons = {os.path.basename(path): why for path, why in found.skipped.items()}
    assert set(reasons) == {"broken.nrrd", "text.nii", "labels.mha", "air.nrrd", "mu.nrrd"}
    for name, why in reasons.items():
        assert name in why and "\n" not in why and why in caplog.text
    assert (
        "cannot be read" in reasons["broken.nrrd"] and "Hounsfield" in reasons["labels.mha"] and "nothing to learn" in reasons["air.nrrd"]
    )


def test_a_dicom_series_is_one_ct(tmp_path):
    pytest.importorskip("pydicom")
    write_volume(ct(), f"{tmp_path / 'patient' / 'series'}/")
    assert list(candidates([tmp_path / "patient"])) == [tmp_path / "patient" / "series"]
    found = prepare([tmp_path], RECIPE, tmp_path / "cache")
    assert [one.source for one in found.cts] == ["series"] and not found.skipped
    np.testing.assert_allclose(found.cts[0].volume().array, prepared_volume(ct()), atol=1)


def prepared_volume(of):
    return alike(of, RECIPE)[0] / TOP * 2000.0 - 1000.0


def test_what_is_kept_is_what_was_made_in_hu_about_lps_0(folder, tmp_path):
    one = prepare([folder / "b.nrrd"], RECIPE, tmp_path / "cache").cts[0].volume()
    assert one.unit == "HU" and one.array.dtype == np.float32 and one.grid == Grid.centred((12,) * 3, (2.0,) * 3)
    np.testing.assert_allclose(one.array, prepared_volume(ct()), atol=0.05)


def test_a_folder_without_one_ct_is_refused(tmp_path):
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(InputError, match="not one CT to train on .*text.nii.*: give CTs"):
        prepare([tmp_path], RECIPE, tmp_path / "cache")
    with pytest.raises(InputError, match="not one CT to train on .*there is no image"):
        prepare([], RECIPE, tmp_path / "cache")
    with pytest.raises(InputError, match="absent.nrrd does not exist"):
        prepare([tmp_path / "absent.nrrd"], RECIPE, tmp_path / "cache")


# --- what is kept ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch):
    """Names of the CTs that have been read, as they are."""
    names, real = [], prepared.formats.read_ct
    monkeypatch.setattr(prepared.formats, "read_ct", lambda path: names.append(path.name) or real(path))
    return names


def test_a_ct_is_made_alike_once_until_it_or_the_recipe_changes(folder, tmp_path, read):
    path, cache = folder / "b.nrrd", tmp_path / "cache"
    first = prepare([path], RECIPE, cache).cts
    assert prepare([path], RECIPE, cache).cts == first and read == ["b.nrrd"]
    prepare([path], Recipe(12, 3.0), cache)
    assert len(read) == 2
    write_volume(ct(radius_mm=8.0), path)
    os.utime(path, ns=(1, 1))
    changed = prepare([path], RECIPE, cache).cts
    assert len(read) == 3 and changed != first
    assert not np.array_equal(changed[0].volume().array, first[0].volume().array)


@pytest.mark.parametrize("how", ["changed", "cut short", "gone", "card"])
def test_what_was_damaged_is_made_anew(folder, tmp_path, read, caplog, how):
    path, cache = folder / "b.nrrd", tmp_path / "cache"
    (one,) = prepare([path], RECIPE, cache).cts
    whole, bytes_ = one.volume().array, one.path.read_bytes()
    if how == "changed":
        one.path.write_bytes(bytes_[:-1] + bytes([bytes_[-1] ^ 1]))
    elif how == "cut short":
        one.path.write_bytes(bytes_[:500])
    elif how == "gone":
        one.path.unlink()
    else:
        next(cache.glob("*.json")).write_text("{}")
    (again,) = prepare([path], RECIPE, cache).cts
    assert len(read) == 2 and "damaged" in caplog.text and again == one
    np.testing.assert_array_equal(again.volume().array, whole)


def test_a_cache_that_cannot_be_written_is_an_error_and_not_a_skipped_ct(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        prepare([folder / "b.nrrd"], RECIPE, tmp_path / "cache")
