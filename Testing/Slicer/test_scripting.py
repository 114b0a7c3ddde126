"""Without the panel: what the README shows for the console and for scripts, and the batch over a folder that comes with the module."""

import csv
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comparing_worker import ComparingWorker
from examining_worker import ExaminingWorker

from SparseCTReconLib import Grid, Volume, formats

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BATCH = ROOT / "SparseCTRecon" / "Resources" / "Examples" / "batch.py"
RUN = [sys.executable, str(HERE / "run_script.py")]


def readme(beginning):
    """The block of Python in the README that begins so."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if block.startswith(beginning))
    return block


CONSOLE, SCRIPT, LOOP = 'ct = slicer.util.getNode("SparseCTReconHead")', "# Slicer --no-main-window --python-script", "from pathlib"


def write_ct(path, bright=1500):
    """A small body with a bright marker."""
    z, y, x = np.mgrid[:18, :20, :22]
    body = ((z - 8.5) / 8) ** 2 + ((y - 9.5) / 9) ** 2 + ((x - 10.5) / 10) ** 2 < 0.9
    voxels = np.where(body, 40.0, -1000.0)
    voxels[11:13, 6:8, 13:15] = bright
    formats.write_volume(Volume(voxels.astype(np.float32), Grid.centred((22, 20, 18), (4.0, 4.0, 4.0))), path)


@pytest.fixture
def folder(tmp_path):
    """Two CTs and a file that is none."""
    place = tmp_path / "CTs mit Ümlaut"
    place.mkdir()
    write_ct(place / "one.nrrd")
    write_ct(place / "two.nrrd", 1200)
    (place / "broken.nrrd").write_bytes(b"NRRD0004\nno header")
    (place / "notes.txt").write_text("not asked for")
    return place


class Worker(ComparingWorker, ExaminingWorker):
    """Answers comparisons and trust."""


@pytest.fixture
def comparing(slicer, actor):
    """The logic as scripts get it, with a worker that acts."""
    logic = slicer.util.getModuleLogic("SparseCTRecon")
    logic.newTransport = lambda: Worker(actor)
    return logic


@pytest.mark.parametrize("beginning", [CONSOLE, SCRIPT])
def test_what_the_readme_shows_takes_less_than_ten_lines(beginning):
    assert len([line for line in readme(beginning).splitlines() if line.strip()]) < 10


def test_the_readmes_console_lines_simulate_reconstruct_compare_and_examine(slicer, ct, comparing, actor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ct.SetName("SparseCTReconHead")
    names = {"slicer": slicer}
    exec(readme(CONSOLE), names)
    assert [job["task"] for job in actor.jobs] == ["simulate", "reconstruct", "compare", "trust"]
    assert names["maps"] and names["outline"] is None
    assert names["volume"].GetName() == "SparseCTReconHead admm-tv"
    assert names["tables"]["image"].GetNumberOfColumns() > 3
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_the_readmes_script_runs_without_a_window(session_host, tmp_path):
    write_ct(tmp_path / "head.nrrd")
    (tmp_path / "script.py").write_text(readme(SCRIPT), encoding="utf-8")
    done = subprocess.run([*RUN, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    truth, found = (formats.read_volume(tmp_path / name) for name in ("head.nrrd", "head admm-tv.nrrd"))
    assert np.abs(found.grid.origin_mm - np.array(truth.grid.origin_mm)).max() < 1e-3
    assert found.attributes["SparseCTRecon.method"] == "admm-tv"
    assert np.corrcoef(found.array.ravel(), truth.array.ravel())[0, 1] > 0.9


@pytest.mark.slow
def test_the_readmes_loop_without_slicer_leaves_a_volume_for_each_ct_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cts").mkdir()
    write_ct(tmp_path / "cts" / "one.nrrd")
    for _again in range(2):
        exec(readme(LOOP), {})
    assert sorted(path.name for path in (tmp_path / "cts").iterdir()) == ["one-admm-tv.mha", "one.nrrd"]
    assert len(capsys.readouterr().out.splitlines()) == 1


def batch(*arguments):
    return runpy.run_path(str(BATCH), run_name="batch")["main"]([str(one) for one in arguments])


def rows(out):
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        return {row["ct"]: row for row in csv.DictReader(file)}


def test_the_batch_writes_volumes_and_one_table_and_goes_on_after_a_failure(comparing, actor, folder, tmp_path):
    assert batch(folder, tmp_path / "out", "--method", "fdk", "--views", 20) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one-fdk-20.nrrd", "results.csv", "two-fdk-20.nrrd"]
    found = rows(tmp_path / "out")
    assert list(found) == ["broken.nrrd", "one.nrrd", "two.nrrd"]
    assert "broken.nrrd" in found["broken.nrrd"]["error"] and not found["broken.nrrd"]["psnr_db"]
    assert (found["one.nrrd"]["psnr_db"], found["one.nrrd"]["views"], found["one.nrrd"]["error"]) == ("39", "20", "")


def test_the_batch_skips_what_is_done_and_tries_again_what_failed(comparing, actor, folder, tmp_path):
    batch(folder, tmp_path / "out", "--method", "fdk")
    write_ct(folder / "broken.nrrd")
    actor.jobs.clear()
    assert batch(folder, tmp_path / "out", "--method", "fdk") == 0
    assert [job["task"] for job in actor.jobs] == ["simulate", "reconstruct", "compare"]
    actor.jobs.clear()
    (tmp_path / "out" / "two-fdk-50.nrrd").unlink()
    assert batch(folder, tmp_path / "out", "--method", "fdk") == 0
    assert len(actor.jobs) == 3
    assert [row["error"] for row in rows(tmp_path / "out").values()] == ["", "", ""]


def test_the_batch_keeps_other_methods_and_numbers_of_views_in_the_same_table(comparing, folder, tmp_path):
    (folder / "broken.nrrd").unlink()
    for more in (["--views", 20], ["--views", 30], ["--method", "cgls"]):
        assert batch(folder, tmp_path / "out", "--method", "fdk", *more) == 0
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        assert [row["volume"] for row in csv.DictReader(file) if row["ct"] == "one.nrrd"] == [
            "one-fdk-20.nrrd",
            "one-fdk-30.nrrd",
            "one-cgls-50.nrrd",
        ]


def test_a_reconstruction_that_fails_is_noted_with_the_workers_sentence(comparing, actor, folder, tmp_path):
    actor.ending = "error"
    assert batch(folder, tmp_path / "out", "--method", "fdk") == 1
    assert rows(tmp_path / "out")["one.nrrd"]["error"] == "The volume does not fit into memory. Take larger voxels."
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv"]


def test_two_files_whose_volumes_would_overwrite_each_other_are_refused(host, folder, tmp_path, capsys):
    write_ct(folder / "one.nii.gz")
    with pytest.raises(SystemExit):
        batch(folder, tmp_path / "out")
    assert "differ in their endings alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_batch_runs_without_a_window_with_real_workers(session_host, folder, tmp_path):
    (folder / "two.nrrd").unlink()
    command = [*RUN, str(BATCH), str(folder), str(tmp_path / "out"), "--method", "fdk", "--views", "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "one-fdk-40.nrrd: done" in done.stdout
    found = rows(tmp_path / "out")
    assert float(found["one.nrrd"]["psnr_db"]) > 15
    volume = formats.read_volume(tmp_path / "out" / "one-fdk-40.nrrd")
    assert volume.attributes["SparseCTRecon.method"] == "fdk"
    assert found["broken.nrrd"]["error"]
