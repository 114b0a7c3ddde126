"""One step of SD-Turbo that repairs slices (DiffNR's SliceFixer; the idea of skips is img2img-turbo's, Parmar 2024).

A corrupted slice's latent is taken for the noisiest state of a diffusion, t = 999, and the U-Net's one prediction of the clean latent is
decoded. What is trained: low-rank adapters in the autoencoder and the U-Net, 1 x 1 convolutions from the encoder's levels to the
decoder's, and the attention by which the prompt looks at two X-rays. The convolutions, the second factor of every adapter and the
attention's last layer start at zero, so that training begins at SD-Turbo itself.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .sd_turbo_parts import Parts, first_size, libraries

RANK_VAE, RANK_UNET = 4, 8
HEADS = 8
LIMIT = 2.0
"""Attenuation relative to water that white stands for; black is air. Fixed, so that attenuation stays absolute."""

CONVOLUTIONS = ("conv_in", "conv_out", "conv1", "conv2", "conv_shortcut", "conv")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TRANSFORMER = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")


def prompt(organ: str) -> str:
    """What the network is told about slices of an organ; of an unknown one where it is empty."""
    return f"Remove artifacts for this {organ} CT slice." if organ else "Remove artifacts for this CT slice."


def to_grey(mu: torch.Tensor) -> torch.Tensor:
    """Attenuation relative to water as the autoencoder's grey: 0 to -1, `LIMIT` to 1, what lies beyond clipped."""
    return mu.clamp(0, LIMIT) * (2 / LIMIT) - 1


