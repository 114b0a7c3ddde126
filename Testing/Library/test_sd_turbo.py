"""The SliceFixer on SD-Turbo, end to end on a tiny one with random weights; the shapes of the real one."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_sd_turbo
import torch
from safetensors.torch import load_file, save_file

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import sd_turbo, sd_turbo_network, sd_turbo_parts
from SparseCTReconLib.networks.sd_turbo_network import LIMIT, prompt

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")


def noise(shape, least=0.0, most=2.5):
    return np.random.default_rng(0).uniform(least, most, shape).astype(np.float32)


STACK, XRAYS = noise((3, 13, 18)), noise((2, 9, 20), most=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_sd_turbo.make(tmp_path_factory.mktemp("sd-turbo"))


@pytest.fixture
def copied(folder, tmp_path):
    """The folder again, for a test to spoil."""
    return shutil.copytree(folder, tmp_path / "spoilt")


@pytest.fixture
def fresh(folder):
    """A fixer as training begins with it."""
    torch.manual_seed(2)
    return sd_turbo.begin(folder, licence_accepted=True)


@pytest.fixture
def fixer(fresh):
    """A fixer whose adapters all do something."""
    with torch.no_grad():
        for parameter in fresh.network.trainable_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return fresh


def tensors(n=2, size=16):
    """Slices, X-rays and prompts for the network."""
    return (
        torch.from_numpy(noise((n, 1, size, size), most=2)),
        torch.from_numpy(XRAYS).expand(n, -1, -1, -1),
        [prompt("limb"), prompt("chest")][:n],
    )


@pytest.mark.parametrize("shape", [(3, 13, 18), (2, 16, 16), (1, 3, 40)])
def test_a_stack_of_any_size_is_repaired_without_becoming_negative(fixer, shape):
    stack = noise(shape, least=-0.2)
    repaired = fixer.repair(stack, XRAYS, "limb")
    assert repaired.shape == shape and repaired.dtype == np.float32 and np.isfinite(repaired).all()
    assert (repaired >= 0).all() and not np.allclose(repaired, stack, atol=0.01)
    np.testing.assert_array_equal(fixer.repair(stack, XRAYS, "limb"), repaired)
    assert fixer.make == "sd-turbo" and fixer.edge == tiny_sd_turbo.EDGE


def test_few_slices_are_repaired_at_a_time_and_none_depends_on_its_neighbours(fixer, monkeypatch):
    at_once = fixer.repair(STACK, XRAYS, "limb")
    sizes, repaired = [], fixer.network.repaired
    monkeypatch.setattr(fixer.network, "repaired", lambda slices, told: sizes.append(len(slices)) or repaired(slices, told))
    monkeypatch.setattr(sd_turbo, "BATCH_PIXELS", 2 * STACK[0].size)
    np.testing.assert_allclose(fixer.repair(STACK, XRAYS, "limb"), at_once, atol=1e-4)
    assert sizes == [2, 1]
    monkeypatch.setattr(sd_turbo, "BATCH_PIXELS", 1)
    fixer.repair(STACK, XRAYS, "limb")
    assert sizes == [2, 1, 1, 1, 1]


def test_before_training_skips_adapters_and_xrays_add_nothing_to_sd_turbo(fresh, folder):
    network, plain = fresh.network, diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    slices, xrays, prompts = tensors()
    with torch.no_grad():
        latent, levels = network.autoencoder.encode(pictures)
        wanted = plain.encode(pictures).latent_dist.mode()
        torch.testing.assert_close(latent, wanted * plain.config.scaling_factor)
        torch.testing.assert_close(network.autoencoder.decode(latent, levels), plain.decode(wanted).sample)
        torch.testing.assert_close(network.condition(xrays, prompts), network._text(prompts))
        network.autoencoder.skips[0].weight.fill_(0.1)
        assert not torch.allclose(network.autoencoder.decode(latent, levels), plain.decode(wanted).sample, atol=1e-3)


def test_adapters_have_the_ranks_of_the_paper_in_both_models(fresh):
    ranks = {"autoencoder": set(), "unet": set()}
    for name, parameter in fresh.network.adapters().items():
        if "lora_A" in name:
            ranks[name.split(".")[0]].add(parameter.shape[0])
    assert ranks == {"autoencoder": {4}, "unet": {8}} and fresh.network.attention.attention.num_heads == 8
    wrapped = [name for name, module in fresh.network.unet.named_modules() if hasattr(module, "lora_A")]
    for layer in ("attn1.to_q", "attn2.to_v", "attn2.to_out.0", "ff.net.2", "proj_in", "resnets.0.conv1", "downsamplers.0.conv", "conv_in"):
        assert any(name.endswith(layer) for name in wrapped), layer


def test_the_gradient_reaches_every_adapter_and_nothing_else(fixer):
    network = fixer.network
    adapters = network.adapters()
    assert set(network.trainable_parameters()) == set(adapters.values())
    (network(*tensors()) ** 2).mean().backward()
    for name, parameter in network.named_parameters():
        if name in adapters:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name
    kinds = {"lora_A", "lora_B", "skips", "attention.image", "attention.view", "attention.norm", "attention.attention"}
    assert all(any(kind in name for name in adapters) for kind in kinds)


def test_a_few_steps_bring_slices_nearer_to_the_truth(fresh):
    slices, xrays, prompts = tensors()
    truth = torch.full_like(slices, 0.7)
    optimiser, losses = torch.optim.Adam(fresh.network.trainable_parameters(), lr=3e-3), []
    for _ in range(8):
        loss = (fresh.network(slices, xrays, prompts) - truth).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_step_at_999_undoes_the_noise_that_the_unet_sees(fresh, monkeypatch, prediction):
    network, asked = fresh.network, []
    clean, chance = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    share = float(diffusers.DDPMScheduler(**tiny_sd_turbo.SCHEDULE).alphas_cumprod[999])
    said = chance if prediction == "epsilon" else share**0.5 * chance - (1 - share) ** 0.5 * clean
    network.prediction = prediction

    def unet(latent, step, encoder_hidden_states):
        asked.append((step, encoder_hidden_states))
        return SimpleNamespace(sample=said)

    monkeypatch.setattr(network, "unet", torch.nn.Module())
    monkeypatch.setattr(network.unet, "forward", unet, raising=False)
    told = torch.randn(1, 3, 16)
    torch.testing.assert_close(network.step(share**0.5 * clean + (1 - share) ** 0.5 * chance, told), clean, atol=1e-4, rtol=1e-4)
    assert asked[0][0] == 999 and asked[0][1] is told


def test_attenuation_is_mapped_by_one_fixed_scale_to_grey_and_back(fresh, monkeypatch):
    seen = []
    monkeypatch.setattr(fresh.network, "translate", lambda pictures, told: seen.append(pictures) or pictures)
    stack = np.array([[[0, 0.5], [1, 2]], [[0.9, 1.1], [1, 1]], [[3, 12], [2, 1]]], np.float32)
    np.testing.assert_allclose(fresh.repair(stack, XRAYS, "limb"), stack, atol=1e-6)
    np.testing.assert_allclose(seen[0][:, 0].numpy(), np.minimum(stack, LIMIT) - 1, atol=1e-6)
    assert seen[0].shape == (3, 3, 2, 2) and torch.equal(seen[0][:, 0], seen[0][:, 2])


def test_metal_keeps_what_it_has_beyond_the_scale_and_changes_nothing_around_it(fixer):
    dense, metal = STACK.copy(), STACK.copy()
    dense[:, 4:7, 5:9], metal[:, 4:7, 5:9] = LIMIT, LIMIT + 7
    difference = fixer.repair(metal, XRAYS, "limb") - fixer.repair(dense, XRAYS, "limb")
    np.testing.assert_allclose(difference, metal - dense, atol=1e-5)


def test_what_the_unet_is_told_depends_on_the_organ_and_on_both_xrays(fixer):
    def told(xrays=XRAYS, organ="limb"):
        with torch.no_grad():
            return fixer.network.condition(torch.from_numpy(xrays.copy())[None], [prompt(organ)])

    torch.nn.init.normal_(fixer.network.attention.attention.out_proj.weight)
    torch.nn.init.normal_(fixer.network.attention.image.weight)
    one = told()
    assert one.shape == (1, 48, 16)
    first, second = XRAYS.copy(), XRAYS.copy()
    first[0, :4], second[1, :4] = 0, 0
    for other in (told(organ="chest"), told(first), told(second), told(XRAYS[::-1])):
        assert (other - one).abs().max() > 1e-3
    assert prompt("chest") == "Remove artifacts for this chest CT slice." and prompt("") == "Remove artifacts for this CT slice."


def test_xrays_reach_the_encoder_as_squares_normalised_as_it_was_trained(fresh):
    seen = []
    fresh.network.image_encoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True)
    fresh.network._views(torch.ones(1, 2, 10, 20))
    (images,) = seen
    assert images.shape == (2, 3, 28, 28)
    np.testing.assert_allclose(images[:, :, 14, 14].numpy(), (1 - 0.53) / 0.26, rtol=1e-5)
    np.testing.assert_allclose(images[:, :, 2, 14].numpy(), -0.53 / 0.26, rtol=1e-5)


def test_any_vision_transformer_serves_and_without_a_note_greys_are_centred(folder, tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16, patch_size=8
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    fixer = sd_turbo.begin(folder, licence_accepted=True, image_encoder=tmp_path / "vit")
    assert fixer.network.mean == (0.5,) * 3
    assert fixer.repair(STACK, XRAYS, "limb").shape == STACK.shape


def test_adapters_are_the_same_after_a_round_trip_but_for_half_precision(fixer, folder, tmp_path):
    sd_turbo.save(fixer, tmp_path / "mine.safetensors", {"anatomies": ["limb"], "credit": "nobody"})
    again = sd_turbo.load(folder, tmp_path / "mine.safetensors", licence_accepted=True)
    for mine, read in zip(fixer.network.trainable_parameters(), again.network.trainable_parameters(), strict=True):
        torch.testing.assert_close(read, mine, atol=1e-3, rtol=1e-3)
    assert again.anatomies == ("limb",) and again.source.startswith("mine (sha256 ") and fixer.source == sd_turbo.UNTRAINED


def refused(match, code, *arguments, **options):
    """The sentence that refuses these, which offers the compact fixer."""
    with pytest.raises(InputError, match=match) as caught:
        sd_turbo.load(*arguments, **({"licence_accepted": True} | options))
    assert caught.value.code == code and "compact fixer" in str(caught.value) and "\n" not in str(caught.value)


def test_the_licence_must_be_accepted_before_anything_is_read(folder):
    refused("stability.ai/license", "licence", folder, "absent.safetensors", licence_accepted=False)


@pytest.mark.parametrize("library", ["diffusers", "peft", "transformers"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(folder, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    refused(r'pip install "sparsectrecon\[sd-turbo\]"', "missing-library", folder, "absent.safetensors")


def test_adapters_that_are_none_or_damaged_or_of_other_weights_are_refused(fixer, folder, copied, tmp_path):
    file = tmp_path / "adapters.safetensors"
    refused("does not exist", "no-such-file", folder, file)
    file.write_text("no weights")
    refused("cannot be read as safetensors", "bad-weights", folder, file)
    sd_turbo.save(fixer, file, {})
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 255
    (tmp_path / "flipped.safetensors").write_bytes(whole)
    refused("checksum", "bad-checksum", folder, tmp_path / "flipped.safetensors")
    (copied / "vae").rename(copied / "old")
    torch.manual_seed(99)
    tiny_sd_turbo.autoencoder().save_pretrained(copied / "vae")
    refused("trained on other weights", "bad-weights", copied, file)


@pytest.mark.parametrize("source", ["", "/nowhere/sd-turbo", "./nowhere", "sd-turbo"])
def test_a_folder_that_is_missing_is_refused_with_where_weights_come_from(source):
    refused("hf download stabilityai/sd-turbo", "missing-weights", source, "a.safetensors")


def test_a_name_on_the_hub_that_cannot_be_reached_is_refused(monkeypatch):
    def unreachable(name, subfolder):
        raise OSError(f"no connection to {name}\nmore lines")

    monkeypatch.setattr(diffusers.UNet2DConditionModel, "load_config", unreachable)
    refused("stabilityai/sd-turbo/unet cannot be had .no connection", "missing-weights", "stabilityai/sd-turbo", "a.safetensors")


@pytest.mark.parametrize("part", ["unet", "tokenizer", "image_encoder"])
def test_a_folder_without_one_of_the_parts_is_refused(copied, part):
    shutil.rmtree(copied / part)
    refused(part, "missing-weights", copied, "a.safetensors")


@pytest.mark.parametrize(
    "part, file", [("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("image_encoder", "model"), ("vae", "config")]
)
def test_damaged_weights_of_a_part_are_refused(copied, part, file):
    (path,) = (copied / part).glob(f"{file}.*")
    path.write_bytes(path.read_bytes()[:100])
    refused(part, "missing-weights" if file == "config" else "bad-weights", copied, "a.safetensors")


def test_pickled_weights_are_refused(copied):
    model = diffusers.UNet2DConditionModel.from_pretrained(copied / "unet")
    shutil.rmtree(copied / "unet")
    model.save_pretrained(copied / "unet", safe_serialization=False)
    refused("safetensors", "bad-weights", copied, "a.safetensors")


def test_weights_that_lack_some_of_a_part_are_refused_instead_of_drawn_by_chance(copied):
    path = copied / "text_encoder" / "model.safetensors"
    arrays = load_file(path)
    arrays.pop(next(name for name in arrays if "final_layer_norm.weight" in name))
    save_file(arrays, path, metadata={"format": "pt"})
    refused("text_encoder is of another architecture.*final_layer_norm.weight", "bad-weights", copied, "a.safetensors")


def change(path, **values):
    """Write other values into a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_another_architecture_is_refused(copied):
    change(copied / "scheduler" / "scheduler_config.json", prediction_type="sample")
    refused("it predicts sample", "bad-weights", copied, "a.safetensors")
    tiny_sd_turbo.make(copied, cross_attention_dim=24)
    refused("conditioned on 24 channels, the text has 16", "bad-weights", copied, "a.safetensors")
    tiny_sd_turbo.make(copied, in_channels=9)
    refused("maps 9 to 4 channels", "bad-weights", copied, "a.safetensors")
    tiny_sd_turbo.make(copied, class_embed_type="timestep")
    refused("more than text", "bad-weights", copied, "a.safetensors")
    change(copied / "vae" / "config.json", _class_name="AutoencoderTiny")
    refused("it is AutoencoderTiny", "bad-weights", copied, "a.safetensors")


