"""The table of evidence: what the benchmark measures, what it keeps, and how the table reads."""

import json
from pathlib import Path

import numpy as np
import pytest

from SparseCTReconLib import Grid, Volume, evidence, write_volume

BENCHMARKS = Path(__file__).parents[1] / "Benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import evidence as benchmark

    return benchmark


@pytest.fixture
def ct(tmp_path):
    z, y, x = np.indices((24, 24, 24))
    inside = (x - 12) ** 2 + (y - 12) ** 2 + (z - 12) ** 2 < 64
    path = tmp_path / "ball.nrrd"
    write_volume(Volume(np.where(inside, 40.0, -1000.0), Grid.centred((24, 24, 24), (10, 10, 10))), path)
    return path


@pytest.fixture
def measured(benchmark, monkeypatch):
    """Keys that are measured, in place of measuring them."""
    asked = []

    def measure(key, to_solve):
        asked.append(key)
        if key[0] == "cgls":
            return None
        psnr = {"fdk": 20.0, "admm-tv": 30.0}.get(key[0], 25.0) + len(asked) / 100
        of = {"psnr_db": psnr, "ssim": 0.5, "seconds": 1.5, "peak_memory_mb": 400.0, "steps": "1 of 1", "threads": 2}
        versions = {"SparseCTReconLib": "0.1.0", "torch": "2.9"}
        return dict(zip(evidence.KEY, key)) | of | {"machine": "An 8-core", "versions": versions, "date": "2030-01-02"}

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark, "problem", lambda *arguments: None)
    return asked


def rows(folder):
    return json.loads((folder / "evidence.json").read_text())["rows"]


def run(benchmark, ct, folder, *flags):
    return benchmark.main([str(ct), "--out", str(folder), "--size", "16", "--views", "4", "--budgets", "5", *flags])


def test_admm_tv_stands_beside_whatever_is_chosen_and_is_not_measured_again(benchmark, ct, tmp_path, measured):
    assert run(benchmark, ct, tmp_path / "out", "--methods", "fdk", "naf") == 0
    assert [key[0] for key in measured] == ["admm-tv", "fdk", "naf"]
    assert run(benchmark, ct, tmp_path / "out", "--methods", "fdk") == 0
    assert [key[0] for key in measured[3:]] == ["fdk"]
    assert [row["method"] for row in rows(tmp_path / "out")] == ["admm-tv", "fdk", "naf"]


def test_a_row_that_is_run_again_replaces_the_earlier_one_and_others_stay(benchmark, ct, tmp_path, measured):
    run(benchmark, ct, tmp_path / "out", "--methods", "fdk")
    before = rows(tmp_path / "out")
    run(benchmark, ct, tmp_path / "out", "--methods", "fdk", "--views", "4", "8", "--budgets", "5")
    after = rows(tmp_path / "out")
    assert len(before) == 2 and len(after) == 4
    assert after[0] == before[0] and after[1]["psnr_db"] > before[1]["psnr_db"]
    run(benchmark, ct, tmp_path / "out", "--methods", "fdk", "--missing")
    assert rows(tmp_path / "out") == after


def test_what_failed_is_said_and_the_rest_is_kept(benchmark, ct, tmp_path, measured, capsys):
    assert run(benchmark, ct, tmp_path / "out", "--methods", "cgls", "fdk") == 1
    assert "failed: ('cgls', 'recommended', 'ball', 4" in capsys.readouterr().err
    assert [row["method"] for row in rows(tmp_path / "out")] == ["admm-tv", "fdk"]


def test_the_volumes_that_a_prior_has_seen_are_marked_as_the_command_says(benchmark, ct, tmp_path, measured):
    for flags, said in (([], "unknown"), (["--seen"], "held out"), (["--seen", "ball", "box"], "seen")):
        run(benchmark, ct, tmp_path / said, "--methods", "fdk", *flags)
        assert {row["training"] for row in rows(tmp_path / said)} == {said}


def test_the_table_reads_the_same_with_the_difference_to_admm_tv_and_where_it_was_measured(benchmark, ct, tmp_path, measured):
    run(benchmark, ct, tmp_path / "out", "--methods", "fdk")
    text = (tmp_path / "out" / "EVIDENCE.md").read_text(encoding="utf-8")
    assert "| ball | unknown | 16^3 | 4 | 5 | cpu | fdk | recommended | 20.02 | 0.500 | 1.5 | 400 | 1 of 1 | 30.01 | -9.99 | 1 |" in text
    assert "1. An 8-core, 2 threads; SparseCTReconLib 0.1.0, torch 2.9; 2030-01-02" in text


def test_every_preset_of_every_method_is_measured_unless_some_are_chosen(benchmark, ct, tmp_path, measured):
    run(benchmark, ct, tmp_path / "out")
    assert {key[:2] for key in measured} == {tuple(name.split(":")) for name in benchmark.every_method()}


@pytest.mark.slow
def test_a_real_run_gives_figures_of_its_own_process_that_recommend(benchmark, ct, tmp_path):
    assert run(benchmark, ct, tmp_path / "out", "--methods", "fdk") == 0
    found = {row["method"]: row for row in evidence.load(tmp_path / "out" / "evidence.json")}
    assert found["admm-tv"]["psnr_db"] > found["fdk"]["psnr_db"] > 10
    for row in found.values():
        assert 0 < row["seconds"] < 6 and 0 < row["ssim"] <= 1 and 50 < row["peak_memory_mb"] < 4000
    said = evidence.sentence(found.values(), 5)
    assert said.startswith("Best for 5 views on CPU, measured at 4: admm-tv")
