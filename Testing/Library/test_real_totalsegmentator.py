"""TotalSegmentator's real package, called as users' is, with weights that know two organs by their HU (`tiny_totalsegmentator.py`).

Opt-in, since it brings gigabytes: put it into an environment of its own (python -m venv ts; ts/bin/pip install TotalSegmentator) and say
SPARSECTRECON_TOTALSEGMENTATOR_PYTHON=ts/bin/python (some ten minutes on two cores). Nothing is downloaded: the way out is closed by a proxy
that is not there.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from poses import rotation

from SparseCTReconLib import Grid, Volume, write_volume
from SparseCTReconLib.cli import main
from SparseCTReconLib.evaluation.organs import LabelMap, compare_labels
from SparseCTReconLib.evaluation.segmentation import PROGRAM_VARIABLE, Segmenter, Settings
from SparseCTReconLib.evaluation.segmenter_process import SegmenterError

VARIABLE = "SPARSECTRECON_TOTALSEGMENTATOR_PYTHON"
PYTHON = os.environ.get(VARIABLE)
FOLDER = Path(PYTHON or ".").absolute().parent
PROGRAM = str(FOLDER / "TotalSegmentator")
GRID = Grid((40, 36, 28), (3.5, 3.0, 4.0), (-60.0, 30.0, 400.0), rotation((1, 2, -1), 0.2) @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
LIVER, LUNG, NAMES = 5, 10, {5: "liver", 10: "lung_upper_lobe_left"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason=f"the real TotalSegmentator is tested where {VARIABLE} names a Python that has it"),
]


def body(shift_mm=0.0):
    """A ball of liver and a box of lung in fat: HU, and the labels that are right."""
    z, y, x = np.indices(GRID.shape) * np.array(GRID.spacing_mm[::-1]).reshape(3, 1, 1, 1)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[(x - 48 - shift_mm) ** 2 + (y - 50) ** 2 + (z - 55) ** 2 < 30**2] = LIVER
    labels[(x > 98) & (x < 130) & (y > 20) & (y < 90) & (z > 20) & (z < 90)] = LUNG
    hu = np.full(GRID.shape, -110.0, np.float32)
    hu[labels == LIVER], hu[labels == LUNG] = 60, -750
    return Volume(hu, GRID), LabelMap(labels, GRID, NAMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Gewichte ψ") / "results"
    subprocess.run([PYTHON, str(Path(__file__).with_name("tiny_totalsegmentator.py")), str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture
def environment(tmp_path, monkeypatch, weights):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(weights))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path / "ein Lager"))
    monkeypatch.setenv(PROGRAM_VARIABLE, PROGRAM)


@pytest.fixture
def segmenter(environment):
    return Segmenter()


def nothing(stage, fraction):
    pass


def figures(found):
    return {organ["name"]: organ for organ in found}


@pytest.mark.parametrize("quality", ["normal", "fast"])
def test_organs_are_found_where_they_are_under_their_names(segmenter, tmp_path, quality):
    volume, right = body()
    told = []
    labels = segmenter.segment(
        volume, Settings(quality=quality, device="cpu"), tmp_path / "ein Bild.nii.gz", lambda *each: told.append(each)
    )
    assert labels.grid.matches(GRID, tolerance_mm=1e-3) and len(labels.names) == 117
    assert {label: labels.names[label] for label in NAMES} == NAMES
    assert set(np.unique(labels.array)) == {0, LIVER, LUNG}
    for organ in compare_labels(labels, right):
        assert organ["dice"] > 0.93 and organ["assd_mm"] < 1, organ
    stages = {stage for stage, _ in told}
    assert any(stage.startswith("Resampling") for stage in stages) and any(stage.startswith("Predicting") for stage in stages)
    assert quality == "fast" or ("Predicting part 3 of 5", 0.4) in told


def test_nothing_is_sent_and_the_users_home_is_left_alone(segmenter, tmp_path):
    segmenter.segment(body()[0], Settings(quality="fastest", device="cpu"), tmp_path / "out.nii.gz", nothing)
    config = json.loads((tmp_path / "ein Lager" / "totalsegmentator" / "home" / "config.json").read_text())
    assert config["prediction_counter"] == 1 and config["send_usage_stats"] is False
    assert not (tmp_path / "theirs").exists()
    assert segmenter.version[0].isdigit()


def test_evaluate_makes_the_table_of_a_liver_that_moved(environment, tmp_path, capsys):
    write_volume(body()[0], tmp_path / "reference.nrrd")
    write_volume(body(shift_mm=7)[0], tmp_path / "recon.nrrd")
    asked = ["--organs", "--quality", "fast", "--only", "liver", "--device", "cpu", "--json", str(tmp_path / "figures.json")]
    asked += ["--report", str(tmp_path / "report.html")]
    assert main(["evaluate", str(tmp_path / "recon.nrrd"), str(tmp_path / "reference.nrrd"), *asked]) == 0
    found = json.loads((tmp_path / "figures.json").read_text())
    (liver,) = found["organs"]
    (right,) = [each for each in compare_labels(body(shift_mm=7)[1], body()[1]) if each["name"] == "liver"]
    assert liver["name"] == "liver" and abs(liver["dice"] - right["dice"]) < 0.03
    assert abs(liver["assd_mm"] - right["assd_mm"]) < 1 and abs(liver["reference_volume_ml"] / right["reference_volume_ml"] - 1) < 0.1
    assert 0.75 < liver["noise_dice"] < 1
    assert found["segmenter"]["version"][0].isdigit() and "liver" in capsys.readouterr().out
    assert "liver" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_where_there_is_no_organ_the_segmentation_is_empty(segmenter, tmp_path):
    volume, _ = body()
    fat = Volume(np.full_like(volume.array, -110), GRID)
    for organs in ((), ("liver",)):
        assert segmenter.segment(fat, Settings(quality="fast", organs=organs, device="cpu"), tmp_path / "out.nii.gz", nothing).empty


def failure(segmenter, tmp_path, **settings):
    with pytest.raises(SegmenterError) as error:
        segmenter.segment(body()[0], Settings(**{"device": "cpu"} | settings), tmp_path / "out.nii.gz", nothing)
    assert "\n" not in error.value.message and error.value.next_step
    assert not list(tmp_path.glob("*.nii.gz")) + list(tmp_path.glob(".*.nii.gz"))
    return error.value.code


def test_weights_that_are_not_there_and_no_network_is_said(segmenter, tmp_path, monkeypatch):
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "none"))
    assert failure(segmenter, tmp_path, quality="fast") == "no-network"


def test_weights_that_are_damaged_are_said(segmenter, tmp_path, monkeypatch, weights):
    damaged = shutil.copytree(weights, tmp_path / "damaged")
    for file in damaged.rglob("checkpoint_final.pth"):
        file.write_bytes(file.read_bytes()[:200])
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(damaged))
    assert failure(segmenter, tmp_path, quality="fast") == "weights-missing"


def test_weights_of_which_a_part_is_missing_are_said(segmenter, tmp_path, monkeypatch, weights):
    partial = shutil.copytree(weights, tmp_path / "partial")
    for file in partial.rglob("plans.json"):
        file.unlink()
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(partial))
    assert failure(segmenter, tmp_path, quality="fast") == "weights-missing"


def test_a_task_that_needs_a_licence_says_so(segmenter, tmp_path):
    assert failure(segmenter, tmp_path, task="tissue_types") == "needs-licence"


def test_a_task_and_an_organ_that_it_does_not_know_are_said(segmenter, tmp_path):
    assert failure(segmenter, tmp_path, task="totally") == "bad-segmenter-task"
    assert failure(segmenter, tmp_path, quality="fast", organs=("livre",)) == "bad-segmenter-task"


def test_a_gpu_that_is_asked_for_and_absent_is_said(segmenter, tmp_path):
    if subprocess.run([PYTHON, "-c", "import sys, torch; sys.exit(torch.cuda.is_available())"]).returncode:
        pytest.skip("this machine has a GPU")
    assert failure(segmenter, tmp_path, quality="fast", device="gpu") == "no-gpu"


@pytest.mark.skipif(os.name == "nt" or not shutil.which("ps"), reason="lists processes with ps")
def test_it_ends_with_its_children_when_the_caller_wants_no_more(segmenter, tmp_path):
    def stop(stage, fraction):
        if stage.startswith("Predicting") and len(running()) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segmenter.segment(body()[0], Settings(quality="fast", device="cpu"), tmp_path / "out.nii.gz", stop)
    end = time.monotonic() + 10
    while (left := running()) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == [] and list(tmp_path.glob(".*")) == []


def running():
    """Command lines of what runs from TotalSegmentator's environment, nnU-Net's workers among them."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(str(FOLDER))]
