"""The frozen models that the SD-Turbo fixer stands on, read from a folder or from the hub.

SD-Turbo is laid out as diffusers has it (unet, vae, text_encoder, tokenizer, scheduler); the encoder of X-rays lies beside these as
`image_encoder`: RAD-DINO (Perez-Garcia 2024), or any vision transformer of the transformers library that has a class token.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from ..errors import InputError

HUB, IMAGE_HUB = "stabilityai/sd-turbo", "microsoft/rad-dino"
IMAGE_ENCODER = "image_encoder"
FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
INSTEAD = "or take the compact fixer, which needs none of it"
LICENCE = (
    "SD-Turbo comes under a licence of Stability AI's that limits commercial use: read it at https://stability.ai/license and in the "
    f"LICENSE of its weights, then accept it (licence_accepted), {INSTEAD}"
)


@dataclass(frozen=True)
class Parts:
    """Frozen models and the numbers that belong to them.

    Parameters
    ----------
    vae, unet, text_encoder, tokenizer
        AutoencoderKL, UNet2DConditionModel, CLIPTextModel and CLIPTokenizer.
    image_encoder : nn.Module
        A vision transformer with a class token.
    mean, std : tuple of float
        What the image encoder's three channels are normalised by.
    last_step : int
        The noisiest time step: 999.
    alpha_bar : float
        Share of signal in the variance there.
    prediction : str
        What the U-Net predicts: "epsilon" or "v_prediction".
    """

    vae: nn.Module
    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: object
    image_encoder: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    last_step: int
    alpha_bar: float
    prediction: str

    def fingerprint(self) -> str:
        """SHA-256 of the first values of every weight, in half precision, by which adapters know what they were trained on."""
        digest = hashlib.sha256()
        for model in (self.unet, self.vae, self.text_encoder, self.image_encoder):
            for parameter in model.parameters():
                digest.update(parameter.detach().flatten()[:64].cpu().half().numpy().tobytes())
        return digest.hexdigest()


def libraries() -> SimpleNamespace:
    """The modules diffusers, peft and transformers.

    Raises
    ------
    InputError
        Where one is not installed.
    """
    try:
        import diffusers
        import peft
        import transformers
    except ImportError as error:
        message = f'the SD-Turbo fixer needs diffusers, peft and transformers ({error}): pip install "sparsectrecon[sd-turbo]", {INSTEAD}'
        raise InputError(message, "missing-library") from None
    return SimpleNamespace(diffusers=diffusers, peft=peft, transformers=transformers)


def read_parts(source, image_encoder=None) -> Parts:
    """The models of a folder or of a name on the hub ("stabilityai/sd-turbo").

    Parameters
    ----------
    source : str or Path
    image_encoder : str or Path, optional
        Likewise; if not given `image_encoder` in the folder, and with a name on the hub RAD-DINO of there.

    Raises
    ------
    InputError
        Where a library or a part is missing, cannot be read, or is of another architecture.
    """
    library = libraries()
    place, local = locate(source)
    if image_encoder is None:
        image_encoder = Path(place) / IMAGE_ENCODER if local else IMAGE_HUB
    models = {name: _diffusers_model(library.diffusers, place, name) for name in CLASSES}
    text = _loaded(library.transformers.CLIPTextModel, place, "text_encoder")
    tokenizer = _read(library.transformers.CLIPTokenizer, place, "tokenizer")
    scheduler = _read(library.diffusers.DDPMScheduler, place, "scheduler")
    images, (mean, std) = _image_encoder(library.transformers, image_encoder)
    parts = Parts(
        **models,
        text_encoder=text,
        tokenizer=tokenizer,
        image_encoder=images,
        mean=mean,
        std=std,
        last_step=len(scheduler.alphas_cumprod) - 1,
        alpha_bar=float(scheduler.alphas_cumprod[-1]),
        prediction=scheduler.config.prediction_type,
    )
    _check_fit(parts, place)
    return parts


def locate(source) -> tuple[str, bool]:
    """Where SD-Turbo lies, and whether that is a folder here; InputError where it is neither one nor a name of the hub's form."""
    if not str(source):
        message = f"no folder with the weights of SD-Turbo was given: {_download(HUB, 'FOLDER')} and give it, {INSTEAD}"
        raise InputError(message, "missing-weights")
    place = Path(source).expanduser()
    if place.is_dir():
        if absent := [name for name in FOLDERS if not (place / name).is_dir()]:
            raise InputError(f"{place} lacks {', '.join(absent)} of SD-Turbo: {_download(HUB, place)}, {INSTEAD}", "missing-weights")
        return str(place), True
    if place.exists() or not re.fullmatch(HUB_NAME, str(source)):
        raise InputError(f"{source} is no folder with the weights of SD-Turbo: {_download(HUB, place)}, {INSTEAD}", "missing-weights")
    return str(source), False


