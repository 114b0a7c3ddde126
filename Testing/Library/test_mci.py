"""Heads pretrained on a CT: the files and what is refused, the training, what it is good for, and how weights are chosen."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from poses import rotation
from round_bodies import round_body

from SparseCTReconLib import Geometry, Grid, InputError, Scan, Volume, resources, simulate
from SparseCTReconLib.cli import main
from SparseCTReconLib.fields import mci
from SparseCTReconLib.fields.anatomy import ANATOMIES, propose
from SparseCTReconLib.fields.field import AttenuationField
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.networks import HashNetwork
from SparseCTReconLib.fields.rays import UnitCube
from SparseCTReconLib.formats import write_volume
from SparseCTReconLib.training import mci as training
from SparseCTReconLib.training.mci import PRESETS, Pretraining, network_for
from SparseCTReconLib.units import MU_WATER, hu_to_mu

OURS, PAPERS = Head(16, 32), Head(20, 32, skip=True, activation="gelu")
SMALL = HashNetwork(HashGrid(4, 16, 24, 14), Head(8, 16))


def random_parameters(head, seed=0):
    return np.random.default_rng(seed).standard_normal(head.size).astype(np.float32)


def written(path, **heads):
    """A file of weights with random parameters for each of `heads`."""
    presets = {
        name: {"head": asdict(head), "encoding": {"levels": 8}, "steps": 5, "voxels": 9, "seed": 0, "first_loss": 0.4, "last_loss": 0.03}
        for name, head in heads.items()
    }
    parameters = {name: random_parameters(head) for name, head in heads.items()}
    mci.write(path, {"credit": "a phantom", "presets": presets}, parameters)
    return parameters


def body(seed, size=(24, 26, 22)):
    """A CT of ellipsoids of fat, muscle, bone and air in another arrangement for each seed; 10 mm voxels."""
    rng = np.random.default_rng(seed)
    grid = Grid.centred(size, (10.0, 10.0, 10.0))
    z, y, x = (2 * (axis + 0.5) / n - 1 for axis, n in zip(np.indices(grid.shape), grid.shape))
    array = np.full(grid.shape, -1000.0)
    array[(x / 0.8) ** 2 + (y / 0.7) ** 2 + (z / 0.9) ** 2 < 1] = -80
    for hu in (40, 60, 900, -850, 30, 700):
        middle, radii = rng.uniform(-0.4, 0.4, 3), rng.uniform(0.1, 0.35, 3)
        array[sum(((axis - m) / r) ** 2 for axis, m, r in zip((x, y, z), middle, radii)) < 1] = hu
    return Volume(array.astype(np.float32), grid)


# --- files -----------------------------------------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were_written_for_each_network_they_fit(tmp_path):
    parameters = written(tmp_path / "mine.safetensors", scratch=OURS, paper=PAPERS)
    for name, head in (("scratch", OURS), ("paper", PAPERS)):
        found = mci.load(str(tmp_path / "mine.safetensors"), head)
        np.testing.assert_array_equal(found.parameters, parameters[name])
        assert found.parameters.dtype == np.float32
        assert found.card["preset"] == name and found.card["credit"] == "a phantom"
        assert "mine" in found.source and found.sha256 in found.source


def test_a_field_that_starts_from_weights_has_them_as_its_head_and_a_fresh_encoding(tmp_path):
    parameters = written(tmp_path / "w.safetensors", scratch=OURS)["scratch"]
    field = AttenuationField(HashGrid(8, 4, 16, 12), OURS, 0.02, np.random.default_rng(3))
    field.set_head(mci.load(str(tmp_path / "w.safetensors"), OURS).parameters)
    np.testing.assert_array_equal(field.head_parameters(), parameters)
    np.testing.assert_array_equal(field.table, HashGrid(8, 4, 16, 12).initial_table(np.random.default_rng(3)))


def test_the_checksum_does_not_depend_on_the_file_and_holds_card_and_parameters(tmp_path):
    for name in ("a", "b"):
        written(tmp_path / f"{name}.safetensors", scratch=OURS)
    a, b = (mci.read(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    assert a.sha256 == b.sha256
    other = {"scratch": random_parameters(OURS, 1)}
    mci.write(tmp_path / "b.safetensors", {key: a.card[key] for key in ("credit", "presets")}, other)
    assert mci.read(tmp_path / "b.safetensors").sha256 != a.sha256
    mci.write(tmp_path / "b.safetensors", {"credit": "another", "presets": a.card["presets"]}, a.arrays)
    assert mci.read(tmp_path / "b.safetensors").sha256 != a.sha256


def flipped(path, where):
    content = bytearray(path.read_bytes())
    at = content.find(where) if isinstance(where, bytes) else where
    content[at] ^= 1
    path.write_bytes(bytes(content))


def foreign(path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, path)


SPOILERS = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read as safetensors"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as safetensors"),
    "not weights at all": (lambda path: path.write_text("Dear reader, " * 40), "cannot be read as safetensors"),
    "a parameter changed": (lambda path: flipped(path, -50), "checksum is wrong"),
    "the card changed": (lambda path: flipped(path, b"phantom"), "checksum is wrong"),
    "other tensors": (foreign, "no weights for MCI"),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_a_spoilt_file_is_refused_in_one_sentence_that_names_it(tmp_path, kind):
    path = tmp_path / "w.safetensors"
    written(path, scratch=OURS)
    spoil, sentence = SPOILERS[kind]
    spoil(path)
    with pytest.raises(InputError, match=rf"w\.safetensors.*{sentence}"):
        mci.load(str(path), OURS)


@pytest.mark.parametrize(
    "head, said",
    [
        (Head(20, 32), "20 channels x 32 neurons"),
        (Head(16, 64), "16 channels x 64 neurons"),
        (Head(16, 32, skip=True), "skip"),
        (Head(16, 32, activation="gelu"), "gelu"),
        (Head(16, 32, output="sigmoid"), "sigmoid"),
        (Head(16, 32, layer_norm=False), "no layer norm"),
    ],
)
def test_weights_of_another_network_are_refused_with_what_was_found_and_what_is_needed(tmp_path, head, said):
    written(tmp_path / "w.safetensors", scratch=OURS, paper=PAPERS)
    with pytest.raises(InputError, match="weights for .* and .*, but this network is") as refused:
        mci.load(str(tmp_path / "w.safetensors"), head)
    found, _, needed = str(refused.value).partition("this network is")
    assert "16 channels x 32 neurons" in found and "20 channels x 32 neurons" in found and said in needed


@pytest.mark.parametrize(
    "choice, sentence",
    [
        ("chst", "did you mean 'chest'"),
        ("nowhere.safetensors", "no such file"),
        ("weights/mine", "no such file"),
        ("auto", "without a scan"),
    ],
)
def test_a_choice_that_names_nothing_is_refused(choice, sentence):
    with pytest.raises(InputError, match=sentence):
        mci.load(choice, OURS)


def test_a_folder_is_no_file_of_weights(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        mci.load(str(tmp_path), OURS)


def test_none_is_no_pretrained_head():
    assert mci.load("none", OURS) is None


# --- the weights that come with the library --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ANATOMIES)
def test_the_shipped_weights_fit_the_networks_of_both_presets(name, preset):
    head = network_for(preset, body(0).grid).head
    found = mci.load(name, head)
    assert found.name == name and found.parameters.shape == (head.size,) and np.isfinite(found.parameters).all()
    assert found.card["last_loss"] < 0.2 * found.card["first_loss"]


@pytest.mark.parametrize("name", ANATOMIES)
def test_the_shipped_weights_are_those_of_their_card_in_words(name):
    path = mci.find(name)
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert card == mci.markdown(mci.read(path))
    assert mci.read(path).sha256 in card
    assert path.stat().st_size < 40_000


@pytest.mark.parametrize("shown, taken", [("limb", "limb"), ("head", "abdomen")])
def test_auto_takes_the_weights_that_have_served_best_for_what_the_scan_shows(shown, taken):
    assert mci.load("auto", OURS, scan_of(shown)).name == taken


# --- the training ----------------------------------------------------------------------------------------------------------------------


def pretrained(ct, network=SMALL, steps=120, seed=0):
    trained = Pretraining(ct, network, steps, 400, seed)
    *_, _ = trained.losses()
    return trained


@pytest.mark.parametrize("network", [SMALL, replace(SMALL, head=Head(8, 16, skip=True, activation="gelu"))])
def test_pretraining_learns_the_ct(network):
    trained = pretrained(body(0), network)
    assert trained.last_loss < 0.3 * trained.first_loss
    truth = hu_to_mu(body(0).array)
    assert np.abs(trained.field.volume(trained.cube) - truth).mean() < 0.3 * np.abs(truth - truth.mean()).mean()


def test_the_same_seed_gives_the_same_head_and_another_seed_another():
    heads = [pretrained(body(0), steps=10, seed=seed).field.head_parameters() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert not np.allclose(heads[0], heads[2])


def test_every_slab_across_x_comes_once_before_any_comes_again(monkeypatch):
    ct, seen = body(0), []
    trained = Pretraining(ct, SMALL, steps=2 * ct.grid.size[0], voxels=10)
    monkeypatch.setattr(trained, "step", lambda slab: seen.append(slab) or setattr(trained, "done", trained.done + 1) or 0.0)
    list(trained.losses())
    size = ct.grid.size[0]
    assert sorted(seen[:size]) == sorted(seen[size:]) == list(range(size))


def test_voxels_of_a_slab_lie_at_their_centres_with_their_values():
    grid = Grid((5, 4, 3), (2.0, 3.0, 4.5), (1, 2, 3), rotation((1, 2, 3), 0.4))
    ct = Volume(np.random.default_rng(0).uniform(-900, 900, grid.shape).astype(np.float32), grid)
    trained = Pretraining(ct, SMALL, 1, 12)
    everywhere = UnitCube(grid).voxel_centres(0, 3).reshape(3, 3, 4, 5)
    mu = hu_to_mu(ct.array)
    for slab in range(5):
        points = trained.centres(slab, np.arange(12)).reshape(3, 3, 4)
        torch.testing.assert_close(points, everywhere[..., slab])
        np.testing.assert_allclose(trained.slabs[slab].reshape(3, 4), mu[..., slab])


@pytest.mark.parametrize(
    "ct, steps, sentence",
    [
        (replace(body(0), unit="1/mm"), 5, "give it in HU"),
        (body(0), 0, "0 steps"),
        (replace(body(0), array=np.full(body(0).grid.shape, 40.0)), 5, "40 HU everywhere"),
        (replace(body(0), array=np.full(body(0).grid.shape, np.nan)), 5, "not finite"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(ct, steps, sentence):
    with pytest.raises(InputError, match=sentence):
        Pretraining(ct, SMALL, steps)


def error_after(steps, ct, start, seed):
    """RMS error in shares of water of a fresh field that has learnt `ct` for a few steps, with the head `start` or a new one."""
    trained = Pretraining(ct, SMALL, 1000, 400, seed)
    if start is not None:
        trained.field.set_head(start)
    for step in range(steps):
        trained.step(step % len(trained.slabs))
    return float(np.sqrt(np.mean((trained.field.volume(trained.cube) - hu_to_mu(ct.array)) ** 2))) / MU_WATER


def test_a_pretrained_head_lets_fresh_fields_learn_another_ct_faster_and_more_alike():
    start = pretrained(body(0), steps=400).field.head_parameters()
    new, pre = (np.array([error_after(30, body(1), head, seed) for seed in range(5)]) for head in (None, start))
    print(new.round(3), pre.round(3))
    assert pre.mean() < 0.8 * new.mean()
    assert np.ptp(pre) < 0.5 * np.ptp(new)


# --- what a scan shows -----------------------------------------------------------------------------------------------------------------


def scan_of(kind, preset="linac"):
    shape, pixel = ((40, 64), (6.4, 6.4)) if preset == "linac" else ((48, 64), (6.2, 6.2))
    return simulate(round_body(kind), 12, preset=preset, detector_shape=shape, pixel_mm=pixel)


@pytest.mark.parametrize("preset", ["linac", "linac-half-fan"])
@pytest.mark.parametrize("kind", ANATOMIES)
def test_a_scan_is_taken_for_what_it_shows(kind, preset):
    assert propose(scan_of(kind, preset)) == kind


@pytest.mark.parametrize("views", [6, 8, 10, 16])
@pytest.mark.parametrize("kind", ANATOMIES)
def test_the_streaks_of_few_views_are_not_taken_for_bone_or_lung(kind, views):
    scan = simulate(round_body(kind), views, arc_rad=np.pi, detector_shape=(40, 64), pixel_mm=(6.4, 6.4))
    assert propose(scan) == kind


def test_a_scan_of_nothing_gets_an_answer_too():
    geometry = Geometry.preset("linac", 3, detector_shape=(8, 8), pixel_mm=(50, 50))
    assert propose(Scan(np.zeros((3, 8, 8)), geometry)) in ANATOMIES


# --- the command -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ct_file(tmp_path):
    path = tmp_path / "in" / "ein CT.nrrd"
    path.parent.mkdir()
    write_volume(body(0, (12, 11, 10)), path)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_the_command_leaves_weights_and_their_card_for_both_presets(tmp_path, ct_file, capsys):
    out = tmp_path / "new" / "mine.safetensors"
    assert run("train", "mci", ct_file, out, "--steps", 30, "--voxels", 50, "--credit", "a phantom of ellipsoids") == 0
    said = capsys.readouterr()
    assert "train mci: network of paper" in said.err and "mean error" in said.out
    assert sorted(path.name for path in out.parent.iterdir()) == ["mine.md", "mine.safetensors"]
    for preset in PRESETS:
        found = mci.load(str(out), network_for(preset, body(0).grid).head)
        assert found.card["credit"] == "a phantom of ellipsoids" and found.card["steps"] == 30
    assert "a phantom of ellipsoids" in out.with_suffix(".md").read_text()


def test_one_preset_is_enough(tmp_path, ct_file):
    assert run("train", "mci", ct_file, tmp_path / "w.safetensors", "--presets", "from-scratch", "--steps", 2, "--voxels", 20) == 0
    assert set(mci.read(tmp_path / "w.safetensors").arrays) == {"from-scratch"}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["mcu", "{ct}", "{tmp}/w.safetensors"], "did you mean 'mci'"),
        (["mci", "{ct}"], "missing: OUT.safetensors"),
        (["mci", "{ct}", "{tmp}/w.safetensors", "--step", "3"], "did you mean '--steps'"),
        (["mci", "{ct}", "{tmp}/w.pt"], "give this ending"),
        (["mci", "{ct}", "{tmp}/w.safetensors", "--presets", "papr"], "did you mean 'paper'"),
        (["mci", "{ct}", "{tmp}/w.safetensors", "--steps", "0"], "0 steps"),
        (["mci", "{ct}", "{tmp}/w.safetensors", "--seed", "-1"], "give 0 or more"),
        (["mci", "{tmp}/nowhere.nrrd", "{tmp}/w.safetensors"], "nowhere.nrrd does not exist"),
        (["mci", "{ct}", "{ct}/w.safetensors"], "cannot be written"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_exit_2_and_leaves_nothing(tmp_path, ct_file, capsys, arguments, sentence):
    assert run("train", *(text.format(tmp=tmp_path, ct=ct_file) for text in arguments)) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_training_that_is_stopped_leaves_nothing(tmp_path, ct_file, monkeypatch, capsys):
    def interrupt(self, slab):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Pretraining, "step", interrupt)
    assert run("train", "mci", ct_file, tmp_path / "w.safetensors") == 1
    assert "stopped" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_train_alone_says_what_there_is_to_train(capsys):
    for arguments in (["train"], ["train", "--help"]):
        assert run(*arguments) == 0
        assert "train mci" in capsys.readouterr().out
    assert run("train", "mci", "--help") == 0
    assert "--credit TEXT" in capsys.readouterr().out


def test_the_weights_are_found_in_the_installation():
    assert resources.find("Weights/mci_head.safetensors").is_file()
