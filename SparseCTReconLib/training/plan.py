"""What a training of DeepSparse's or X-GRM's network is to do: a TOML file, every value of which has its unit, its bounds and its help.

What the file leaves out has a default, and what it has too many is refused. The command line puts values of its own on the file's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError, nearest_name, within_sentence
from ..methods.base import option
from ..networks.dice_configuration import SIZES as DICE_SIZES
from ..networks.xgrm import SIZES as XGRM_SIZES
from . import dice, xgrm
from .data import Drawn
from .dice_examples import STAGES, Stage
from .hyvip import MATCHINGS
from .prepared import LEAST_VOXELS, RECIPES, Recipe

DRAWN, STAGE = Drawn(), Stage()


class Section(BaseModel):
    """A table of the file: every field is an `option` with unit, help and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """CTs to learn from."""

    cts: tuple[Path, ...] = option((), "", "CTs in HU, or folders with CTs and whatever else; what is no CT is left out, and said")
    held_out: tuple[str, ...] = option((), "", "names, without endings, of CTs that are kept out; * stands for anything")
    recipe: Literal[tuple(RECIPES)] = option("reconx", "", "how CTs are made alike: range in HU, spacing and crop")
    voxels: int | None = option(None, "voxels", "along each edge of a CT made alike; the recipe's if left out", ge=LEAST_VOXELS, le=1024)
    spacing_mm: float | None = option(None, "mm", "between them; the recipe's if left out", gt=0, le=10)
    made_up_limbs: int = option(0, "CTs", "limbs drawn at random to learn from beside them", ge=0)
    kept: int | None = option(
        None,
        "examples",
        "to make once and learn from again and again, 0 for a new one each time; if left out 1000 for networks that better a first volume",
        ge=0,
    )
    cache: Path | None = option(None, "", "folder that keeps CTs made alike; in the user's cache folder if left out")

    def how(self) -> Recipe:
        """The recipe."""
        changes = {"voxels": self.voxels, "spacing_mm": self.spacing_mm}
        return replace(RECIPES[self.recipe], **{name: value for name, value in changes.items() if value})


class Card(Section):
    """What the weights' card says of the CTs."""

    anatomies: tuple[str, ...] = option((), "", "parts of the body that the weights are for: head, chest, abdomen, limb")
    credit: str = option("", "", "which CTs they are and from whom; the names of their files if left out")
    licence: str = option("", "", "under which terms they may be used")
    figures: bool = option(False, "", "reconstruct the CTs that are kept out, at the end, and write how good that is")


class Scans(Section):
    """What is drawn for every scan."""

    voxels: tuple[int, ...] = option(DRAWN.voxels, "voxels", "along each edge of the truth; one of these", min_length=1)
    of: int = option(DRAWN.of, "views", "of the whole scan that a network's views are picked from", ge=1, le=2000)
    photons: tuple[float, float] = option(DRAWN.photons, "photons", "of a pixel without a body: the fewest and the most")
    half: float = option(DRAWN.half, "", "share of the scans over 180 degrees; the others go full circle", ge=0, le=1)
    deformed: float = option(DRAWN.deformed, "", "share of the bodies that are deformed smoothly", ge=0, le=1)
    truncated: float = option(DRAWN.truncated, "", "share of the scans whose detector is too small for the body", ge=0, le=1)
    small: float = option(DRAWN.small, "", "share of the bodies that are shown at less than their size", ge=0, le=1)


class ViewedScans(Scans):
    """What is drawn for every scan."""

    views: tuple[int, int] = option(DRAWN.views, "views", "that the network is shown: the fewest and the most")


class DiCENetwork(Section):
    """DeepSparse's network."""

    size: Literal[tuple(DICE_SIZES)] = option(
        "compact", "", "full is the paper's; a CPU can train compact, which betters ADMM-TV's volume, and views-alone, which is shown none"
    )
    start: Path | None = option(None, "", "weights to go on from, in the place of a size")


class XGRMNetwork(Section):
    """X-GRM's network."""

    size: Literal[tuple(XGRM_SIZES)] = option(
        "compact", "", "base is the paper's; a CPU can train compact, which betters ADMM-TV's volume, and views-alone, which is shown none"
    )
    head: Literal["gaussians", "voxels"] = option("gaussians", "", "what a voxel is decoded to")
    start: Path | None = option(None, "", "weights to go on from, in the place of size and head")


class FinetunedNetwork(Section):
    """Weights of DeepSparse's network to adapt."""

    start: Path | None = option(None, "", "weights that were pretrained; it must be given")


class DiCEStage(Section):
    """What a stage shows, see `dice_examples`."""

    name: Literal[STAGES] = option(STAGE.name, "", "pretrain; adapt: to CTs; adjust: to few views, encoder and codebooks as they are")
    few: tuple[int, int] = option(STAGE.few, "views", "that stand for a user's: the fewest and the most")
    dense: int = option(STAGE.dense, "views", "with those that make a scan dense", ge=1, le=1000)
    matching: Literal[MATCHINGS] = option(STAGE.matching, "", "how the few take the places of others; greedy is the published code's")


class Views(Section):
    """What both steps of finetuning show."""

    few: tuple[int, int] = option((6, 10), "views", "that the network is to be used with: the fewest and the most")
    dense: int = option(STAGE.dense, "views", "with those that make a scan dense", ge=1, le=1000)
    matching: Literal[MATCHINGS] = option(STAGE.matching, "", "how the few take the places of others; greedy is the published code's")