def from_grey(grey: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_grey`, without a limit."""
    return (grey + 1) * (LIMIT / 2)


def to_square(images: torch.Tensor, edge: int) -> torch.Tensor:
    """Images (n, c, h, w), padded with zeros to a square about their middle, resampled to `edge` pixels."""
    *_, h, w = images.shape
    side = max(h, w)
    top, left = (side - h) // 2, (side - w) // 2
    padded = functional.pad(images, (left, side - w - left, top, side - h - top))
    return functional.interpolate(padded, (edge, edge), mode="bilinear", align_corners=False, antialias=True)


def add_lora(model: nn.Module, rank: int, targets: tuple[str, ...]) -> None:
    """Low-rank adapters (Hu 2021) on the layers of a model of diffusers whose names end as `targets`."""
    config = libraries().peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(targets))
    model.add_adapter(config)


def sparingly(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A block's result; for gradients its inside is computed again instead of kept.

    With the U-Net's own checkpoints that keeps 2 GB instead of 21 GB for each slice of 512 x 512 that SD-Turbo is trained on.
    """
    return checkpoint(block, x, use_reentrant=False) if torch.is_grad_enabled() else block(x)


class SkippedAutoencoder(nn.Module):
    """An AutoencoderKL whose decoder is added, through convolutions that start at zero, what its encoder saw on each level."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae = vae
        add_lora(vae, RANK_VAE, CONVOLUTIONS + ATTENTION)
        widths = list(vae.config.block_out_channels)
        seen = [widths[0], *widths[:-1]][::-1]
        wanted = [widths[-1], *widths[:0:-1]]
        self.skips = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in zip(seen, wanted))
        for skip in self.skips:
            nn.init.zeros_(skip.weight)

    @property
    def factor(self) -> int:
        """Pixels of a slice along each axis of the latent."""
        return 2 ** (len(self.skips) - 1)

    def encode(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The latent's mean in the U-Net's scale, and the levels, finest first, for the decoder; edges are multiples of `factor`."""
        encoder, levels = self.vae.encoder, []
        x = encoder.conv_in(pictures)
        for block in encoder.down_blocks:
            levels.append(x)
            x = sparingly(block, x)
        moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(sparingly(encoder.mid_block, x))))
        if self.vae.quant_conv is not None:
            moments = self.vae.quant_conv(moments)
        return moments.chunk(2, dim=1)[0] * self.vae.config.scaling_factor, levels

    def decode(self, latent: torch.Tensor, levels: list[torch.Tensor]) -> torch.Tensor:
        """Pictures (n, 3, h, w) of a latent and of the levels that `encode` gave."""
        decoder, z = self.vae.decoder, latent / self.vae.config.scaling_factor
        if self.vae.post_quant_conv is not None:
            z = self.vae.post_quant_conv(z)
        x = sparingly(decoder.mid_block, decoder.conv_in(z))
        for block, skip, level in zip(decoder.up_blocks, self.skips, reversed(levels)):
            x = sparingly(block, x + skip(level))
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))


class BiplanarAttention(nn.Module):
    """Text tokens look at the class tokens of two X-rays: layer norm, attention with `HEADS` heads, residual.

    The two are two tokens, told apart by a learned vector each: of a single one there would be nothing to choose.
    """

    def __init__(self, image_width: int, text_width: int):
        super().__init__()
        self.image = nn.Linear(image_width, text_width)
        self.view = nn.Parameter(0.02 * torch.randn(2, text_width))
        self.norm = nn.LayerNorm(text_width)
        self.attention = nn.MultiheadAttention(text_width, HEADS, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, text: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Conditioned tokens (n, t, text_width) of text tokens and of class tokens (n, 2, image_width)."""
        keys = self.image(images) + self.view
        return text + self.attention(self.norm(text), keys, keys, need_weights=False)[0]


class SDTurboNetwork(nn.Module):
    """The frozen parts with what is trained on top of them.

    Parameters
    ----------
    parts : Parts
        Taken over: adapters are put into them.
    """

    def __init__(self, parts: Parts):
        super().__init__()
        for model in (parts.vae, parts.unet, parts.text_encoder, parts.image_encoder):
            model.requires_grad_(False)
        self.text_encoder, self.image_encoder, self.tokenizer = parts.text_encoder, parts.image_encoder, parts.tokenizer
        self.autoencoder = SkippedAutoencoder(parts.vae)
        self.unet = parts.unet
        add_lora(self.unet, RANK_UNET, CONVOLUTIONS + ATTENTION + TRANSFORMER)
        self.unet.enable_gradient_checkpointing()
        self.attention = BiplanarAttention(parts.image_encoder.config.hidden_size, parts.text_encoder.config.hidden_size)
        self.mean, self.std = parts.mean, parts.std
        self.last_step, self.alpha_bar, self.prediction = parts.last_step, parts.alpha_bar, parts.prediction

    @property
    def device(self) -> torch.device:
        return self.attention.view.device

    @property
    def edge(self) -> int:
        """Pixels along the edge of the pictures that the U-Net was trained on; others do, not as well."""
        return first_size(self.unet.config.sample_size) * self.autoencoder.factor

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What training changes: low-rank adapters, skips and the attention to X-rays."""
        return list(self.adapters().values())

    def adapters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def forward(self, slices: torch.Tensor, xrays: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Repaired slices.

        Parameters
        ----------
        slices : Tensor
            (n, 1, h, w) of any size, attenuation relative to water.
        xrays : Tensor
            (n, 2, h', w'), two orthogonal views each, line integrals of about 0 to 1.
        prompts : list of str
            One a slice, see `prompt`.

        Returns
        -------
        Tensor
            As `slices`. What an input has beyond `LIMIT` is added to its output: metal keeps its attenuation.
        """
        return self.repaired(slices, self.condition(xrays, prompts))

    def condition(self, xrays: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """What the U-Net is conditioned on (n, t, c): the prompts' tokens after a look at the X-rays."""
        with torch.no_grad():
            text = self._text(prompts)
            images = self._views(xrays)
        return self.attention(text, images)

    def repaired(self, slices: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """As `forward`, under conditions (n, t, c)."""
        *_, h, w = slices.shape
        factor = self.autoencoder.factor
        padded = functional.pad(to_grey(slices), (0, -w % factor, 0, -h % factor), mode="replicate")
        pictures = self.translate(padded.expand(-1, 3, -1, -1), condition)
        return from_grey(pictures.mean(dim=1, keepdim=True)[..., :h, :w]) + (slices - LIMIT).clamp(min=0)

    def translate(self, pictures: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) of grey -1 to 1, encoded, one step, decoded."""
        latent, levels = self.autoencoder.encode(pictures)
        return self.autoencoder.decode(self.step(latent, condition), levels)

    def step(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The clean latent that one look at the last time step predicts (Ho 2020, eq. 15; Salimans 2022 for v)."""
        predicted = self.unet(latent, self.last_step, encoder_hidden_states=condition).sample
        signal, noise = self.alpha_bar**0.5, (1 - self.alpha_bar) ** 0.5
        if self.prediction == "epsilon":
            return (latent - noise * predicted) / signal
        return signal * latent - noise * predicted

    def _text(self, prompts: list[str]) -> torch.Tensor:
        """Text tokens (n, t, c), as many as the encoder has places for, as SD-Turbo was trained."""
        places = self.text_encoder.config.max_position_embeddings
        ids = self.tokenizer(prompts, padding="max_length", max_length=places, truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self.device))[0]

    def _views(self, xrays: torch.Tensor) -> torch.Tensor:
        """Class tokens (n, 2, c) of X-rays (n, 2, h, w)."""
        images = to_square(xrays.flatten(0, 1)[:, None], first_size(self.image_encoder.config.image_size))
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        tokens = self.image_encoder(pixel_values=(images - mean) / std).last_hidden_state[:, 0]
        return tokens.unflatten(0, xrays.shape[:2])
