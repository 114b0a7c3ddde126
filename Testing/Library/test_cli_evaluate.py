"""evaluate on the command line: figures, organs, table and report, and one sentence for everything that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import ISOCENTRE, refused, run

from SparseCTReconLib import Grid, Volume, write_volume
from SparseCTReconLib.evaluation import segmentation

pytestmark = pytest.mark.usefixtures("quick_workers")


def test_evaluate_prints_and_writes_figures_with_their_conventions(tmp_path, ct, capsys):
    assert run("evaluate", ct, ct, "--json", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rmse_hu"] == 0 and figures["ssim"] == pytest.approx(1) and figures["psnr_db"] is None
    assert {"psnr_db", "ssim", "rmse_hu"} <= set(figures["conventions"])
    assert "three axes" in " ".join(capsys.readouterr().out.split())


def test_evaluate_leaves_a_report_and_a_table_where_they_are_asked_for(tmp_path, ct, capsys):
    files = {"--json": "figures.json", "--csv": "figures.csv", "--report": "ein Bericht.html"}
    assert run("evaluate", ct, ct, "--tissues", *(each for flag, name in files.items() for each in (flag, tmp_path / name))) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(files.values())
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert next(tissue for tissue in figures["tissues"] if tissue["name"] == "air")["dice"] == 1 and "organs" not in figures
    assert "soft tissue" in capsys.readouterr().out
    assert "tissues,air,dice,1.0" in (tmp_path / "figures.csv").read_text()
    assert "data:image/png" in (tmp_path / "ein Bericht.html").read_text(encoding="utf-8")


@pytest.fixture
def segmenter(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SPARSECTRECON_TOTALSEGMENTATOR", str(Path(__file__).with_name("played_totalsegmentator.py")))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_evaluate_compares_organs(tmp_path, ct, segmenter, capsys):
    assert run("evaluate", ct, ct, "--organs", "--quality", "fast", "--only", "liver", "--json", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [organ["name"] for organ in figures["organs"]] == ["liver"] and figures["organs"][0]["dice"] == 1
    assert figures["segmenter"]["quality"] == "fast" and figures["segmenter"]["organs"] == ["liver"]
    assert "liver" in capsys.readouterr().out


def test_a_segmenter_that_fails_is_one_sentence_with_the_next_step(tmp_path, ct, segmenter, monkeypatch, capsys):
    monkeypatch.setenv("PLAYED_SEGMENTER", "no-network")
    assert run("evaluate", ct, ct, "--organs", "--json", tmp_path / "figures.json") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "there is no network" in said and "TOTALSEG_WEIGHTS_PATH" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_segmenter_without_organs_are_refused(ct, capsys):
    assert "add --organs" in refused(capsys, "evaluate", ct, ct, "--quality", "fast")


@pytest.fixture(scope="module")
def others(tmp_path_factory, ct):
    """Files that are no fitting volumes, and a second volume that is."""
    folder = tmp_path_factory.mktemp("others")
    near, far = (Grid.centred((12, 12, 10), (8, 8, 8), centre) for centre in (ISOCENTRE, (5000, 0, 0)))
    air = np.full(near.shape, -1000.0)
    write_volume(Volume(air, far), folder / "far.nrrd")
    write_volume(Volume(air * np.nan, near), folder / "nan.nrrd")
    write_volume(Volume(np.random.default_rng(0).uniform(0, 1, near.shape), near), folder / "normalised.nrrd")
    write_volume(Volume(air, near), folder / "recon.nrrd")
    (folder / "text.nrrd").write_text("hello")
    (folder / "cut.nrrd").write_bytes(ct.read_bytes()[:5000])
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["{ct}"], "missing: REFERENCE"),
        (["{ct}", "nowhere.nrrd"], "nowhere.nrrd does not exist"),
        (["nowhere.nrrd", "{ct}", "--organs"], "nowhere.nrrd does not exist"),
        (["{o}/text.nrrd", "{ct}"], "text.nrrd cannot be read"),
        (["{ct}", "{o}/cut.nrrd"], "cut.nrrd cannot be read"),
        (["{o}/empty", "{ct}"], "empty holds no DICOM series"),
        (["{scan}", "{ct}", "--report", "{tmp}/r.html"], "is a scan folder, not a volume: reconstruct it first"),
        (["{ct}", "{o}/normalised.nrrd"], "normalised.nrrd holds values from"),
        (["{o}/nan.nrrd", "{ct}", "--tissues", "--report", "{tmp}/r.html"], "nan.nrrd: 1440 of 1440 voxels of the reconstruction"),
        (["{ct}", "{o}/nan.nrrd"], "nan.nrrd has voxels that are not finite numbers"),
        (["{ct}", "{o}/far.nrrd", "--csv", "{tmp}/t.csv"], "do not overlap"),
        (["{ct}", "{o}/far.nrrd", "--organs", "--report", "{tmp}/r.html"], "do not overlap"),
        (["{ct}", "{ct}", "--json", "{ct}/x.json"], "cannot be written"),
        (["{ct}", "{ct}", "--csv", "{tmp}"], "is a folder: give the name of a file"),
        (["{ct}", "{ct}", "--organs", "--report", "{ct}/r.html"], "cannot be written"),
        (["{ct}", "{ct}", "--report", "{tmp}/r.pdf"], "choose a name that ends in .html"),
        (["{ct}", "{ct}", "--json", "{tmp}/x", "--csv", "{tmp}/../{tmp.name}/x"], "is asked for twice"),
        (["{o}/recon.nrrd", "{ct}", "--json", "{o}/recon.nrrd"], "is one of the volumes"),
        (["{o}/recon.nrrd", "{ct}", "--organs", "--csv", "{ct}"], "is one of the volumes"),
        (["{ct}", "{ct}", "--organs", "--quality", "fst"], "invalid choice"),
        (["{ct}", "{ct}", "--organs", "--device", "cuda"], "invalid choice"),
        (["{ct}", "{ct}", "--quality", "fast"], "add --organs"),
        (["{ct}", "{ct}", "--only", "liver"], "add --organs"),
        (["{ct}", "{ct}", "--reprot", "{tmp}/r.html"], "did you mean '--report'"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing(tmp_path, scan, ct, others, segmenter, capsys, arguments, sentence):
    before = {path: path.read_bytes() for path in [ct, *others.glob("*.nrrd")]}
    arguments = [text.format(tmp=tmp_path, scan=scan, ct=ct, o=others) for text in arguments]
    assert sentence in refused(capsys, "evaluate", *arguments)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in [*ct.parent.iterdir(), *others.glob("*.nrrd")]} == before


@pytest.mark.parametrize("mood", ["licence", "memory", "disk", "organ", "broken", "empty", "other-grid"])
def test_whatever_happens_to_the_segmenter_is_said_in_a_sentence_or_two(tmp_path, ct, segmenter, monkeypatch, capsys, mood):
    monkeypatch.setenv("PLAYED_SEGMENTER", mood)
    assert run("evaluate", ct, ct, "--organs", "--report", tmp_path / "report.html") == 1
    said = capsys.readouterr().err
    assert "TotalSegmentator" in said and "Traceback" not in said and "Log: " in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_for_the_segmenter_that_is_not_there_is_said(tmp_path, ct, segmenter, monkeypatch, capsys):
    monkeypatch.setenv("PLAYED_SEGMENTER", "no-gpu")
    assert run("evaluate", ct, ct, "--organs", "--device", "gpu") == 1
    assert "TotalSegmentator finds no GPU that it can use" in capsys.readouterr().err


def test_a_segmenter_whose_place_is_wrong_is_refused_before_the_work(tmp_path, ct, segmenter, monkeypatch, capsys):
    monkeypatch.setenv(segmentation.PROGRAM_VARIABLE, str(tmp_path / "TotalSegmentator"))
    assert "is no program: give the place of TotalSegmentator" in refused(capsys, "evaluate", ct, ct, "--organs")


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 5, 1), (3, 3, 3), (2, 40, 40)])
def test_a_volume_of_a_few_voxels_is_compared_too(tmp_path, size):
    grid = Grid.centred(size, (9, 9, 9))
    checked = np.where(np.indices(grid.shape).sum(axis=0) % 2, 40.0, -1000.0)
    write_volume(Volume(checked, grid), tmp_path / "v.nrrd")
    assert run("evaluate", tmp_path / "v.nrrd", tmp_path / "v.nrrd", "--tissues", "--report", tmp_path / "r.html") == 0
    assert (tmp_path / "r.html").exists()
