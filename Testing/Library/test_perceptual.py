"""Losses from CLIP, on a tiny one with random weights."""

import pytest
import tiny_sd_turbo
import torch
from safetensors.torch import load_file, save_file

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import perceptual

pytest.importorskip("transformers")
pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return perceptual.load(tiny_sd_turbo.clip(tmp_path_factory.mktemp("clip")))


def slices(n=2, size=24, seed=0):
    return 2 * torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def test_slices_and_prompts_are_embedded_with_length_one_and_features_come_from_four_depths(clip):
    features, embedded = clip(slices())
    words = clip.words(["limb", "chest of somebody"])
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(words.norm(dim=1), torch.ones(2))
    assert embedded.shape == words.shape == (2, 8) and clip.depths == [1, 2, 4, 5]
    assert [tuple(tokens.shape) for tokens in features] == [(2, 5, 16)] * 4


def test_a_prompt_is_embedded_the_same_whatever_stands_beside_it(clip):
    torch.testing.assert_close(clip.words(["limb", "a much longer one"])[0], clip.words(["limb"])[0])


def test_alignment_is_none_with_itself_and_two_with_the_opposite(clip):
    words = clip.words(["limb"])
    assert perceptual.alignment(words, words).item() == pytest.approx(0, abs=1e-6)
    assert perceptual.alignment(-words, words).item() == pytest.approx(2)


def test_distance_is_none_for_the_same_and_grows_with_the_difference(clip):
    one = slices()
    features = [clip((1 - share) * one + share * slices(seed=1))[0] for share in (0, 0.2, 1)]
    same, near, far = (perceptual.distance(other, features[0]).item() for other in features)
    assert same == pytest.approx(0, abs=1e-10) and 0 < near < far < 4


def test_a_discriminator_learns_to_tell_two_kinds_of_slices_apart(clip):
    torch.manual_seed(0)
    dark, bright = (clip(values)[0] for values in (0.3 * slices(4), 1 + 0.3 * slices(4)))
    discriminator = perceptual.Discriminator(len(clip.depths), clip.width)
    optimiser, losses = torch.optim.Adam(discriminator.parameters(), lr=1e-2), []
    for _ in range(20):
        loss = perceptual.hinge(discriminator(dark), discriminator(bright))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.5 and losses[-1] < 0.5
    assert discriminator(bright).mean() > 0 > discriminator(dark).mean()


def test_the_whole_loss_moves_the_slices_and_the_discriminator_and_leaves_clip_as_it_was(clip):
    torch.manual_seed(0)
    loss = perceptual.PerceptualLoss(clip)
    before = [parameter.clone() for parameter in loss.discriminator.parameters()]
    frozen = {name: parameter.clone() for name, parameter in clip.named_parameters()}
    repaired = slices()[:, 0].requires_grad_()
    value = loss(repaired, slices(seed=1)[:, 0], ["limb", ""])
    value.backward()
    assert value.shape == () and repaired.grad.abs().max() > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, loss.discriminator.parameters()))
    assert all(torch.equal(frozen[name], parameter) and parameter.grad is None for name, parameter in clip.named_parameters())


def test_each_term_counts_as_much_as_in_the_paper(clip, monkeypatch):
    monkeypatch.setattr(perceptual, "distance", lambda *_: torch.tensor(1.0))
    monkeypatch.setattr(perceptual, "alignment", lambda *_: torch.tensor(10.0))
    loss = perceptual.PerceptualLoss(clip)
    loss.discriminator.forward = lambda features: torch.full((2, 3), 100.0, requires_grad=True)
    assert loss(slices()[:, 0], slices()[:, 0], ["limb", "limb"]).item() == pytest.approx(1 + 4 * 10 - 0.4 * 100)


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_clip_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be read as CLIP.*hf download"):
        perceptual.load(tmp_path / name)


def test_weights_that_lack_some_are_refused_instead_of_drawn_by_chance(tmp_path):
    path = tiny_sd_turbo.clip(tmp_path) / "model.safetensors"
    arrays = load_file(path)
    arrays.pop("visual_projection.weight")
    save_file(arrays, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="cannot be read as CLIP .it has no visual_projection.weight"):
        perceptual.load(tmp_path)
