"""The command `train slice-fixer`: from a folder of CTs to weights, also in two goes."""

import numpy as np
import pytest
import tiny_sd_turbo
import torch
from cli_cases import refused, run
from phantoms import Phantom

from SparseCTReconLib import weight_files, write_volume
from SparseCTReconLib.commands import train_slice_fixer as command
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.networks import compact_fixer, slice_fixer
from SparseCTReconLib.training import slice_fixer as training
from SparseCTReconLib.training import slice_pairs

SHORT = ("--pairs", 2, "--steps", 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two CTs, from which small pairs are made, for a small network."""
    monkeypatch.setattr(slice_pairs, "SIZES", (16,))
    monkeypatch.setattr(slice_pairs, "FIT_STEPS", (20, 21))
    monkeypatch.setattr(training, "CompactNetwork", lambda: compact_fixer.CompactNetwork((8, 8, 8, 8)))
    monkeypatch.setattr(command, "STEPS_BETWEEN_STATES", 1)
    grid = Grid.centred((30, 30, 30), (7.0,) * 3)
    place = tmp_path / "cts"
    place.mkdir()
    for name in ("one", "two"):
        write_volume(Volume((50_000 * Phantom(80.0).volume(grid) - 1000).astype(np.float32), grid), place / f"{name}.nrrd")
    (place / "notes.txt").write_text("not a CT")
    return place


def weights(path):
    return weight_files.read(path, compact_fixer.FORMAT, "").arrays


def test_a_folder_of_cts_becomes_weights_that_a_fixer_takes(folder, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    assert run("train", "slice-fixer", folder, "--out", out, *SHORT, "--credit", "made up") == 0
    assert "on slices of the training pairs" in capsys.readouterr().out
    file = weight_files.read(out, compact_fixer.FORMAT, "")
    assert file.card["credit"] == "made up" and (file.card["pairs"], file.card["steps"]) == (2, 4)
    assert slice_fixer.load(str(out)).anatomies == tuple(file.card["anatomies"]) != ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cts", "mine.safetensors"]
    assert run("train", "slice-fixer", folder, "--out", tmp_path / "on.safetensors", "--start", out, *SHORT) == 0


def test_after_a_stop_the_same_command_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "mine.safetensors"
    assert run("train", "slice-fixer", folder, "--out", whole, *SHORT) == 0
    go_on = stopping_after(2, monkeypatch)
    assert run("train", "slice-fixer", folder, "--out", out, *SHORT) != 0
    assert not out.exists() and len(list((tmp_path / "mine.training").iterdir())) == 4
    go_on()
    monkeypatch.setattr(slice_pairs, "make_stack_pair", lambda *a: pytest.fail("a pair is made again"))
    assert run("train", "slice-fixer", folder, "--out", out, *SHORT) == 0
    for name, array in weights(whole).items():
        np.testing.assert_array_equal(weights(out)[name], array)


def test_where_it_stops_with_all_steps_done_the_card_of_the_next_go_says_what_was_gained(folder, tmp_path, monkeypatch):
    out, save = tmp_path / "mine.safetensors", training.SliceTraining.save

    def full(*arguments):
        raise OSError("no room")

    monkeypatch.setattr(training.SliceTraining, "save", full)
    assert run("train", "slice-fixer", folder, "--out", out, *SHORT) == 2
    monkeypatch.setattr(training.SliceTraining, "save", save)
    monkeypatch.setattr(training.SliceTraining, "step", gain_of(training.SliceTraining.step, 0.5))
    assert run("train", "slice-fixer", folder, "--out", out, *SHORT) == 0
    assert weight_files.read(out, compact_fixer.FORMAT, "").card["gain_db"] == 0.5


def gain_of(step, gain):
    """A step that is said to have gained so much."""
    return lambda training: step(training) * 0 + gain


def stopping_after(steps, monkeypatch):
    """Let training be interrupted once so many steps are done; returns what undoes that."""
    step = training.SliceTraining.step

    def stopping(self):
        if self.done == steps:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(training.SliceTraining, "step", stopping)
    return lambda: monkeypatch.setattr(training.SliceTraining, "step", step)


def test_with_clips_losses_it_learns_otherwise_and_its_discriminator_goes_on_too(folder, tmp_path, monkeypatch, capsys):
    for library in ("transformers", "diffusers"):
        pytest.importorskip(library, reason=f"losses of CLIP need {library}: pip install {library}")
    (tmp_path / "clip").mkdir()
    outs = {name: tmp_path / f"{name}.safetensors" for name in ("plain", "whole", "mine")}
    with_clip = ("--clip", tiny_sd_turbo.clip(tmp_path / "clip"))
    assert run("train", "slice-fixer", folder, "--out", outs["plain"], *SHORT) == 0
    assert run("train", "slice-fixer", folder, "--out", outs["whole"], *SHORT, *with_clip) == 0
    assert any(not np.array_equal(weights(outs["plain"])[name], array) for name, array in weights(outs["whole"]).items())
    go_on = stopping_after(2, monkeypatch)
    assert run("train", "slice-fixer", folder, "--out", outs["mine"], *SHORT, *with_clip) != 0
    state = torch.load(tmp_path / "mine.training" / "state.pt", weights_only=True)
    assert state["perceptual"]["discriminator"] and state["perceptual"]["optimiser"]["state"]
    assert "of another training" in refused(capsys, "train", "slice-fixer", folder, "--out", outs["mine"], *SHORT)
    go_on()
    assert run("train", "slice-fixer", folder, "--out", outs["mine"], *SHORT, *with_clip) == 0
    for name, array in weights(outs["whole"]).items():
        np.testing.assert_array_equal(weights(outs["mine"])[name], array)


def test_what_cannot_be_trained_is_refused(folder, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    assert "nothing to train on" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--pairs", 0)
    assert "give this ending" in refused(capsys, "train", "slice-fixer", folder, "--out", tmp_path / "mine.pt")
    assert "licence" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--sd-turbo", tmp_path)
    assert "does not exist" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--start", tmp_path / "no.safetensors")
    assert "cannot be read as CLIP" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--clip", tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    (work / "holiday.jpg").write_text("a beach")
    assert "holds something else" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--work", work)
    (work / "holiday.jpg").unlink()
    command.claim(work, {"cts": ["other.nrrd"], "seed": 0})
    assert "other CTs or another seed" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--work", work)
    (work / "training.json").write_text("{'cts'")
    assert "other CTs or another seed" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--work", work)
    assert "notes.txt" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--work", folder / "notes.txt")
    (work / "training.json").unlink()
    command.claim(work, {"cts": ["one.nrrd", "two.nrrd"], "seed": 0})
    (work / "00000.npz").write_text("damaged")
    assert "cannot be read as a pair" in refused(capsys, "train", "slice-fixer", folder, "--out", out, "--work", work, *SHORT)
