"""A tiny, randomly initialised SD-Turbo with an encoder of X-rays, laid out in a folder as the real one is."""

import json
import string

import torch

EDGE = 16
TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make(folder, **changes):
    """Write all parts into `folder`; `changes` are of the U-Net's configuration."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    unet = {
        "sample_size": EDGE // 2,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    diffusers.UNet2DConditionModel(**(unet | changes)).save_pretrained(folder / "unet")
    autoencoder().save_pretrained(folder / "vae")
    transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)).save_pretrained(folder / "text_encoder")
    tokenizer(folder / "tokenizer")
    diffusers.EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="trailing").save_pretrained(folder / "scheduler")
    vision_transformer(folder / "image_encoder")
    return folder


def autoencoder():
    """An AutoencoderKL that halves the edges once."""
    import diffusers

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, sample_size=EDGE, **blocks)


def tokenizer(folder):
    """CLIP's tokenizer with letters alone for words."""
    folder.mkdir(exist_ok=True)
    letters = ["<|startoftext|>", "<|endoftext|>", *string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase + ".")]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def vision_transformer(folder):
    """A DINOv2, which is what RAD-DINO is, with RAD-DINO's kind of preprocessing."""
    import transformers

    config = transformers.Dinov2Config(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.53] * 3, "image_std": [0.26] * 3}))


def clip(folder):
    """A CLIP model with its tokenizer."""
    import transformers

    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2}
    vision = sizes | {"image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer(folder)
    return folder
