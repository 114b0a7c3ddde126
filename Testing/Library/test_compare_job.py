"""The comparison as a background process, with a TotalSegmentator that is played."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from SparseCTReconLib import Geometry, Grid, Scan, Volume, write_scan, write_volume
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.jobs.client import Job, JobState, SubprocessTransport
from SparseCTReconLib.jobs.spec import CompareJob, parse_spec, read_spec, write_spec

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="looks at processes as POSIX shows them"),
    pytest.mark.usefixtures("quick_workers"),
]
PROGRAM = str(Path(__file__).with_name("played_totalsegmentator.py"))
GRID = Grid.centred((44, 44, 6), (5, 5, 5))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ein Vergleich ψ")
    z, y, x = np.indices(GRID.shape)
    hu = np.where((x - 22) ** 2 + (y - 22) ** 2 < 250, 60.0, -1000.0)
    write_volume(Volume(hu, GRID), folder / "ct.nrrd")
    for number, name in enumerate(("a", "b")):
        noisy = hu + np.random.default_rng(number).normal(0, 15, hu.shape)
        write_volume(Volume(noisy, GRID, {"SparseCTRecon.method": name}), folder / f"{name}.nrrd")
    write_scan(Scan(np.full((6, 12, 16), 0.5), Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25))), folder / "scan")
    return folder


@pytest.fixture
def environment(tmp_path):
    return {
        "SPARSECTRECON_CACHE": str(tmp_path / "cache"),
        "TOTALSEG_HOME_DIR": str(tmp_path / "theirs"),
        "PLAYED_CALLS": str(tmp_path / "calls"),
    }


def start(volumes, tmp_path, environment, mood="", **values):
    results = [{"name": name, "path": str(volumes / f"{name}.nrrd")} for name in ("a", "b")]
    results[0] |= {key: values.pop(key, None) for key in ("scan", "scanned")}
    spec = {"reference": str(volumes / "ct.nrrd"), "results": results, "output": str(tmp_path / "out"), "segmenter": {"program": PROGRAM}}
    job = Job(SubprocessTransport(), on_event=(told := []).append)
    job.told = told
    job.start(write_spec(CompareJob(**(spec | values)), tmp_path / "job"), environment=environment | {"PLAYED_SEGMENTER": mood})
    return job


def of_kind(job, kind):
    return [event for event in job.told if event["event"] == kind]


def test_figures_label_maps_table_and_report_lie_in_one_folder(volumes, tmp_path, environment):
    scanned = Grid.centred(GRID.size, GRID.spacing_mm, (0, 0, 9000)).to_dict()
    job = start(volumes, tmp_path, environment, organs=True, scan=str(volumes / "scan"), scanned=scanned, reference_name="Truth")
    assert job.wait(timeout_s=60) is JobState.DONE, job.error
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert job.result["summary"] == found and job.result["path"] == str(tmp_path / "out")
    assert found["reference"]["name"] == "Truth" and [result["name"] for result in found["results"]] == ["a", "b"]
    assert ["fov_psnr_db" in result["image"] for result in found["results"]] == [True, False], "the first one's scan is known"
    assert found["results"][0]["image"]["fov_fraction"] == 0, "and that it had the volume far away"
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()} == {
        "comparison.json",
        "comparison.csv",
        "report.html",
        *(f"labels/{name}.nii.gz" for name in ("a", "b", "reference", "reference-fast")),
    }
    for event in of_kind(job, "figures"):
        result = next(result for result in found["results"] if result["name"] == event["result"])
        assert result[event["kind"]] == event["values"]
    assert [(event["result"], event["kind"]) for event in of_kind(job, "figures")] == [
        (name, kind) for kind in ("image", "tissues", "organs") for name in ("a", "b")
    ]
    fractions = [event["fraction"] for event in of_kind(job, "progress")]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_without_organs_and_report_nothing_is_segmented_or_drawn(volumes, tmp_path, environment):
    job = start(volumes, tmp_path, environment, report=False)
    assert job.wait(timeout_s=60) is JobState.DONE, job.error
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.json", "comparison.csv"}
    assert not (tmp_path / "calls").exists()


def test_cancel_ends_the_segmenter_and_leaves_nothing_half_written(volumes, tmp_path, environment):
    job = start(volumes, tmp_path, environment, "slow", organs=True)
    end = time.monotonic() + 60
    while job.active and not (tmp_path / "calls").exists() and time.monotonic() < end:
        job.poll()
        time.sleep(0.05)
    asked = time.monotonic()
    job.cancel()
    assert job.wait(timeout_s=20) is JobState.CANCELLED
    assert time.monotonic() - asked < 6
    pid = json.loads((tmp_path / "calls").read_text().splitlines()[0])["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [path for path in tmp_path.rglob(".writing-*")] == []


@pytest.mark.parametrize(("mood", "code"), [("licence", "needs-licence"), ("no-network", "no-network"), ("empty", "empty-segmentation")])
def test_a_segmenter_that_fails_fails_the_job_with_a_next_step(volumes, tmp_path, environment, mood, code):
    job = start(volumes, tmp_path, environment, mood, organs=True, image=False, tissues=False)
    assert job.wait(timeout_s=60) is JobState.FAILED
    assert job.error["code"] == code and job.error["next_step"] and job.exit_code == 1


def test_a_segmenter_that_is_not_there_is_noticed_before_the_work(volumes, tmp_path, environment):
    job = start(volumes, tmp_path, environment, organs=True, segmenter={"program": str(tmp_path / "nowhere")})
    assert job.wait(timeout_s=60) is JobState.FAILED
    assert "is no program" in job.error["message"] and of_kind(job, "figures") == []


def test_a_reference_that_does_not_overlap_is_the_users_fault(volumes, tmp_path, environment):
    far = Grid.centred((8, 8, 8), (2, 2, 2), (5000, 0, 0))
    write_volume(Volume(np.full(far.shape, -1000.0), far), tmp_path / "far.nrrd")
    job = start(volumes, tmp_path, environment, reference=str(tmp_path / "far.nrrd"))
    assert job.wait(timeout_s=60) is JobState.FAILED
    assert job.error["code"] == "no-overlap" and job.exit_code == 2 and not (tmp_path / "out").exists()


def test_paths_in_a_job_file_are_taken_from_its_folder(tmp_path):
    spec = {"task": "compare", "reference": "ct.nrrd", "results": [{"name": "a", "path": "a.nrrd", "scan": "scan"}], "output": "out"}
    spec["results"][0]["scanned"] = GRID.to_dict()
    (tmp_path / "job.json").write_text(json.dumps(spec))
    read = read_spec(tmp_path / "job.json")
    assert read.reference == str(tmp_path / "ct.nrrd") and read.results[0].path == str(tmp_path / "a.nrrd")
    assert read.results[0].scan == str(tmp_path / "scan")
    assert Grid.from_dict(read.results[0].scanned) == GRID


@pytest.mark.parametrize(
    ("values", "says"),
    [({"results": []}, "results"), ({"organ": True}, "did you mean 'organs'"), ({"segmenter": {"quality": "best"}}, "segmenter.quality")],
)
def test_a_job_that_cannot_be_is_one_sentence(values, says):
    spec = {"task": "compare", "reference": "ct.nrrd", "results": [{"name": "a", "path": "a.nrrd"}], "output": "out"}
    with pytest.raises(InputError, match=says):
        parse_spec(spec | values)
