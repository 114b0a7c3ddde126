"""DINO's weights in the encoder of X-rays: what it gives is what the transformers library gives of a grey picture."""

import builtins
import json

import pytest
import torch

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import dino
from SparseCTReconLib.networks.vision_transformer import ViewEncoder

transformers = pytest.importorskip("transformers")


def vit(**changes):
    """A tiny ViT with random weights."""
    sizes = {
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 48,
        "image_size": 16,
        "patch_size": 4,
    }
    torch.manual_seed(0)
    config = transformers.ViTConfig(**(sizes | changes), layer_norm_eps=1e-6, hidden_dropout_prob=0.0, initializer_range=0.3)
    return transformers.ViTModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as the hub would give it."""
    place = tmp_path_factory.mktemp("vit")
    vit().save_pretrained(place)
    return place


def encoder(edge=16, width=12, depth=2, heads=3):
    return ViewEncoder(edge, 4, width, depth, heads).requires_grad_(False)


@pytest.mark.parametrize("edge", [16, 24])
def test_a_grey_picture_gives_what_the_library_makes_of_it(folder, edge):
    ours = encoder(edge)
    dino.begin_with(ours, folder)
    image = torch.rand(2, 1, edge, edge, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values)[:, None, None] for values in (dino.MEAN, dino.STD))
    with torch.no_grad():
        theirs = vit()((image.expand(-1, 3, -1, -1) - mean) / std, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    torch.testing.assert_close(ours(image).flatten(1, 2), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "wrong, name", [({"width": 24}, "hidden_size 12"), ({"depth": 3}, "num_hidden_layers 2"), ({"heads": 2}, "heads 3")]
)
def test_a_vit_of_another_size_is_refused_and_says_what_is_needed(folder, wrong, name):
    with pytest.raises(InputError, match=f"{name}.*the encoder needs .*or begin with random weights"):
        dino.begin_with(encoder(**wrong), folder)


def test_what_is_no_vit_is_refused_in_one_sentence(folder, tmp_path):
    with pytest.raises(InputError, match="is no folder with a ViT: put facebook/dino-vitb16 there") as caught:
        dino.begin_with(encoder(), tmp_path / "absent")
    assert caught.value.code == "missing-weights"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read as a ViT") as caught:
        dino.begin_with(encoder(), tmp_path)
    assert "\n" not in str(caught.value)


def test_without_transformers_a_sentence_says_how_to_install_it(folder, monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments, **more):
        if name == "transformers":
            raise ImportError("No module named 'transformers'")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(InputError, match="pip install transformers") as caught:
        dino.begin_with(encoder(), folder)
    assert caught.value.code == "missing-library"
