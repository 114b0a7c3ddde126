"""Files of X-GRM's weights, and what is refused in their place."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_xgrm import GRID, network, raw, scan

from SparseCTReconLib import weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import compact_fixer, xgrm_weights
from SparseCTReconLib.networks.xgrm import VOXELS, card_of


@pytest.mark.parametrize("head", ["gaussians", VOXELS])
def test_weights_are_the_same_after_a_round_trip_but_for_half_precision(tmp_path, head):
    made = network(head)
    xgrm_weights.save(made, tmp_path / "w.safetensors", {"anatomy": "limb"})
    found, file = xgrm_weights.load(str(tmp_path / "w.safetensors"))
    assert file.name == "w" and file.card["anatomy"] == "limb" and found.size == made.size and not found.training
    torch.testing.assert_close(raw(found, scan(), GRID), raw(made, scan(), GRID), atol=0.05, rtol=0.02)
    for name, weight in made.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weight.half().float())


def refused(path, match, code="bad-weights"):
    with pytest.raises(InputError, match=match) as caught:
        xgrm_weights.load(path)
    assert caught.value.code == code and "\n" not in str(caught.value) and str(path) in str(caught.value)


def written(path, card=None, form=xgrm_weights.FORMAT, **changes):
    """A file with weights that are changed by name; None takes them away."""
    made = network()
    arrays = {name: weight.half().numpy() for name, weight in made.state_dict().items()} | changes
    card = {"size": card_of(made.size)} if card is None else card
    weight_files.write(path, form, card, {name: array for name, array in arrays.items() if array is not None})
    return path


def test_files_of_other_networks_are_refused(tmp_path):
    refused(written(tmp_path / "w.safetensors", form=compact_fixer.FORMAT), "holds no weights of X-GRM: give a file")
    refused(tmp_path / "absent.safetensors", "does not exist", "no-such-file")
    (tmp_path / "text.safetensors").write_text("no weights")
    refused(tmp_path / "text.safetensors", "cannot be read")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.safetensors")
    refused(tmp_path / "pickle.safetensors", "cannot be read")


def test_a_file_that_is_cut_short_or_changed_is_refused(tmp_path):
    path = written(tmp_path / "w.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "cannot be read")
    changed = bytearray(whole)
    changed[-3] ^= 1
    path.write_bytes(bytes(changed))
    refused(path, "checksum", "bad-checksum")
    metadata = {"format": xgrm_weights.FORMAT, "card": json.dumps({}), "sha256": "0" * 64}
    save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    refused(path, "checksum", "bad-checksum")


WRONG = {
    "a shape": ({"last.bias": np.zeros(3, np.float16)}, r"last.bias is of shape \(3,\) where \(8,\) is wanted"),
    "missing": ({"last.bias": None}, "last.bias is missing"),
    "unknown": ({"zzz": np.zeros(1, np.float16)}, "zzz is unknown"),
    "not finite": ({"last.bias": np.full(8, np.nan, np.float16)}, "last.bias has values that are not finite"),
}


@pytest.mark.parametrize("how", WRONG)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, how):
    changes, match = WRONG[how]
    refused(written(tmp_path / "w.safetensors", **changes), match)


@pytest.mark.parametrize("card", [{}, {"size": None}, {"size": {"edge": 16}}, {"size": {**card_of(network().size), "width": 0}}])
def test_a_card_without_a_size_is_refused(tmp_path, card):
    refused(written(tmp_path / "w.safetensors", card=card), "size is none of X-GRM's")