def _download(name: str, place) -> str:
    return f"put {name} there (hf download {name} --local-dir {place})"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read(kind, place: str, folder: str | None = None, **options):
    """`kind.from_pretrained`, its faults said in a sentence."""
    from safetensors import SafetensorError

    where = f"{place}/{folder}" if folder else str(place)
    try:
        return kind.from_pretrained(str(place), **({"subfolder": folder} if folder else {}), **options)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        message = f"{where} cannot be read as {kind.__name__} ({_first_line(error)}): download it anew, safetensors included, {INSTEAD}"
        raise InputError(message, "bad-weights") from None


def _loaded(kind, place: str, folder: str | None = None) -> nn.Module:
    """A model in single precision, none of its weights left to chance. A pooler may lack: many vision transformers have none."""
    model, said = _read(kind, place, folder, use_safetensors=True, output_loading_info=True)
    if missing := [name for name in said["missing_keys"] if not name.startswith("pooler.")]:
        raise _other(f"{place}/{folder}" if folder else place, f"it has no {sorted(missing)[0]}")
    return model.float().eval().requires_grad_(False)


def _diffusers_model(diffusers, place: str, folder: str) -> nn.Module:
    kind = getattr(diffusers, CLASSES[folder])
    try:
        found = kind.load_config(place, subfolder=folder).get("_class_name")
    except (OSError, ValueError) as error:
        message = f"{place}/{folder} cannot be had ({_first_line(error)}): {_download(HUB, 'FOLDER')} and give it, {INSTEAD}"
        raise InputError(message, "missing-weights") from None
    if found != CLASSES[folder]:
        raise _other(f"{place}/{folder}", f"it is {found}, not {CLASSES[folder]}")
    return _loaded(kind, place, folder)


def _image_encoder(transformers, place) -> tuple[nn.Module, tuple[tuple[float, ...], tuple[float, ...]]]:
    """A vision transformer, and mean and deviation of the channels that it was trained on."""
    folder = Path(place).expanduser()
    if not folder.is_dir() and (isinstance(place, Path) or not re.fullmatch(HUB_NAME, place)):
        message = (
            f"{folder} is missing, the encoder of the X-rays: {_download(IMAGE_HUB, folder)}; any vision transformer will do, {INSTEAD}"
        )
        raise InputError(message, "missing-weights")
    place = str(folder if folder.is_dir() else place)
    model = _loaded(transformers.AutoModel, place)
    has_class = any(name.endswith(("cls_token", "class_embedding")) for name, _ in model.named_parameters())
    if not has_class or not hasattr(model.config, "hidden_size") or not hasattr(model.config, "image_size"):
        message = f"{place} holds {type(model).__name__}, no vision transformer with a class token: give one, {IMAGE_HUB} say, {INSTEAD}"
        raise InputError(message, "bad-weights")
    return model, _normalisation(transformers, place)


def _normalisation(transformers, place) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """From preprocessor_config.json. Its own class is not made: for most models it asks for torchvision."""
    try:
        values = json.loads(Path(transformers.utils.cached_file(place, "preprocessor_config.json")).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        values = {}
    return tuple(values.get("image_mean", (0.5,) * 3)), tuple(values.get("image_std", (0.5,) * 3))


def _check_fit(parts: Parts, place: str) -> None:
    """InputError unless the parts fit each other as SD-Turbo's do."""
    unet, vae, width = parts.unet.config, parts.vae.config, parts.text_encoder.config.hidden_size
    if unet.cross_attention_dim != width:
        raise _other(place, f"the U-Net is conditioned on {unet.cross_attention_dim} channels, the text has {width}")
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise _other(place, f"the U-Net maps {unet.in_channels} to {unet.out_channels} channels, the autoencoder has {vae.latent_channels}")
    if unet.addition_embed_type or unet.class_embed_type or vae.in_channels != 3 or vae.out_channels != 3:
        raise _other(place, "it is conditioned on more than text, or does not work on three channels")
    if parts.prediction not in ("epsilon", "v_prediction"):
        raise _other(place, f"it predicts {parts.prediction}")


def _other(place, why: str) -> InputError:
    return InputError(f"{place} is of another architecture than SD-Turbo ({why}): give a folder with {HUB}, {INSTEAD}", "bad-weights")


def first_size(size) -> int:
    """An edge in pixels that a configuration gives as a number or as a pair."""
    return int(size if isinstance(size, int) else size[0])
