"""The restoration network: what it is before training, its weights' file, and what the shipped weights are worth."""

import json

import numpy as np
import pytest
import torch

from SparseCTReconLib import weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import restoration
from SparseCTReconLib.networks.restoration import RestorationNetwork, load, restore, save, shuffle, unshuffle


def test_shuffling_undoes_unshuffling_and_keeps_neighbours_together():
    x = torch.arange(2 * 3 * 4 * 6 * 8, dtype=torch.float32).reshape(2, 3, 4, 6, 8)
    assert torch.equal(shuffle(unshuffle(x)), x)
    assert torch.equal(unshuffle(x)[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].reshape(-1))


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 17, 5), (1, 1, 1), (16, 8, 30)])
def test_before_training_it_changes_nothing_whatever_the_size(shape):
    mu = 0.03 * np.random.default_rng(0).random(shape).astype(np.float32)
    np.testing.assert_allclose(restore(RestorationNetwork((4, 8, 8)), mu, 0.02), mu, rtol=1e-6)


def trained():
    """A small network whose last layer is not zero."""
    torch.manual_seed(1)
    network = RestorationNetwork((4, 8, 8))
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network


def test_it_depends_on_attenuation_relative_to_water_alone_and_is_never_negative():
    mu = np.random.default_rng(1).random((8, 16, 8)).astype(np.float32)
    one, two = restore(trained(), mu, 1.0), restore(trained(), 0.02 * mu, 0.02)
    np.testing.assert_allclose(two, 0.02 * one, rtol=1e-4, atol=1e-6)
    assert (one >= 0).all() and not np.allclose(one, mu)


def test_weights_are_the_same_after_a_round_trip_but_for_half_precision(tmp_path):
    save(trained(), tmp_path / "w.safetensors", {"credit": "nobody"})
    network, file = load(tmp_path / "w.safetensors")
    mu = np.random.default_rng(2).random((8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(restore(network, mu, 1.0), restore(trained(), mu, 1.0), atol=5e-3)
    assert file.name == "w" and file.card["credit"] == "nobody" and network.widths == (4, 8, 8)
    assert len(file.sha256) == 64 and file.sha256 in file.source


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no weights of the restoration network"):
        load(tmp_path / "other.safetensors")
    metadata = {"format": restoration.FORMAT, "card": json.dumps({"widths": [4, 8, 8]}), "sha256": "0" * 64}
    save_file({"a": torch.zeros(2)}, tmp_path / "changed.safetensors", metadata=metadata)
    with pytest.raises(InputError, match="checksum"):
        load(tmp_path / "changed.safetensors")


FAULTS = {
    "of another size": ({"widths": [4, 8, 16]}, {}, "coarse.0.first.bias is of shape"),
    "some are missing": ({}, {"stem.weight": None}, "stem.weight is missing"),
    "not finite": ({}, {"stem.bias": np.full(4, np.inf, np.float16)}, "stem.bias has values that are not finite"),
    "no sizes": ({"widths": None}, {}, "the card does not say the network's sizes"),
    "sizes of nothing": ({"widths": "abc"}, {}, "the card does not say the network's sizes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_refused_with_the_file_and_what_is_wrong(tmp_path, fault):
    told, changed, match = FAULTS[fault]
    arrays = {name: tensor.half().numpy() for name, tensor in trained().state_dict().items()} | changed
    arrays = {name: array for name, array in arrays.items() if array is not None}
    weight_files.write(tmp_path / "w.safetensors", restoration.FORMAT, {"widths": [4, 8, 8], **told}, arrays)
    with pytest.raises(InputError, match=match) as caught:
        load(tmp_path / "w.safetensors")
    assert caught.value.code == "bad-weights" and "w.safetensors: " in str(caught.value) and "\n" not in str(caught.value)


def test_weights_in_a_format_that_numpy_has_not_are_those_of_something_else(tmp_path):
    """As image models come from the hub."""
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "hub.safetensors")
    with pytest.raises(InputError, match="no weights of the restoration network"):
        load(tmp_path / "hub.safetensors")
    metadata = {"format": restoration.FORMAT, "card": "[]", "sha256": "0" * 64}
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "hub.safetensors", metadata=metadata)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "hub.safetensors")


def test_the_shipped_weights_load_and_leave_air_and_water_about_alone():
    network, _ = load()
    for mu in (0.0, 0.02):
        restored = restore(network, np.full((32, 32, 32), mu, np.float32), 0.02)[8:-8, 8:-8, 8:-8]
        np.testing.assert_allclose(restored, mu, atol=0.02 * 0.05)