class DiCESteps(Section):
    """How DeepSparse's network learns."""

    steps: int = option(10_000, "steps", "of AdamW", ge=1)
    rate: float = option(dice.Settings.rate, "", "highest learning rate", gt=0, le=1)
    batch: int = option(dice.Settings.batch, "scans", "in a step of each GPU", ge=1, le=1024)
    points: int = option(dice.Settings.points, "points", "of each scan in a step", ge=1)
    falling: bool = option(dice.Settings.falling, "", "the rate rises at first and falls to nothing, as short trainings need")


class XGRMSteps(Section):
    """How X-GRM's network learns."""

    steps: int = option(10_000, "steps", "of AdamW", ge=1)
    rate: float = option(xgrm.Settings.rate, "", "highest learning rate", gt=0, le=1)
    batch: int = option(xgrm.Settings.batch, "scans", "in a step of each GPU", ge=1, le=1024)
    box: int = option(xgrm.Settings.box, "voxels", "along each edge of the parts that it learns from", ge=1)
    xrays: int = option(xgrm.Settings.xrays, "X-rays", "of each such part", ge=0, le=100)
    photometric: float = option(xgrm.Settings.photometric, "", "weight of the difference of X-rays", ge=0)
    structure: float = option(xgrm.Settings.structure, "", "weight of the structural dissimilarity of X-rays", ge=0)


class Machine(Section):
    """What it runs on."""

    device: Literal["auto", "cpu", "cuda"] = option("auto", "", "cuda fails where there is none")
    devices: int = option(1, "processes", "on each node: GPUs, or processes on a CPU", ge=1, le=64)
    nodes: int = option(1, "nodes", "that run the same command; their folders are shared", ge=1)
    precision: Literal["auto", "32", "bf16"] = option("auto", "bits", "of products; auto is bf16 on CUDA and 32 elsewhere")
    workers: int | None = option(None, "processes", "that make examples, for each GPU; by the cores if left out", ge=0, le=256)


class Output(Section):
    """Where things go."""

    weights: Path | None = option(None, "", "file to write, .safetensors; it must be given")
    work: Path | None = option(None, "", "working folder with the checkpoint, emptied at the end; beside the weights if left out")
    logs: Path | None = option(None, "", "folder for TensorBoard; none are written if left out")
    checkpoint_s: float = option(300.0, "s", "between checkpoints", ge=0)


class Plan(Section):
    """What all trainings have in common."""

    seed: int = option(0, "", "of everything that is drawn", ge=0)
    data: Data = Data()
    card: Card = Card()
    scans: Scans = Scans()
    machine: Machine = Machine()
    output: Output = Output()


class DiCEPlan(Plan):
    """One stage of DeepSparse's network."""

    network: DiCENetwork = DiCENetwork()
    stage: DiCEStage = DiCEStage()
    training: DiCESteps = DiCESteps()


class XGRMPlan(Plan):
    """X-GRM's network."""

    scans: ViewedScans = ViewedScans()
    network: XGRMNetwork = XGRMNetwork()
    training: XGRMSteps = XGRMSteps()


class FinetunePlan(Plan):
    """The two steps from DeepSparse's pretrained weights to ones for a user's CTs and numbers of views."""

    network: FinetunedNetwork = FinetunedNetwork()
    views: Views = Views()
    adapt: DiCESteps = DiCESteps()
    adjust: DiCESteps = DiCESteps()


PLANS = {"dice": DiCEPlan, "xgrm": XGRMPlan, "finetune": FinetunePlan}


def read(name: str, path: Path | None, changes: Mapping[str, str]) -> Plan:
    """The plan of a file, with changes.

    Parameters
    ----------
    name : str
        Of `PLANS`.
    path : Path or None
        The file; none for defaults alone.
    changes : mapping of str to str
        Values as TOML writes them, or words without quotes, by key: "training.steps". What is no text is taken as it is.

    Raises
    ------
    InputError
        Where the file is missing or no TOML, or a key or a value is not one of the plan's.
    """
    values, where = _read(path) if path else {}, str(path) if path else f"train {name}"
    for key, text in changes.items():
        _put(values, key, _value(text) if isinstance(text, str) else text)
    _check_keys(values, PLANS[name], where)
    try:
        return PLANS[name](**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {key}={first['input']!r}: {within_sentence(first['msg'])}", "bad-option") from None


def described(name: str) -> Iterator[tuple[str, str, str]]:
    """Every key of a plan, its default as TOML writes it, and what it is, with unit and bounds."""
    yield from _described(PLANS[name], "")


def _described(kind: type[Section], before: str) -> Iterator[tuple[str, str, str]]:
    for key, field in kind.model_fields.items():
        if isinstance(field.default, Section):
            yield from _described(type(field.default), f"{before}{key}.")
            continue
        unit = (field.json_schema_extra or {}).get("unit")
        bounds = [f"{sign} {getattr(limit, at):g}" for limit in field.metadata for at, sign in BOUNDS.items() if hasattr(limit, at)]
        notes = ", ".join(filter(None, [unit, *bounds]))
        yield before + key, _toml(field.default), field.description + (f" ({notes})" if notes else "")


BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _toml(value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, (str, Path)) else f"{value}"


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the name", "missing-file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML ({error}): see Resources/Training for examples", "bad-config") from None


def _value(text: str):
    """What a text says in TOML; a word that says nothing there stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict, key: str, value) -> None:
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InputError(f"{key}: {table} is no table", "unknown-option")
    values[last] = value


def _check_keys(values: dict, kind: type[Section], where: str, before: str = "") -> None:
    """Refuse what a plan does not know, with what is nearest to it."""
    known = kind.model_fields
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: no key {before + key!r}{nearest_name(key, known)}", "unknown-option")
        default = known[key].default
        if isinstance(default, Section):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {before + key}={value!r}: it is a table: write [{before + key}]", "bad-option")
            _check_keys(value, type(default), where, f"{before}{key}.")
