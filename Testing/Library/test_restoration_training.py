"""Pairs follow from their seed and show what they say; the network learns from them."""

import numpy as np
import pytest
from phantoms import Phantom

from SparseCTReconLib import write_volume
from SparseCTReconLib.cli import main
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.networks.restoration import RestorationNetwork, load, save
from SparseCTReconLib.training import pairs
from SparseCTReconLib.training.pairs import Pair, make_pair, tone
from SparseCTReconLib.training.restoration import Restoration


@pytest.fixture
def ct():
    grid = Grid.centred((40, 40, 40), (5.0,) * 3)
    return Volume((50_000 * Phantom(80.0).volume(grid) - 1000).astype(np.float32), grid)


def test_a_pair_follows_from_its_seed_and_its_reconstructions_come_closer_to_the_truth(ct, monkeypatch):
    monkeypatch.setattr(pairs, "SIZES", (16,))
    one, again, other = (make_pair([ct], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.late, again.late)
    assert not np.array_equal(one.truth, other.truth)
    errors = [np.linalg.norm(x.astype(float) - one.truth) for x in (np.zeros_like(one.truth), one.early, one.late)]
    assert errors[0] > 2 * errors[1] > 1.5 * errors[2]


def test_the_tone_changes_tissue_but_not_its_order_and_air_stays_air():
    hu = np.linspace(-1024, 3000, 500).astype(np.float32)
    for seed in range(20):
        changed = tone(hu, np.random.default_rng(seed))
        assert (np.diff(changed) >= 0).all() and changed[0] == -1024
        assert np.abs(changed - hu).max() > 20


def blurred_pairs(shape=(16, 24, 16)):
    """Truths of steps, and what is left of them when neighbours are averaged."""
    made = []
    for seed in range(3):
        truth = np.random.default_rng(seed).integers(0, 2, [n // 4 for n in shape]).repeat(4, 0).repeat(4, 1).repeat(4, 2)
        soft = (truth + np.roll(truth, 1, 2) + np.roll(truth, -1, 2)) / 3
        made.append(Pair(*(part.astype(np.float16) for part in (soft, soft, truth))))
    return made


def test_the_network_learns_to_undo_a_blur_and_the_average_follows():
    training = Restoration(blurred_pairs(), 60, rate=3e-3, network=RestorationNetwork((8, 8, 8)))
    gains = list(training.gains())
    assert training.crop == 16 and len(gains) == 60
    assert np.mean(gains[-10:]) > 1 > 0.3 > abs(gains[0])
    start = RestorationNetwork((8, 8, 8)).last.weight
    assert not np.allclose(training.average.last.weight.detach(), start.detach())


def test_gradients_that_stay_no_number_end_the_training_instead_of_letting_it_learn_nothing():
    spoilt = [Pair(pair.early, pair.late + np.float16("inf"), pair.truth) for pair in blurred_pairs()]
    training = Restoration([Pair(pair.late, pair.late, pair.truth) for pair in spoilt], 9, network=RestorationNetwork((8, 8, 8)))
    with pytest.raises(InputError, match="gradient, 3 steps long, is no number at step 3: look for"):
        list(training.gains())


def test_without_pairs_or_steps_there_is_nothing_to_train():
    with pytest.raises(InputError):
        Restoration([], 10)
    with pytest.raises(InputError):
        Restoration(blurred_pairs(), 0)


def test_the_command_trains_and_writes_weights_that_the_network_loads(ct, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pairs, "SIZES", (16,))
    write_volume(ct, tmp_path / "ct.nrrd")
    command = ["train", "restoration", str(tmp_path / "ct.nrrd"), "--out", str(tmp_path / "w.safetensors"), "--pairs", "2", "--steps", "3"]
    assert main(command) == 0
    assert "dB" in capsys.readouterr().out
    assert load(tmp_path / "w.safetensors")[0].widths == RestorationNetwork().widths


def test_weights_that_go_on_from_others_name_them(ct, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "SIZES", (16,))
    monkeypatch.chdir(tmp_path)
    write_volume(ct, "ct.nrrd")
    save(RestorationNetwork((4, 8, 8)), "first.safetensors", {})
    assert main(["train", "restoration", "ct.nrrd", "--out", "w.safetensors", "--pairs", "1", "--steps", "1"]) == 0
    assert (
        main(
            ["train", "restoration", "ct.nrrd", "--out", "w2.safetensors", "--pairs", "1", "--steps", "1"]
            + ["--start", "first.safetensors"]
        )
        == 0
    )
    assert "start" not in load("w.safetensors")[1].card
    assert load("w2.safetensors")[1].card["start"] == load("first.safetensors")[1].source


def test_cts_of_nothing_but_air_are_refused_instead_of_searched_for_ever(ct, monkeypatch):
    monkeypatch.setattr(pairs, "SIZES", (16,))
    with pytest.raises(InputError, match="hardly anything but air"):
        make_pair([Volume(np.full_like(ct.array, -1000), ct.grid)], 0)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (["--out", "w.txt"], "give this ending"),
        (["--out", "w.safetensors", "--pairs", "0"], "one pair"),
        (["--out", "w.safetensors", "--steps", "0"], "one step"),
        (["--out", "w.safetensors", "--seed", "-1"], "give 0 or more"),
        (["--out", "w.safetensors", "--start", "none"], "does not exist"),
    ],
)
def test_the_command_says_what_is_wrong_before_it_makes_pairs(ct, tmp_path, monkeypatch, capsys, wrong, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pairs, "make_pair", lambda *a: pytest.fail("the work has begun"))
    write_volume(ct, tmp_path / "ct.nrrd")
    assert main(["train", "restoration", "ct.nrrd", *wrong]) == 2
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split()) and len(said.strip().splitlines()) <= 3 and not list(tmp_path.glob("w.*"))


def test_a_ct_that_is_no_number_everywhere_is_refused(ct, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("SparseCTReconLib.formats.read_ct", lambda path: Volume(np.where(ct.array > 0, np.nan, ct.array), ct.grid))
    assert main(["train", "restoration", str(tmp_path / "ct.nrrd"), "--out", str(tmp_path / "w.safetensors")]) == 2
    assert "not finite" in capsys.readouterr().err
