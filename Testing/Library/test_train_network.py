"""train dice, train xgrm, train finetune: from a folder of CTs and a configuration to weights, in as many goes as it takes."""

import errno
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_weights
import torch
from cli_cases import refused, run
from small_dice import SMALL
from train_cases import EXAMPLES, configuration, folder_of_cts

from SparseCTReconLib import weight_files
from SparseCTReconLib.commands.train_network import Asked, command_of
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.networks import dice, dice_weights, scan_range, xgrm_weights
from SparseCTReconLib.networks.xgrm_result import Reconstruction
from SparseCTReconLib.training import course, held_out, kept_examples, learning, steps
from SparseCTReconLib.training import dice as dice_training
from SparseCTReconLib.training import xgrm as xgrm_training
from SparseCTReconLib.training.plan import PLANS, read
from SparseCTReconLib.training.prepared import Recipe, prepare
from SparseCTReconLib.weights import Found, Kind

FORMS = {"dice": dice_weights.FORMAT, "finetune": dice_weights.FORMAT, "xgrm": xgrm_weights.FORMAT}
TEN_MM = Recipe(16, 10.0)
METHODS = {"dice": "deepsparse", "finetune": "deepsparse", "xgrm": "x-grm"}


@pytest.fixture(scope="module")
def cts(tmp_path_factory):
    return folder_of_cts(tmp_path_factory.mktemp("balls") / "cts")


@pytest.fixture(autouse=True)
def few_scans(monkeypatch):
    """A card's range is made of the fewest scans that it may be made of."""
    monkeypatch.setattr(course, "SCANS_OF_A_RANGE", scan_range.FEWEST_SCANS)


def train(name, cts, folder, *more, out="mine.safetensors"):
    config, start = configuration(name, folder)
    return run("train", name, cts, "--config", config, "--start", start, "--out", folder / out, *more)


def weights(path, name):
    return weight_files.read(path, FORMS[name], "").arrays


# --- what comes out --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dice", "finetune", "xgrm"])
def test_a_folder_of_cts_becomes_weights_with_a_card_that_says_where_they_come_from(name, cts, tmp_path, capsys):
    assert train(name, cts, tmp_path) == 0
    said = capsys.readouterr()
    file = weight_files.read(tmp_path / "mine.safetensors", FORMS[name], "")
    card = file.card
    assert card["method"] == METHODS[name] and card["anatomies"] == ["limb"]
    assert (card["credit"], card["licence"]) == ("balls", "CC0") and len(card["date"]) == 10 and card["version"]
    assert card["data"]["cts"] == ["ball_0.nrrd", "ball_1.nrrd"]
    low, high = card["range"]["numbers"]["views"]
    assert 3 <= low <= high <= 4 and card["trained"]["steps"] == (2 if name == "finetune" else 4)
    assert "3 left out" not in said.err and "2 left out:" in said.err and "broken.nrrd" in said.err and "air.nii.gz" in said.err
    assert "samples/s" in said.out and "of what products of matrices reach" in said.out and "waiting for examples" in said.out
    assert not (tmp_path / "mine.training").exists()
    found = Found(tmp_path / "mine.safetensors", file.form, card)
    assert found.called("mine", Kind("x", FORMS[name], METHODS[name]))


@pytest.mark.parametrize("name, changes", [("dice", ["stage.few=[3, 30]", "stage.dense=30"]), ("xgrm", ["scans.views=[3, 30]"])])
def test_a_card_has_the_whole_range_of_views_and_orbits_though_few_scans_are_looked_at(name, changes, cts, tmp_path):
    assert train(name, cts, tmp_path, "--set", *changes, "training.steps=1", "scans.of=36", "scans.half=0.9") == 0
    card = weight_files.read(tmp_path / "mine.safetensors", FORMS[name], "").card
    assert card["range"]["scans"] == 8 and card["range"]["numbers"]["views"] == [3, 30]
    numbers = scan_range.numbers(Geometry.circular(3, arc_rad=2 * np.pi))
    beyond = scan_range._beyond(card["range"]["numbers"], {**numbers, "columns": 16.0, "field_mm": 200.0})
    assert not [said for said in beyond if "views" in said or "orbit" in said]


