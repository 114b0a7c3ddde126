"""TotalSegmentator's command line, played: how it is called, what it leaves, and every way in which it fails."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.evaluation import segmentation
from SparseCTReconLib.evaluation.label_files import label_names, read_labels
from SparseCTReconLib.evaluation.segmentation import Segmenter, Settings, find_segmenter
from SparseCTReconLib.evaluation.segmenter_process import SegmenterError
from SparseCTReconLib.formats import write_volume
from SparseCTReconLib.grid import Grid, Volume

PROGRAM = str(Path(__file__).with_name("played_totalsegmentator.py"))
TURNED = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
GRID = Grid((9, 8, 7), (1.5, 2, 2.5), (10.25, -20, 300), TURNED)
VOLUME = Volume(np.full(GRID.shape, -1000, np.float32), GRID)
VOLUME.array[2:5, 2:5, 2:6] = 60
VOLUME.array[5:, 5:, 1:4] = -700


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYED_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "theirs"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    return Segmenter(PROGRAM, tmp_path / "ein Ordner")


def calls(tmp_path):
    file = tmp_path / "calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def nothing(stage, fraction):
    pass


def failure(segmenter, tmp_path, mood, monkeypatch, settings=None):
    monkeypatch.setenv("PLAYED_SEGMENTER", mood)
    with pytest.raises(SegmenterError) as error:
        segmenter.segment(VOLUME, settings or Settings(), tmp_path / "out.nii.gz", nothing)
    assert list(tmp_path.glob("*.nii.gz")) + list(tmp_path.glob(".*.nii.gz")) == []
    assert "\n" not in error.value.message and error.value.next_step
    return error.value


def test_labels_come_back_on_the_volumes_grid_with_their_names(segmenter, tmp_path):
    labels = segmenter.segment(VOLUME, Settings(), tmp_path / "labels" / "röntgen.nii.gz", nothing)
    assert labels.grid.matches(GRID)
    assert labels.names == {1: "spleen", 5: "liver", 11: "lung_left"}
    np.testing.assert_array_equal(labels.array == 5, VOLUME.array == 60)
    np.testing.assert_array_equal(labels.array == 11, VOLUME.array == -700)
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["röntgen.nii.gz"]


def test_usage_statistics_are_off_before_the_first_run(segmenter, tmp_path):
    segmenter.segment(VOLUME, Settings(), tmp_path / "out.nii.gz", nothing)
    (call,) = calls(tmp_path)
    assert call["config"]["send_usage_stats"] is False
    assert Path(call["home"]).is_relative_to(tmp_path / "ein Ordner")


def test_the_users_licence_and_weights_are_used_and_nothing_else_of_theirs(segmenter, tmp_path):
    (tmp_path / "theirs" / "nnunet" / "results").mkdir(parents=True)
    (tmp_path / "theirs" / "config.json").write_text('{"license_number": "aca_1", "send_usage_stats": true, "totalseg_id": "totalseg_me"}')
    segmenter.segment(VOLUME, Settings(), tmp_path / "out.nii.gz", nothing)
    (call,) = calls(tmp_path)
    assert call["config"]["license_number"] == "aca_1"
    assert call["config"]["send_usage_stats"] is False and call["config"]["totalseg_id"] != "totalseg_me"
    assert call["weights"] == str(tmp_path / "theirs" / "nnunet" / "results")


def test_it_is_asked_for_what_the_settings_say(segmenter, tmp_path):
    settings = Settings(quality="fast", organs=("liver", "spleen"), device="cpu")
    labels = segmenter.segment(VOLUME, settings, tmp_path / "out.nii.gz", nothing)
    (call,) = calls(tmp_path)
    assert call["ml"] and call["task"] == "total" and call["fast"] and not call["fastest"] and call["device"] == "cpu"
    assert call["roi_subset"] == ["liver", "spleen"]
    assert set(np.unique(labels.array)) == {0, 5}


def test_a_reference_is_segmented_once(segmenter, tmp_path):
    first = segmenter.segment_once(VOLUME, Settings(), tmp_path / "a.nii.gz", nothing)
    again = segmenter.segment_once(Volume(VOLUME.array.copy(), GRID), Settings(device="cpu"), tmp_path / "b.nii.gz", nothing)
    np.testing.assert_array_equal(first.array, again.array)
    assert again.names == first.names and (tmp_path / "b.nii.gz").exists()
    assert len(calls(tmp_path)) == 1


def test_another_reference_or_other_settings_are_segmented_anew(segmenter, tmp_path):
    other = Volume(VOLUME.array + 1, GRID)
    moved = Volume(VOLUME.array, Grid(GRID.size, GRID.spacing_mm, (0, 0, 0), TURNED))
    for number, (volume, settings) in enumerate(
        [(VOLUME, Settings()), (other, Settings()), (moved, Settings()), (VOLUME, Settings(quality="fast"))]
    ):
        segmenter.segment_once(volume, settings, tmp_path / f"{number}.nii.gz", nothing)
    assert len(calls(tmp_path)) == 4


def test_a_damaged_cache_is_made_anew(segmenter, tmp_path):
    segmenter.segment_once(VOLUME, Settings(), tmp_path / "a.nii.gz", nothing)
    (kept,) = (tmp_path / "ein Ordner" / "labels").iterdir()
    kept.write_bytes(kept.read_bytes()[:90])
    labels = segmenter.segment_once(VOLUME, Settings(), tmp_path / "b.nii.gz", nothing)
    assert not labels.empty and len(calls(tmp_path)) == 2


def test_an_empty_segmentation_is_not_kept(segmenter, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "empty")
    assert segmenter.segment_once(VOLUME, Settings(), tmp_path / "a.nii.gz", nothing).empty
    monkeypatch.setenv("PLAYED_SEGMENTER", "")
    assert not segmenter.segment_once(VOLUME, Settings(), tmp_path / "b.nii.gz", nothing).empty


@pytest.mark.parametrize(
    ("mood", "code", "says"),
    [
        ("no-network", "no-network", "there is no network"),
        ("not-found", "weights-missing", "missing or damaged"),
        ("damaged", "weights-missing", "missing or damaged"),
        ("licence", "needs-licence", "needs a licence"),
        ("memory", "out-of-memory", "out of memory"),
        ("disk", "disk-full", "disk is full"),
        ("broken", "segmenter-missing", "No module named 'nnunetv2'"),
        ("organ", "bad-segmenter-task", "no organ 'livre'"),
        ("task", "bad-segmenter-task", "no task 'totally'"),
        ("crash", "segmenter-failed", "ValueError: something else"),
        ("nothing", "segmenter-failed", "no usable labels"),
        ("other-grid", "segmenter-failed", "different grids"),
    ],
)
def test_each_failure_is_a_sentence_and_a_next_step(segmenter, tmp_path, monkeypatch, mood, code, says):
    error = failure(segmenter, tmp_path, mood, monkeypatch)
    assert error.code == code and says in error.message


def test_a_gpu_that_was_asked_for_and_is_not_there_ends_it_at_once(segmenter, tmp_path, monkeypatch):
    start = time.monotonic()
    error = failure(segmenter, tmp_path, "no-gpu", monkeypatch, Settings(device="gpu"))
    assert error.code == "no-gpu" and "GPU" in error.message
    assert time.monotonic() - start < 20


def test_it_ends_when_the_caller_wants_no_more(segmenter, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "slow")
    told = []

    def stop(stage, fraction):
        told.append((stage, fraction))
        if fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segmenter.segment(VOLUME, Settings(), tmp_path / "out.nii.gz", stop)
    assert told[-1] == ("Predicting part 2 of 5", 0.2)
    (call,) = calls(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(call["pid"], 0)
    assert list(tmp_path.glob(".*")) == []


def test_without_totalsegmentator_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv(segmentation.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setattr(segmentation.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    assert not segmentation.available()
    with pytest.raises(SegmenterError) as error:
        find_segmenter()
    assert error.value.code == "segmenter-missing" and "pip install TotalSegmentator" in error.value.next_step


def test_a_program_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no program"):
        find_segmenter(str(tmp_path / "TotalSegmentator"))


def test_a_volume_with_nan_is_refused(segmenter, tmp_path):
    array = VOLUME.array.copy()
    array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        segmenter.segment(Volume(array, GRID), Settings(), tmp_path / "out.nii.gz", nothing)
    assert calls(tmp_path) == []


@pytest.mark.parametrize(
    "values", [{"quality": "best"}, {"device": "tpu"}, {"task": "body", "quality": "fast"}, {"task": "body", "organs": ("skin",)}]
)
def test_settings_that_cannot_be_are_refused(values):
    with pytest.raises(InputError):
        Settings(**values)


def test_the_noise_floor_takes_another_resolution_of_the_same_task():
    assert Settings(organs=("liver",)).for_noise_floor() == Settings(quality="fast", organs=("liver",))
    assert Settings(quality="fast").for_noise_floor().quality == "fastest"
    assert Settings(task="body").for_noise_floor() is None


def test_labels_without_names_are_numbered(tmp_path):
    write_volume(Volume((VOLUME.array > 0).astype(np.float32), GRID), tmp_path / "mask.nii.gz")
    labels = read_labels(tmp_path / "mask.nii.gz")
    assert label_names(tmp_path / "mask.nii.gz") == {} and labels.name(1) == "label 1"


def test_a_volume_is_no_label_map(tmp_path):
    write_volume(Volume(VOLUME.array + 0.5, GRID), tmp_path / "ct.nrrd")
    with pytest.raises(InputError, match="no whole numbers"):
        read_labels(tmp_path / "ct.nrrd")
