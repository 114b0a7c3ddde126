"""weights list, get, convert and novel-views on the command line, and novel views from Python."""

import hashlib
import json

import numpy as np
import pytest
import small_weights
import small_xgrm
import torch
from cli_cases import refused, run
from released_dice import state_dict

from SparseCTReconLib import Geometry, novel_views, read_scan, resources, weight_files, weights, write_scan
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.admm_tv import first_volume
from SparseCTReconLib.methods.domain import domain
from SparseCTReconLib.networks import dice_weights, scan_range
from SparseCTReconLib.networks.xgrm_result import Reconstruction


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """An empty folder of the user's weights, and nothing elsewhere."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv(weights.VARIABLE, str(folder))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(resources, "folders", lambda name: [])
    return folder


@pytest.fixture
def few(tmp_path):
    """The folder of a scan of 4 views."""
    write_scan(small_xgrm.scan(), tmp_path / "scan")
    return tmp_path / "scan"


# --- weights ---------------------------------------------------------------------------------------------------------------------------


def test_the_list_says_what_there_is_for_what_and_what_is_no_good(shelf, capsys):
    held_out = {"figures": [{"views": 6, "psnr_db": 31.26}, {"views": 10, "psnr_db": 33.0}]}
    small_weights.dice(shelf, [small_xgrm.scan(6, seed) for seed in range(8)], held_out=held_out)
    (shelf / "broken.safetensors").write_bytes(b"0123")
    assert run("weights", "list") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "deepsparse_limb" in said and "limb" in said and "6 to 6" in said and "CC0" in said and "noise" in said
    assert "6: 31.3, 10: 33.0" in said
    assert "no good: " in said and "broken.safetensors cannot be read" in said
    assert run("weights", "list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["here"]] == ["broken", "deepsparse_limb"] and found["to_fetch"] == []
    assert found["here"][1]["card"]["anatomies"] == ["limb"] and found["here"][0]["fault"]


def test_get_needs_a_checksum_and_the_licence(shelf, capsys):
    assert "give its checksum too" in refused(capsys, "weights", "get", "https://a.b/c.safetensors")
    assert "--accept-licence" in refused(capsys, "weights", "get", "https://a.b/c.safetensors", "--sha256", "0" * 64)
    assert "no weights to fetch are called 'knee'" in refused(capsys, "weights", "get", "knee", "--accept-licence")


def test_get_fetches_with_a_checksum_and_says_the_licence(shelf, tmp_path, capsys):
    pytest.importorskip("pooch", reason="pooch is not installed: pip install pooch")
    from test_weights import Server

    path = small_weights.dice(tmp_path)
    server = Server(path.read_bytes())
    try:
        digest = hashlib.sha256(server.content).hexdigest()
        assert run("weights", "get", server.url, "--sha256", digest, "--accept-licence") == 0
    finally:
        server.close()
    said = capsys.readouterr().out
    assert said.strip().endswith("fetched, licence: CC0") and (tmp_path / "cache/weights/played_limb.safetensors").is_file()


def test_convert_makes_weights_of_a_published_checkpoint(tmp_path, capsys):
    torch.save(state_dict(), tmp_path / "ep_400.pth")
    out = tmp_path / "deepsparse_chest-6.safetensors"
    assert run("weights", "convert", tmp_path / "ep_400.pth", out, "--anatomy", "chest", "--views", 6, 6) == 0
    network, file = dice_weights.load(out)
    assert network.configuration.release and file.card["range"]["numbers"]["views"] == [6, 6]
    assert file.card["anatomies"] == ["chest"] and "patent" in file.card["licence"] and "converted" in capsys.readouterr().out
    few = small_xgrm.scan(5)
    assert "it has 5 views, they 6" in scan_range.warning(file.card, "chest-6", few, lambda: pytest.fail("looked"))


class Program:
    def __reduce__(self):
        return pytest.fail, ("it has run",)


def test_convert_refuses_code_wrong_names_and_wrong_views_and_leaves_nothing(tmp_path, capsys):
    torch.save({"model": Program()}, tmp_path / "ep.pth")
    torch.save(state_dict(), tmp_path / "good.pth")
    out = tmp_path / "out.safetensors"
    assert "holds code" in refused(capsys, "weights", "convert", tmp_path / "ep.pth", out)
    assert "no published weights of 'foot'" in refused(capsys, "weights", "convert", tmp_path / "good.pth", out, "--anatomy", "foot")
    assert "give the fewest views" in refused(capsys, "weights", "convert", tmp_path / "good.pth", out, "--views", 9, 6)
    assert "give this ending" in refused(capsys, "weights", "convert", tmp_path / "good.pth", tmp_path / "out.pt")
    assert "does not exist" in refused(capsys, "weights", "convert", tmp_path / "gone.pth", out)
    assert not out.exists() and not list(tmp_path.glob(".writing*"))


# --- novel views -----------------------------------------------------------------------------------------------------------------------


def test_novel_views_are_those_of_the_networks_gaussians_and_say_that_they_were_not_measured(shelf):
    path, scan = small_weights.xgrm(shelf), small_xgrm.scan()
    geometry = Geometry.circular(3, 220.0, 330.0, (10, 12), (4.0, 4.0), offset_mm=(3.0, 1.0))
    made = novel_views(scan, geometry, weights=str(path), grid=small_xgrm.GRID)
    wanted = Reconstruction(small_xgrm_network(path), scan, domain(scan, small_xgrm.GRID).grid).xrays(geometry)
    np.testing.assert_allclose(made.projections, np.maximum(wanted, 0), atol=1e-6)
    assert made.geometry is geometry and made.photons is None and np.ptp(made.projections) > 0
    assert "not measured" in made.provenance["novel_views"] and "x-grm_limb" in made.provenance["weights"]
    assert made.provenance["of_scan_sha256"] == scan.content_hash() and "research use only" in made.provenance["disclaimer"]
    assert "does not say what scans" in made.provenance["warnings"]


def small_xgrm_network(path):
    from SparseCTReconLib.networks import xgrm_weights

    return xgrm_weights.load(path)[0]


def test_a_network_that_betters_a_first_volume_renders_what_it_makes_of_it(shelf):
    path, scan = small_weights.bettering(shelf, "x-grm"), small_xgrm.scan()
    geometry = Geometry.circular(2, 220.0, 330.0, (10, 12), (4.0, 4.0))
    made = novel_views(scan, geometry, weights=str(path), grid=small_xgrm.GRID)
    grid = domain(scan, small_xgrm.GRID).grid
    wanted = Reconstruction(small_xgrm_network(path), scan, grid, first_volume(scan, grid)).xrays(geometry)
    np.testing.assert_allclose(made.projections, np.maximum(wanted, 0), atol=1e-6)


def test_what_reaches_beyond_the_grid_casts_its_shadow_too(shelf):
    path, scan = small_weights.bettering(shelf, "x-grm"), small_xgrm.scan()
    size = tuple(n // 2 for n in small_xgrm.GRID.size)
    inner = Grid.centred(size, small_xgrm.GRID.spacing_mm, small_xgrm.GRID.centre_mm)
    made = novel_views(scan, scan.geometry, weights=str(path), grid=inner).projections
    cut = Reconstruction(small_xgrm_network(path), scan, inner, first_volume(scan, inner)).xrays(scan.geometry)
    wrong, more_wrong = (np.linalg.norm(xrays - scan.projections) for xrays in (made, cut))
    assert wrong < 0.6 * more_wrong


def test_the_command_writes_a_scan_of_the_same_machine(few, shelf, tmp_path, capsys):
    small_weights.xgrm(shelf)
    out = tmp_path / "novel"
    assert run("novel-views", few, out, "--views", 5, "--arc", 90, "--start", 30, "--weights", "limb", "--size", 8, 8, 8) == 0
    made, of = read_scan(out), read_scan(few)
    assert made.views == 5 and made.geometry.detector_shape == of.geometry.detector_shape
    np.testing.assert_allclose(np.degrees(made.geometry.gantry_angles_rad), [30, 52.5, 75, 97.5, 120], atol=1e-3)
    np.testing.assert_allclose(made.geometry.sid_mm, of.geometry.sid_mm[0], rtol=1e-5)
    assert "not measured" in made.provenance["novel_views"] and "5 X-rays, rendered, not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--weights", "leg"], "no weights 'leg'"),
        (["--weights", "ep.pth"], "may hold code"),
        (["--views", 0, "--weights", "limb"], "a scan has at least one"),
        (["--arc", 400, "--weights", "limb"], "an arc of 400 degrees"),
        (["--size", 100000, 100000, 100000, "--weights", "limb"], "needs about .* GB with x-grm|at least|too"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(few, shelf, tmp_path, capsys, arguments, sentence):
    small_weights.xgrm(shelf)
    import re

    assert re.search(sentence, refused(capsys, "novel-views", few, tmp_path / "novel", *arguments))
    assert not (tmp_path / "novel").exists()


def test_without_weights_and_with_two_views_it_says_so(few, tmp_path, capsys):
    assert "there are no weights for x-grm" in refused(capsys, "novel-views", few, tmp_path / "novel")
    with pytest.raises(InputError, match="X-GRM needs 3 views or more, the scan has 2"):
        novel_views(small_xgrm.scan(2), Geometry.circular(3))


def test_weights_of_deepsparse_are_refused(few, shelf, tmp_path, capsys):
    path = small_weights.dice(shelf)
    assert "holds no weights of X-GRM" in refused(capsys, "novel-views", few, tmp_path / "novel", "--weights", path)
    assert weight_files.read_card(path)[0] == dice_weights.FORMAT