@pytest.mark.parametrize("name", ["dice", "xgrm"])
def test_a_card_has_the_range_as_the_weights_see_it_that_are_written(name, cts, tmp_path, monkeypatch):
    """Those are an average; what the network has become in the last step may see scans otherwise, and nobody gets it."""
    seen, of = {}, scan_range.of
    monkeypatch.setattr(scan_range, "of", lambda network, *more: seen.update(network.state_dict()) or of(network, *more))
    assert train(name, cts, tmp_path, "--set", "training.rate=0.05") == 0
    for key, array in weights(tmp_path / "mine.safetensors", name).items():
        np.testing.assert_array_equal(seen[key].numpy().astype(array.dtype), array, key)


def test_what_is_trained_reconstructs_a_scan(cts, tmp_path):
    ct = prepare([cts / "ball_0.nrrd"], TEN_MM, tmp_path / "cache").cts[0]
    scan, grid, truth = held_out.scanned(ct, 4, 0)
    assert train("finetune", cts, tmp_path) == 0 and train("xgrm", cts, tmp_path, out="x.safetensors") == 0
    one, _ = dice_weights.load(tmp_path / "mine.safetensors")
    other, _ = xgrm_weights.load(tmp_path / "x.safetensors")
    assert one.configuration.denoising
    for mu in (dice.reconstruct(one, scan, grid), Reconstruction(other, scan, grid).volume()):
        assert mu.shape == truth.shape and np.isfinite(mu).all() and mu.max() > 0


def test_finetuning_adapts_first_and_then_adjusts_with_encoder_and_codebooks_as_they_were(cts, tmp_path, monkeypatch):
    seen, began, begin = [], {}, dice_training.DiCETraining.__init__

    def beginning(self, examples, network, stage, *more):
        begin(self, examples, network, stage, *more)
        seen.append((stage.name, stage.few, self.network.configuration.denoising, network.frozen))
        began[stage.name] = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    monkeypatch.setattr(dice_training.DiCETraining, "__init__", beginning)
    assert train("finetune", cts, tmp_path) == 0
    assert seen == [("adapt", (3, 4), False, False), ("adjust", (3, 4), True, False)]
    file = weight_files.read(tmp_path / "mine.safetensors", FORMS["finetune"], "")
    kept = {name: tensor for name, tensor in began["adjust"].items() if name.startswith(("encoder", "quantisers")) and name in file.arrays}
    assert kept and all(np.allclose(file.arrays[name], tensor, atol=1e-3) for name, tensor in kept.items())
    changed = [name for name in began["adapt"] if name.startswith("encoder") and name.endswith("weight")]
    assert any(not torch.allclose(began["adapt"][name], began["adjust"][name], atol=1e-5) for name in changed)


def test_what_betters_a_first_volume_is_adapted_and_has_nothing_to_adjust(tmp_path, caplog):
    start = tmp_path / "compact.safetensors"
    dice_weights.save(dice.begin(replace(SMALL, plain_output=True, around=4)), start, {})
    going = course.course(read("finetune", None, {"network.start": str(start)}), tmp_path)
    assert going.betters(going.network()) and going.parts == ["adapt"] and "nothing to adjust" in caplog.text
    with pytest.raises(InputError, match="stage.name=adjust: .*give stage.name=adapt"):
        course.course(read("dice", None, {"network.start": str(start), "stage.name": "adjust"}), tmp_path).network()