def test_an_image_encoder_that_is_none_or_has_no_class_token_is_refused(folder, tmp_path):
    refused("nowhere is missing.*hf download microsoft/rad-dino", "missing-weights", folder, "a", image_encoder="/nowhere")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    refused(
        "ResNetModel, no vision transformer.*microsoft/rad-dino", "bad-weights", folder, "a.safetensors", image_encoder=tmp_path / "resnet"
    )


def real_parts():
    """SD-Turbo's and RAD-DINO's configurations without their weights, and with one layer where all are alike."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 1, "num_attention_heads": 16}
    tokens = SimpleNamespace(input_ids=torch.zeros(1, 77, dtype=torch.long))
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            sample_size=64, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True
        )
        return sd_turbo_parts.Parts(
            vae=diffusers.AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks),
            unet=unet,
            text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**text)),
            tokenizer=lambda prompts, **options: tokens,
            image_encoder=transformers.Dinov2Model(transformers.Dinov2Config(image_size=518, patch_size=14, num_hidden_layers=1)),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            last_step=999,
            alpha_bar=0.0047,
            prediction="epsilon",
        )


def test_the_real_sizes_fit_together_and_train_fifteen_million_parameters():
    with torch.device("meta"), torch.no_grad():
        network = sd_turbo_network.SDTurboNetwork(real_parts())
        repaired = network(torch.zeros(1, 1, 512, 512), torch.zeros(1, 2, 128, 256), [prompt("chest")])
    assert repaired.shape == (1, 1, 512, 512) and network.edge == 512
    assert [tuple(skip.weight.shape[:2]) for skip in network.autoencoder.skips] == [(512, 512), (512, 256), (512, 128), (256, 128)]
    assert 14e6 < sum(parameter.numel() for parameter in network.trainable_parameters()) < 15e6
