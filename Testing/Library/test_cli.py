"""The command line as a contract: exit codes, one sentence, nothing half-written, what lands where."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import played_cli
import pytest
import torch
from cli_cases import ISOCENTRE, refused, run

from SparseCTReconLib import Grid, Volume, read_scan, read_volume, write_scan, write_volume


def test_a_volume_comes_out_of_a_scan_with_its_figures(tmp_path, scan, played, capsys):
    out, figures = tmp_path / "volume.nrrd", tmp_path / "figures.json"
    assert run("reconstruct", scan, out, "--method", "played", "--set", "steps=5", "seed=9", "--set", "pause-s=0", "--json", figures) == 0
    volume = read_volume(out)
    np.testing.assert_allclose(volume.grid.centre_mm, ISOCENTRE, atol=1e-3)
    np.testing.assert_allclose(volume.array, -1000 / 32, atol=1e-2)
    said = json.loads(figures.read_text())
    assert {"method", "backend", "seconds", "peak_memory_mb", "reprojection_residual", "options"} <= set(said)
    assert said["options"] == {"steps": 5, "pause_s": 0.0, "seed": 9}
    assert {path.name for path in tmp_path.iterdir()} == {"volume.nrrd", "figures.json"}
    assert "volume.nrrd: played in" in capsys.readouterr().out


def test_a_preset_gives_the_options_that_are_not_set(tmp_path, scan, played):
    out, figures = tmp_path / "volume.nrrd", tmp_path / "figures.json"
    assert run("reconstruct", scan, out, "--method", "played", "--preset", "short", "--set", "seed=9", "--json", figures) == 0
    said = json.loads(figures.read_text())
    assert said["preset"] == "short" and said["options"] == {"steps": 2, "pause_s": 0.0, "seed": 9}
    assert read_volume(out).attributes["SparseCTRecon.preset"] == "short"


def test_the_output_takes_exactly_the_grid_of_the_volume_it_is_to_be_like(tmp_path, scan, played):
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    like = Grid((9, 8, 7), (11, 12, 13), tuple(np.array(ISOCENTRE) - turned @ [44, 42, 39]), turned)
    write_volume(Volume(np.zeros(like.shape), like), tmp_path / "wie dies.nii.gz")
    assert run("reconstruct", scan, tmp_path / "ä b.mha", "--method", "played", "--like", tmp_path / "wie dies.nii.gz", "--mu") == 0
    volume = read_volume(tmp_path / "ä b.mha")
    assert volume.grid.matches(like) and volume.unit == "1/mm"


@pytest.mark.parametrize("name", ["ein Kopf/", "Kopf.dcm"])
def test_a_name_with_a_slash_or_dcm_at_its_end_becomes_a_dicom_series(tmp_path, scan, played, capsys, name):
    assert run("reconstruct", scan, f"{tmp_path}/{name}", "--method", "played", "--size", 9, 8, 7) == 0
    volume = read_volume(tmp_path / name)
    np.testing.assert_allclose(volume.grid.centre_mm, ISOCENTRE, atol=1e-3)
    np.testing.assert_allclose(volume.array, -1000 / 256, atol=0.5)
    assert len(list((tmp_path / name).iterdir())) == 7 and len(list(tmp_path.iterdir())) == 1
    assert f"{tmp_path}/{name}: played in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, size, spacing",
    [
        (["--size", 10, 8, 6, "--spacing", 5, 6, 7], (10, 8, 6), (5, 6, 7)),
        (["--spacing", 30, 30, 30], None, (30, 30, 30)),
        (["--size", 10, 10, 10], (10, 10, 10), None),
    ],
)
def test_size_and_spacing_make_a_grid_about_the_isocentre(tmp_path, scan, played, flags, size, spacing):
    assert run("reconstruct", scan, tmp_path / "volume.nrrd", "--method", "played", *flags) == 0
    grid = read_volume(tmp_path / "volume.nrrd").grid
    np.testing.assert_allclose(grid.centre_mm, ISOCENTRE, atol=1e-2)
    assert size is None or grid.size == size
    assert spacing is None or np.allclose(grid.spacing_mm, spacing)
    if size is None or spacing is None:
        radius, half_height = read_scan(scan).geometry.field_of_view()
        extent = np.array([2 * radius, 2 * radius, 2 * half_height])
        assert (grid.extent_mm > extent - 4).all() and (grid.extent_mm < extent + np.array(grid.spacing_mm) + 4).all()


def test_a_scan_comes_out_of_a_ct_as_the_flags_say(tmp_path, ct):
    flags = ["--views", 4, "--preset", "lab", "--arc", 90, "--photons", 2e4, "--detector", 24, 16, "--pixel", 8, 9, "--offset", -6, 3]
    assert run("simulate", ct, tmp_path / "scan", *flags, "--seed", 5) == 0
    scan = read_scan(tmp_path / "scan")
    assert scan.projections.shape == (4, 16, 24) and scan.geometry.pixel_mm == pytest.approx((9, 8)) and scan.photons == 2e4
    assert np.degrees(np.ptp(scan.geometry.gantry_angles_rad)) == pytest.approx(90)
    offset = np.einsum("ij,ij->i", scan.geometry.detector - np.array(ISOCENTRE), scan.geometry.u)
    np.testing.assert_allclose(offset, -6, atol=1e-3)
    assert scan.provenance["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_the_demo_leaves_table_picture_volumes_and_figures(tmp_path, ct, played, monkeypatch, capsys):
    from SparseCTReconLib.commands import demo

    monkeypatch.setattr(demo.resources, "find", lambda name: ct)
    monkeypatch.setattr(demo, "METHODS", {"fdk": "FDK", "played": "Played"})
    monkeypatch.setattr(demo, "SCAN", {"views": 3, "preset": "linac", "detector_shape": (16, 20), "pixel_mm": (25, 20), "seed": 1})
    assert run("demo", "--out", tmp_path / "eine Probe", "--budget", 5) == 0
    folder = tmp_path / "eine Probe"
    assert {path.name for path in folder.iterdir()} == {"scan", "fdk.nrrd", "played.nrrd", "truth.nrrd", "metrics.json", "demo.png"}
    figures = json.loads((folder / "metrics.json").read_text())
    assert set(figures) == {"fdk", "played"}
    for of in figures.values():
        assert set(of) == {"psnr_db", "ssim", "rmse_hu", "reprojection_residual", "seconds", "peak_memory_mb"}
        assert all(np.isfinite(value) for value in of.values())
    table = capsys.readouterr().out
    assert "PSNR" in table and "played" in table and f"{figures['fdk']['psnr_db']:.2f}" in table
    assert read_volume(folder / "fdk.nrrd").grid.matches(read_volume(ct).grid)


def test_compare_leaves_table_picture_report_volumes_and_figures(tmp_path, ct, played, capsys):
    flags = ["--views", 4, "--detector", 20, 16, "--pixel", 20, 25]
    assert run("simulate", ct, tmp_path / "a scan", *flags) == 0
    assert run("compare", tmp_path / "a scan", ct, "--methods", "fdk", "played:short", "--out", tmp_path / "out", "--size", 16, 16, 12) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "fdk.nrrd",
        "played-short.nrrd",
        "metrics.json",
        "comparison.csv",
        "compare.png",
        "report.html",
    }
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(figures) == ["fdk", "played:short"]
    for of in figures.values():
        assert set(of) == {"psnr_db", "ssim", "rmse_hu", "reprojection_residual", "seconds", "peak_memory_mb"}
    assert read_volume(tmp_path / "out" / "fdk.nrrd").grid.size == (16, 16, 12)
    table, report = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for said in (f"{figures['fdk']['psnr_db']:.2f}", "played:short"):
        assert said in table and said in report
    for said in ("data:image/png", "steps=2, pause_s=0.0, seed=5", "preset short", "4 views, full circle", "over the volume (3D)"):
        assert said in report
    assert "Research use only" in report


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["reconstrct"], "did you mean 'reconstruct'"),
        (["doctor", "--jsn"], "did you mean '--json'"),
        (["simulate", "a", "b", "--view", "3"], "did you mean '--views'"),
        (["simulate", "a", "b", "--arcs=3"], "did you mean '--arc'"),
        (["simulate", "a"], "missing: SCAN"),
        (["simulate", "a", "b", "c"], "'c' is one value too many"),
        (["simulate", "a", "b", "--views", "many"], "write --views N"),
        (["simulate", "nowhere.nrrd", "{tmp}/scan"], "nowhere.nrrd does not exist"),
        (["simulate", "{ct}", "{tmp}/scan", "--preset", "linak"], "did you mean 'linac'"),
        (["simulate", "{ct}", "{tmp}/scan", "--views", "0"], "views=0"),
        (["simulate", "{ct}", "{tmp}/scan", "--arc", "400"], "arc_deg=400"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "nav"], "did you mean 'naf'"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--set", "stepz=3"], "did you mean 'steps'"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--set", "steps=0"], "steps='0'"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--preset", "shot"], "did you mean 'short'"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--preset", "short", "--set", "preset=short"], "given twice"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "naf", "--set", "mci=head"], "give start=nothing, or leave mci out"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "inr", "--set", "loss=fls", "rho=1"], "rho means nothing to loss=fls"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--set", "start=nothing", "mci=head", "hidden=64"], "but this network is"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--set", "steps"], "write name=value"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--set", "steps=1", "steps=2"], "given twice"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--size", "3", "3"], "write --size X Y Z"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--spacing", "1", "0", "1"], "spacing"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--spacing", "1", "-1", "1"], "spacing"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--budget", "-1"], "positive number of seconds"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "fdk", "--device", "cuda"], "fdk runs on cpu"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--device", "tpu"], "invalid choice"),
        (["reconstruct", "{scan}", "{tmp}/x.png", "--method", "played"], "give one of these endings"),
        (["reconstruct", "{scan}", "{tmp}/series/", "--method", "played", "--mu"], "values in 1/mm have no place in a DICOM CT series"),
        (["reconstruct", "{scan}", "{scan}/", "--method", "played"], "is not empty"),
        (["reconstruct", "{scan}", "{ct}/", "--method", "played"], "is a file: a DICOM series is a folder"),
        (["reconstruct", "{ct}/x", "{tmp}/x.nrrd", "--method", "played"], "does not exist"),
        (["reconstruct", "{scan}", "{ct}/x.nrrd", "--method", "played"], "cannot be written"),
        (["reconstruct", "{scan}", "{tmp}/new/er/x.nrrd", "--method", "played", "--size", "9000", "9000", "9000"], "GB"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--json", "{ct}/x.json"], "cannot be written"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--json", "{tmp}"], "is a folder"),
        (["reconstruct", "{scan}", "{tmp}/x.nrrd", "--method", "played", "--previews", "{ct}/seen"], "cannot be written"),
        (["simulate", "{ct}", "{ct}/scan"], "cannot be written"),
        (["compare", "{scan}", "{ct}", "--methods", "nav", "--out", "{tmp}/out"], "did you mean 'naf'"),
        (["compare", "{scan}", "{ct}", "--methods", "fdk", "played:shot", "--out", "{tmp}/out"], "did you mean 'short'"),
        (["compare", "{scan}", "nowhere.nrrd", "--methods", "fdk", "--out", "{tmp}/out"], "nowhere.nrrd does not exist"),
        (["compare", "{scan}", "{ct}", "--methods", "fdk", "--out", "{ct}/out"], "cannot be written"),
        (["compare", "{scan}", "{ct}", "--methods", "fdk", "--out", "{tmp}/out", "--size", "9000", "9000", "9000"], "GB"),
        (["compare", "{scan}", "{ct}", "--budget", "0"], "positive number of seconds"),
        (["methods", "--views", "0"], "a scan has at least one"),
        (["methods", "--budget", "9"], "give the number of views too"),
        (["demo", "--out", "{ct}/demo"], "choose another --out"),
        (["demo", "--budget", "0"], "positive number of seconds"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_exit_2_and_leaves_nothing(tmp_path, scan, ct, played, capsys, arguments, sentence):
    arguments = [text.format(tmp=tmp_path, scan=scan, ct=ct) for text in arguments]
    assert sentence in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in ct.parent.iterdir()] == [ct.name]


def test_a_table_too_large_for_the_memory_is_one_sentence_that_says_what_to_lower(tmp_path, scan, played, capsys, monkeypatch):
    monkeypatch.setenv("PLAYED_FREE_BYTES", "2e9")
    large = ["--size", 16, 16, 16, "--set", "levels=16", "log2_table=24", "finest=4096"]
    said = refused(capsys, "reconstruct", scan, tmp_path / "x.nrrd", *large)
    assert re.search(r"with naf, 2.0 GB are free: give --set log2_table=\d+, or --set levels=\d+", said) and not list(tmp_path.iterdir())


def test_a_stack_that_is_cut_short_is_one_sentence(tmp_path, scan, played, capsys):
    from shutil import copytree

    copytree(scan, tmp_path / "scan")
    stack = next((tmp_path / "scan").glob("projections.*"))
    stack.write_bytes(stack.read_bytes()[:-500])
    assert stack.name in refused(capsys, "reconstruct", tmp_path / "scan", tmp_path / "x.nrrd", "--method", "played")
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_a_failure_is_exit_1_with_the_place_of_the_log(tmp_path, scan, played, capsys):
    assert run("reconstruct", scan, tmp_path / "x.nrrd", "--method", "played", "--set", "steps=13") == 1
    said = capsys.readouterr().err
    assert "thirteen is an unlucky number" in said and "Traceback" not in said
    assert "Traceback" in Path(re.search(r"Log: (.*)", said)[1].strip()).read_text()
    assert not (tmp_path / "x.nrrd").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_that_is_asked_for_and_absent_is_exit_2_not_a_run_on_the_cpu(tmp_path, scan, played, capsys):
    said = refused(capsys, "reconstruct", scan, tmp_path / "x.nrrd", "--method", "played", "--device", "cuda")
    assert "finds no GPU: give --device cpu" in said and list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_ends_with_its_last_good_volume_and_a_warning(tmp_path, scan, played, capsys):
    out, figures, whole = tmp_path / "x.nrrd", tmp_path / "figures.json", read_scan(scan)
    shadow = np.zeros_like(whole.projections)
    shadow[:, 5:7, 7:9] = 0.5
    write_scan(replace(whole, projections=shadow), scan := tmp_path / "scan")
    small = ["--size", 10, 10, 10, "--spacing", 4, 4, 4]
    assert run("reconstruct", scan, out, "--method", "played", "--set", "steps=14", *small, "--json", figures) == 0
    sentence = "stopped because its error became nan: the volume is that of step 4 of 14"
    assert f"warning: played: {sentence}" in capsys.readouterr().err
    volume, said = read_volume(out), json.loads(figures.read_text())
    np.testing.assert_allclose(volume.array, -1000 / 16, atol=1e-2)
    assert volume.attributes["SparseCTRecon.warnings"] == sentence and said["warnings"] == [sentence] and said["step"] == 4


def test_a_budget_too_short_for_one_step_gives_its_volume_with_a_warning(tmp_path, scan, played, capsys):
    assert run("reconstruct", scan, tmp_path / "x.nrrd", "--method", "played", "--set", "pause_s=0.05", "--budget", 0.01) == 0
    assert "more than the budget of 0.01 s: the volume is that of step 1 of 8" in capsys.readouterr().err
    assert read_volume(tmp_path / "x.nrrd").attributes["SparseCTRecon.steps"] == "1 of 8"


def test_views_that_do_not_cover_the_volume_are_a_warning(tmp_path, ct, played, capsys):
    assert run("simulate", ct, tmp_path / "scan", "--views", 6, "--arc", 90, "--detector", 24, 16, "--pixel", 16, 16) == 0
    assert run("reconstruct", tmp_path / "scan", tmp_path / "x.nrrd", "--method", "played", "--size", 8, 8, 8) == 0
    assert "warning: the views span 90 degrees" in capsys.readouterr().err


def test_plain_lines_tell_the_stages_where_there_is_no_terminal(tmp_path, scan, played, capsys):
    assert run("reconstruct", scan, tmp_path / "x.nrrd", "--method", "played") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "played: reading the scan" in lines and "played: halving" in lines and "\x1b" not in "".join(lines)


def test_previews_land_in_their_folder(tmp_path, scan, played):
    assert run("reconstruct", scan, tmp_path / "x.nrrd", "--method", "played", "--previews", tmp_path / "seen") == 0
    (seen,) = (tmp_path / "seen").iterdir()
    assert read_volume(seen).grid.matches(read_volume(tmp_path / "x.nrrd").grid)


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_reconstruction_goes_on_with_resume(tmp_path, scan, played, number):
    command = ["reconstruct", str(scan), str(tmp_path / "x.nrrd"), "--method", "played", "--set", "steps=150", "pause_s=0.02"]
    program = [sys.executable, str(Path(played_cli.__file__)), *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    # A shell's background job ignores SIGINT, and hands that down.
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    stopped = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heeding)
    while not stopped.stderr.readline().startswith("played: halving:"):
        pass
    time.sleep(0.2)
    stopped.send_signal(number)
    said = stopped.communicate(timeout=20)[1]
    assert stopped.returncode == 1 and "--resume" in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.nrrd.job"]
    assert run(*command, "--resume") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.nrrd"]


def test_methods_are_listed_with_every_option_for_people_and_machines(capsys, played):
    assert run("methods", "--json") == 0
    listed = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert {"fdk", "os-sart", "cgls", "admm-tv", "naf"} <= set(listed)
    for method in listed.values():
        assert method["title"] and method["summary"] and method["citation"] and method["devices"]
        for option in method["options"]:
            assert option["help"] and "default" in option and option["type"]
    steps = next(option for option in listed["played"]["options"] if option["name"] == "steps")
    assert steps == {
        "name": "steps",
        "type": "integer",
        "default": 8,
        "unit": "steps",
        "help": "steps to do",
        "optional": False,
        "advanced": False,
        "minimum": 1,
        "maximum": 10_000,
    }
    assert listed["played"]["presets"] == {"recommended": {}, "short": {"steps": 2, "seed": 5}}
    assert run("methods") == 0
    said = capsys.readouterr().out
    assert ">= 1, <= 10000" in said and "--preset short: steps=2, seed=5" in said and "--preset recommended: the defaults" in said


def test_methods_says_what_the_evidence_recommends_for_a_number_of_views(capsys, played, monkeypatch):
    from SparseCTReconLib import evidence

    row = {"preset": "recommended", "volume": "head", "views": 20, "budget_s": 60.0, "size": 128, "device": "cpu", "seconds": 9.0}
    rows = [row | {"method": "fdk", "psnr_db": 22.0}, row | {"method": "admm-tv", "psnr_db": 36.0}, row | {"method": "x", "psnr_db": 99.0}]
    monkeypatch.setattr(evidence, "load", lambda: rows)
    assert run("methods", "--views", 25, "--budget", 30, "--device", "cpu", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {"views": 25, "device": "cpu", "budget_s": 30.0}.items() <= said.items() and len(said["methods"]) >= 5
    assert {"method": "admm-tv", "preset": "recommended", "views": 20, "volumes": 1}.items() <= said["recommendation"].items()
    assert run("methods", "--views", 25, "--device", "cpu") == 0
    assert capsys.readouterr().out.rstrip().endswith(said["sentence"].replace(" in 30 s", ""))
    monkeypatch.setattr(evidence, "load", list)
    assert run("methods", "--views", 25, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recommendation"] is None and said["sentence"] == "No evidence yet: no method has been measured."


def test_doctor_examines_and_never_fails(capsys, monkeypatch):
    assert run("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"] == np.__version__ and found["cores"] >= 1 and found["devices"][0]["name"] == "cpu"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("doctor") == 0
    assert "torch cannot be loaded" in " ".join(capsys.readouterr().out.split())


def test_help_and_version_are_exit_0(capsys):
    for arguments in ([], ["--help"], ["--version"], ["reconstruct", "--help"]):
        assert run(*arguments) == 0
    assert "--budget SECONDS" in capsys.readouterr().out
