"""Losses that CLIP gives (Radford 2021), for training a fixer of slices: alignment with a prompt, perceptual distance, a discriminator.

LPIPS, which DiffNR uses, is left out: its package needs torchvision and VGG's weights from there. `distance` stands in for it: like
LPIPS it compares normalised features on several depths of a frozen network, but CLIP's, and without weights fitted to human judgement.

CLIP's weights are not shipped: `load` reads them from a folder or from the hub. Slices are attenuation relative to water, (n, 1, h, w).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from .sd_turbo_network import prompt, to_grey
from .sd_turbo_parts import first_size, libraries

HUB = "openai/clip-vit-large-patch14"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on."""

DEPTHS = 4


class Clip(nn.Module):
    """A frozen CLIP that looks at slices.

    Parameters
    ----------
    model : transformers.CLIPModel
    tokenizer : transformers.CLIPTokenizer
    """

    def __init__(self, model: nn.Module, tokenizer):
        super().__init__()
        self.model, self.tokenizer = model.requires_grad_(False), tokenizer
        layers = model.config.vision_config.num_hidden_layers
        self.depths = sorted({max(1, round(layers * k / DEPTHS)) for k in range(1, DEPTHS + 1)})
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.model.config.vision_config.hidden_size

    def forward(self, slices: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Features (n, tokens, width) on a few depths, shallowest first, and embeddings (n, c) of length 1; differentiable."""
        edge = first_size(self.model.config.vision_config.image_size)
        grey = (to_grey(slices) + 1) / 2
        pictures = functional.interpolate(grey, (edge, edge), mode="bilinear", align_corners=False, antialias=True)
        seen = self.model.vision_model(pixel_values=(pictures - self.mean) / self.std, output_hidden_states=True)
        embedded = functional.normalize(self.model.visual_projection(seen.pooler_output), dim=-1)
        return [seen.hidden_states[depth] for depth in self.depths], embedded

    @torch.no_grad()
    def words(self, prompts: list[str]) -> torch.Tensor:
        """Embeddings (n, c) of prompts, of length 1."""
        places = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(prompts, padding=True, max_length=places, truncation=True, return_tensors="pt").to(self.mean.device)
        said = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return functional.normalize(self.model.text_projection(said), dim=-1)


def load(folder=HUB, device: str = "cpu") -> Clip:
    """CLIP from a folder, or from the hub by its name.

    Raises
    ------
    InputError
        Where transformers or the weights are missing.
    """
    transformers = libraries().transformers
    folder = Path(folder).expanduser() if Path(folder).expanduser().exists() else folder
    try:
        model, said = transformers.CLIPModel.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True)
        if said["missing_keys"]:
            raise ValueError(f"it has no {sorted(said['missing_keys'])[0]}")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"{folder} cannot be read as CLIP ({first}): hf download {HUB} --local-dir FOLDER and give it, or train without it"
        raise InputError(message, "missing-weights") from None
    return Clip(model.float().eval(), tokenizer).to(device)


def alignment(embedded: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """1 - cosine between slices and their prompts, both embedded (n, c), the mean over them."""
    return 1 - (embedded * words).sum(-1).mean()


def distance(features: list[torch.Tensor], wanted: list[torch.Tensor]) -> torch.Tensor:
    """Squared difference of normalised features, the mean over places and depths: 0 to 4."""
    terms = [(functional.normalize(a, dim=-1) - functional.normalize(b, dim=-1)).square().sum(-1).mean() for a, b in zip(features, wanted)]
    return torch.stack(terms).mean()


class Discriminator(nn.Module):
    """Small heads on CLIP's features tell repaired from true slices, place by place (after Kumari 2022 and Sauer 2023).

    Parameters
    ----------
    depths, width : int
        Of the features.
    channels : int
        Of each head's hidden layer.
    """

    def __init__(self, depths: int, width: int, channels: int = 64):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels), nn.SiLU(), nn.Linear(channels, 1)) for _ in range(depths)
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Scores (n, depths x tokens): positive for what looks true."""
        return torch.cat([head(tokens)[..., 0] for head, tokens in zip(self.heads, features)], dim=1)


def hinge(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """What a discriminator's scores of repaired and of true slices cost it (Lim 2017)."""
    return functional.relu(1 + fake).mean() + functional.relu(1 - real).mean()


class PerceptualLoss:
    """What CLIP adds to a fixer's loss, weighted as in DiffNR; the discriminator learns beside, a step each time it is asked.

    Parameters
    ----------
    clip : Clip
    rate : float
        Adam's, of the discriminator.
    """

    DISTANCE, ALIGNMENT, ADVERSARIAL = 1.0, 4.0, 0.4

    def __init__(self, clip: Clip, rate: float = 1e-5):
        self.clip = clip
        self.discriminator = Discriminator(len(clip.depths), clip.width).to(clip.mean.device)
        self.optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=(0.5, 0.99))

    def __call__(self, repaired: torch.Tensor, truth: torch.Tensor, organs: list[str]) -> torch.Tensor:
        """The loss of repaired slices (n, h, w) of organs, of which `truth` is known; differentiable in `repaired`."""
        device = self.clip.mean.device
        with torch.no_grad():
            wanted, _ = self.clip(truth[:, None].to(device))
            words = self.clip.words([prompt(organ) for organ in organs])
        features, embedded = self.clip(repaired[:, None].to(device))
        self._learn([tokens.detach() for tokens in features], wanted)
        fooled = -self.discriminator(features).mean()
        terms = self.DISTANCE * distance(features, wanted) + self.ALIGNMENT * alignment(embedded, words) + self.ADVERSARIAL * fooled
        return terms.to(repaired.device)

    def state_dict(self) -> dict:
        """The discriminator and its optimiser, from which training goes on; not CLIP."""
        return {"discriminator": self.discriminator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _learn(self, fake: list[torch.Tensor], real: list[torch.Tensor]) -> None:
        self.optimiser.zero_grad()
        hinge(self.discriminator(fake), self.discriminator(real)).backward()
        self.optimiser.step()