def test_a_network_on_a_gpu_is_shown_a_first_volume_that_the_cpu_makes(cts, tmp_path):
    ct = prepare([cts / "ball_0.nrrd"], TEN_MM, tmp_path / "cache").cts[0]
    scan, grid, truth = held_out.scanned(ct, 4, 0)
    network = SimpleNamespace(device=torch.device("cuda"), configuration=replace(SMALL, plain_output=True, around=4))
    first = course.course(read("dice", None, {}), tmp_path).first(network, scan, grid)
    assert np.corrcoef(first.ravel(), truth.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_train_from_end_to_end_when_all_is_tiny(example, cts, tmp_path, capsys):
    name = next(name for name in PLANS if example.name.startswith(name))
    _, start = configuration(name, tmp_path)
    parts = ("adapt", "adjust") if name == "finetune" else ("training",)
    changes = [f"{part}.{key}" for part in parts for key in ("steps=2", "box=8" if name == "xgrm" else "points=50")]
    changes += ["data.voxels=16", "data.spacing_mm=10", "data.made_up_limbs=0", "data.held_out=['ball_1']", f"data.cache={tmp_path}/cache"]
    changes += ["scans.voxels=[8]", "machine.device=cpu", "machine.devices=1", "machine.nodes=1", "machine.workers=0"]
    if read(name, example, {}).output.logs:
        pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install tensorboardX")
        changes.append(f"output.logs={tmp_path}/logs")
    out = tmp_path / "mine.safetensors"
    assert run("train", name, cts, "--config", example, "--start", start, "--out", out, "--set", *changes) == 0
    assert weight_files.read(out, FORMS[name], "").card["data"]["cts"] == ["ball_0.nrrd"]
    assert ("held out" in capsys.readouterr().out) == read(name, example, {}).card.figures
    assert (tmp_path / "logs").exists() == bool(read(name, example, {}).output.logs)


def test_cts_that_are_kept_out_are_not_learnt_from_and_give_figures_if_wanted(cts, tmp_path, capsys):
    held = ("--set", "data.held_out=['BALL_1']", "card.figures=true")
    assert train("xgrm", cts, tmp_path, *held) == 0
    card = weight_files.read(tmp_path / "mine.safetensors", FORMS["xgrm"], "").card
    assert card["data"]["cts"] == ["ball_0.nrrd"] and card["held_out"]["cts"] == ["ball_1.nrrd"]
    rows = card["held_out"]["figures"]
    assert [row["views"] for row in rows] == [3, 4] and all(row["voxels"] == 8 and np.isfinite(row["psnr_db"]) for row in rows)
    assert "held out, 3 views, 8 voxels" in capsys.readouterr().out
    command = card["held_out"]["command"]
    assert command.startswith("sparsectrecon train xgrm cts --config xgrm.toml --start xgrm-start.safetensors") and "BALL_1" in command
    assert str(tmp_path) not in json.dumps(card)


def test_the_command_in_a_card_names_no_folders():
    changes = {"network.start": "/home/somebody/w.safetensors", "output.logs": "/home/somebody/logs", "training.rate": "1e-4"}
    said = command_of(Asked("dice", Path("/home/somebody/dice.toml"), changes, [Path("/home/somebody/cts")]))
    assert said == "sparsectrecon train dice cts --config dice.toml --set network.start=w.safetensors training.rate=1e-4"


def test_the_command_in_a_card_can_be_given_to_a_shell_as_it_is():
    changes = {"data.held_out": "['one two', 'three*']", "scans.voxels": "[64, 96]"}
    said = command_of(Asked("xgrm", Path("my xgrm.toml"), changes))
    told = ["data.held_out=['one two', 'three*']", "scans.voxels=[64, 96]"]
    assert shlex.split(said) == ["sparsectrecon", "train", "xgrm", "--config", "my xgrm.toml", "--set", *told]


def test_names_with_dots_are_kept_out_one_by_one(tmp_path):
    names = ("1.3.6.1", "1.3.6.2", "1.3.6.1.9")
    paths = [tmp_path / f"{name}{ending}" for name, ending in zip(names, (".mhd", ".nii.gz", ".NRRD"))]
    learnt_from, kept_out = held_out.parted(paths, ["1.3.6.1", "1.3.6.2"])
    assert kept_out == paths[:2] and learnt_from == paths[2:]
    assert held_out.parted(paths, ["1.3.6.1*"])[1] == [paths[0], paths[2]]


def test_figures_are_those_of_the_truth_and_of_something_wrong(cts, tmp_path):
    made = prepare([cts / "ball_0.nrrd"], TEN_MM, tmp_path / "cache").cts
    truth_hu = held_out.scanned(made[0], 4, 0)[2]

    def known(scan, grid):
        return (truth_hu / 1000 + 1) * scan.mu_water

    right = held_out.figures(made, [4], known)["figures"][0]
    wrong = held_out.figures(made, [4], lambda scan, grid: known(scan, grid) + 0.1 * scan.mu_water)["figures"][0]
    assert right["psnr_db"] > 80 and right["ssim"] > 0.999
    assert wrong["psnr_db"] == pytest.approx(-20 * np.log10(100 / 2000), abs=0.6)


@pytest.mark.parametrize("name, method", [("dice", "deepsparse"), ("xgrm", "x-grm")])
def test_networks_that_better_a_first_volume_learn_from_examples_that_are_kept(name, method, cts, tmp_path, monkeypatch, capsys):
    config, _ = configuration(name, tmp_path)
    start, firsts = small_weights.bettering(tmp_path, method), []
    made = kept_examples.first_volume
    monkeypatch.setattr(kept_examples, "first_volume", lambda scan, grid: firsts.append(scan.views) or made(scan, grid))
    monkeypatch.setattr(course, "KEPT", 3)
    same = ("train", name, cts, "--config", config, "--start", start, "--out", tmp_path / "mine.safetensors")
    assert "data.kept=0" in refused(capsys, *same, "--set", "data.kept=0")
    assert run(*same) == 0
    assert len(firsts) == 3 and set(firsts) <= {3, 4}, "each is made once, of the views that a user would have"
    assert not (tmp_path / "mine.training").exists()
    assert run(*same, "--set", "data.kept=1", "data.held_out=ball_1", "card.figures=true") == 2, "a name alone is no list"
    assert run(*same, "--set", "data.kept=1", "data.held_out=['ball_1']", "card.figures=true") == 0
    assert "held out, 3 views" in capsys.readouterr().out


# --- in several goes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, stop", [("xgrm", 3), ("dice", 2), ("finetune", 2), ("finetune", 4)])
def test_after_a_stop_the_same_command_goes_on_and_ends_the_same(name, stop, cts, tmp_path, monkeypatch):
    assert train(name, cts, tmp_path, out="whole.safetensors") == 0
    step, count = learning.Learning.step, []

    def stopping(self):
        if len(count) == stop:
            raise KeyboardInterrupt
        count.append(self.done)
        return step(self)

    monkeypatch.setattr(learning.Learning, "step", stopping)
    assert train(name, cts, tmp_path) == 1
    assert not (tmp_path / "mine.safetensors").exists() and (tmp_path / "mine.training" / "training.json").exists()
    again = []
    monkeypatch.setattr(learning.Learning, "step", lambda self: again.append(self.done) or step(self))
    assert train(name, cts, tmp_path) == 0
    whole = 5 if name == "finetune" else 4
    assert len(again) == whole - stop
    for key, array in weights(tmp_path / "whole.safetensors", name).items():
        np.testing.assert_array_equal(weights(tmp_path / "mine.safetensors", name)[key], array)


def test_another_training_in_the_working_folder_is_not_gone_on_with(cts, tmp_path, capsys, monkeypatch):
    step = learning.Learning.step

    def stopping(self):
        if self.done == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(learning.Learning, "step", stopping)
    assert train("xgrm", cts, tmp_path) == 1
    config, start = configuration("xgrm", tmp_path)
    same = ("train", "xgrm", cts, "--config", config, "--start", start, "--out", tmp_path / "mine.safetensors")
    assert "--set output.work=FOLDER" in refused(capsys, *same, "--set", "seed=4")
    assert "of another training" in refused(capsys, *same, "--set", "training.steps=7")
    monkeypatch.setattr(learning.Learning, "step", step)
    assert run(*same, "--set", "training.rate=1e-5") == 0, "a lower rate is how one goes on after a divergence"


def test_a_full_disk_at_a_checkpoint_is_said_and_the_one_before_stays(cts, tmp_path, capsys, monkeypatch):
    kept, write = [], steps.write_state

    def full(path, state):
        if state["done"] == 2:
            kept.append(path.read_bytes())
            raise InputError(f"{path} cannot be written ({errno.errorcode[errno.ENOSPC]})", "unwritable")
        if state["done"] == 3:
            assert path.read_bytes() == kept[0]
        write(path, state)

    monkeypatch.setattr(learning, "write_state", full)
    assert train("xgrm", cts, tmp_path) == 0 and kept
    assert "training goes on, and the checkpoint from before stays" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_it_with_the_last_good_checkpoint_kept(cts, tmp_path, capsys, monkeypatch):
    gradients = xgrm_training.XGRMTraining.gradients

    def spoilt(self, examples, rng):
        found = gradients(self, examples, rng)
        return {**found, "squares": float("nan")} if self.done == 3 else found

    monkeypatch.setattr(xgrm_training.XGRMTraining, "gradients", spoilt)
    config, start = configuration("xgrm", tmp_path)
    same = ("train", "xgrm", cts, "--config", config, "--start", start, "--out", tmp_path / "mine.safetensors")
    assert "the loss is no number at step 3: go on from the last checkpoint with a lower rate" in refused(capsys, *same)
    assert torch.load(tmp_path / "mine.training" / "train.pt", weights_only=True)["done"] == 3
    assert not (tmp_path / "mine.safetensors").exists()


# --- what is refused -------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_refused_before_anything_is_written(cts, tmp_path, capsys):
    config, start = configuration("dice", tmp_path)
    out = tmp_path / "mine.safetensors"
    before = {path.name for path in tmp_path.iterdir()}

    def sentence(name, *more):
        return refused(capsys, "train", name, *more)

    assert "give --out FILE" in sentence("dice", cts, "--config", config)
    assert "give this ending" in sentence("dice", cts, "--config", config, "--out", tmp_path / "mine.pt")
    assert "nothing to finetune" in sentence("finetune", cts, "--out", out)
    assert "does not exist" in sentence("dice", cts, "--out", out, "--start", tmp_path / "no.safetensors")
    assert "holds no weights of X-GRM" in sentence("xgrm", cts, "--out", out, "--start", start)
    assert "not one CT to train on" in sentence("dice", cts / "notes.txt", "--config", config, "--start", start, "--out", out)
    assert "not one CT to train on" in sentence("dice", "--config", config, "--start", start, "--out", out)
    begun = ("dice", cts, "--config", config, "--start", start, "--out", out, "--set")
    assert "8 views where 9 are drawn from" in sentence(*begun, "stage.dense=9")
    assert "give the fewest and the most" in sentence(*begun, "stage.few=[5, 4]")
    assert "give the fewest, 1 or more, and the most" in sentence(*begun, "scans.photons=[0, 4]")
    held = ("--set", "data.held_out=['ball_2']")
    assert "did you mean 'ball_" in sentence("dice", cts, "--config", config, "--start", start, "--out", out, *held)
    assert "torch finds no CUDA device" in sentence("dice", cts, "--start", start, "--out", out, "--set", "machine.device=cuda")
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == before


def test_keys_are_listed_with_defaults_units_and_bounds(capsys):
    assert run("train", "dice", "--keys") == 0
    said = capsys.readouterr().out
    assert "training.batch = 2\n    scans in a step" not in said
    assert "training.batch = 2\n    in a step of each GPU (scans, >= 1, <= 1024)" in said
    assert 'network.size = "compact"' in said and "data.spacing_mm = \n" in said
