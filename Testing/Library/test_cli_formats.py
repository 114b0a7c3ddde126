"""The command line takes scans of other codes."""

import json

import numpy as np
import pytest
import scan_files
from cli_cases import refused, run

from SparseCTReconLib.formats import read_scan, read_volume


@pytest.mark.usefixtures("quick_workers")
def test_a_pickle_of_nafs_is_reconstructed_by_its_name(tmp_path):
    file = scan_files.naf(tmp_path / "chest.pickle", views=12)
    out = tmp_path / "out.nrrd"
    size = ("--size", 6, 6, 4, "--spacing", 2, 2, 2)
    assert run("reconstruct", file, out, "--method", "fdk", *size, "--json", tmp_path / "summary.json") == 0
    assert read_volume(out).grid.size == (6, 6, 4)
    assert np.isfinite(read_volume(out).array).all()
    assert json.loads((tmp_path / "summary.json").read_text())["method"] == "fdk"


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda folder: scan_files.naf(folder / "a.pickle", DSO=9000.0), "must lie behind the isocentre"),
        (lambda folder: scan_files.tigre_json(folder, mode="parallel"), "only cone beams"),
    ],
)
@pytest.mark.usefixtures("quick_workers")
def test_a_scan_that_cannot_be_is_one_sentence_and_nothing_is_left(capsys, tmp_path, write, said):
    (tmp_path / "in").mkdir()
    assert said in refused(capsys, "reconstruct", write(tmp_path / "in"), tmp_path / "out.nrrd", "--method", "fdk")
    assert [path.name for path in tmp_path.iterdir() if path.name != "in"] in ([], ["out.nrrd.job"])


@pytest.mark.usefixtures("quick_workers")
def test_a_file_that_is_no_scan_is_told_what_is(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    said = refused(capsys, "reconstruct", tmp_path / "a.txt", tmp_path / "out.nrrd", "--method", "fdk")
    for name in ("NAF", "R2-Gaussian", "TIGRE", "DeepSparse", "YAML or CSV", "RTK"):
        assert name in said


def test_scans_of_other_codes_survive_as_scan_folders(tmp_path):
    from SparseCTReconLib.formats import write_scan

    for number, file in enumerate((scan_files.naf(tmp_path / "a"), scan_files.tigre_mat(tmp_path / "b.mat"))):
        scan = read_scan(file)
        write_scan(scan, tmp_path / f"scan{number}")
        again = read_scan(tmp_path / f"scan{number}")
        assert again.content_hash() == scan.content_hash()
        assert again.provenance == scan.provenance
