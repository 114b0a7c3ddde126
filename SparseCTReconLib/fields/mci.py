"""Mapping-consistency initialisation (MCI): a head that has learnt from a CT before, for a field whose encoding starts fresh.

What a field's head makes of features is much alike from patient to patient (NI-NeRF, Xu et al. 2025, section 2.4), so that it need not
be learnt anew with every scan. A file of weights is safetensors: for each network that it fits a flat array of the head's parameters
(layer norm and linear layers), named after the preset of the method "naf" that has this network, and a card in its metadata that says
which CT they were trained on and how. `training.mci` makes such files.

What they are good for: learning a CT voxel by voxel, fields have a quarter less error after 30 steps and no longer depend on the start.
From the rays of 50 views, on 4 mm voxels, abdomen's weights give after 200 steps, in decibels over a new head,

                                                     head   chest   abdomen   knees
    network of naf's preset "from-scratch", its
    rates falling to a twentieth                      -0.3   +0.1      +0.5    +0.3
    network and rates of "paper", filtered squares    +1.1   +0.2      +0.5    -0.1

the abdomen being the one they were trained on. Those of the chest and the head gave all four, their own too, up to 0.7 and 1.6 dB less
than abdomen's, and the knees once 0.2 more; those of the knees gave these 0.0 and 0.4 dB more and others up to 0.3 less. Heads that
differ by the seed of their training alone were within 0.1 dB of each other.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .. import __version__, weight_files
from ..errors import InputError
from ..scan import Scan
from ..weight_files import WeightFile
from ..weights import AUTO, Kind
from ..weights import find as find_weights
from .anatomy import ANATOMIES, propose
from .head import Head

log = logging.getLogger("SparseCTReconLib.fields")

FORMAT = "SparseCTRecon MCI 1"
KIND = Kind("mci", FORMAT, "naf", "mci")
NONE = "none"
BEST_FOR = {"head": "abdomen", "chest": "abdomen", "abdomen": "abdomen", "limb": "limb"}
"""Weights by what a scan shows, as measured (see above)."""


@dataclass(frozen=True)
class Pretrained:
    """Parameters of a head and where they come from.

    Parameters
    ----------
    parameters : ndarray (size,)
        Float32, as `Field.set_head` takes them.
    name : str
        Of the weights: "chest", or the stem of the file's name.
    sha256 : str
        Of the parameters and their card.
    card : dict
        JSON values: the CT with its credit, and the network and the training of these parameters.
    """

    parameters: np.ndarray
    name: str
    sha256: str
    card: dict

    @property
    def source(self) -> str:
        """Name and checksum, for a result's provenance."""
        return weight_files.source(f"MCI {self.name}", self.sha256)


def load(choice: str, head: Head, scan: Scan | None = None) -> Pretrained | None:
    """Parameters for `head` from the weights that `choice` names.

    Parameters
    ----------
    choice : str
        "head", "chest", "abdomen" or "limb"; the path of a file; "auto" for those that have served best for what `anatomy.propose` takes
        the scan for; "none" for None.
    head : Head
        The network that is to start from them.
    scan : Scan, optional
        What "auto" looks at.

    Raises
    ------
    InputError
        For an unknown name, a file that is missing or damaged or no such weights, and for weights of other networks.
    """
    if choice == NONE:
        return None
    if choice == AUTO:
        if scan is None:
            raise InputError(f"without a scan no weights can be proposed: name one of {', '.join(ANATOMIES)}", "bad-option")
        shown = propose(scan)
        choice = BEST_FOR[shown]
        log.info("the scan looks like that of a %s: weights of a %s", shown, choice)
    path = find(choice)
    found = fitting(read(path), head, path)
    log.info("the head starts from %s", found.source)
    return found


def find(choice: str) -> Path:
    """The file of the weights that a name or a path gives.

    Raises
    ------
    InputError
        Where there is none.
    """
    return find_weights(choice, KIND, (AUTO, NONE))


def fitting(weights: WeightFile, head: Head, path) -> Pretrained:
    """The parameters among `weights` that were trained for `head`.

    Raises
    ------
    InputError
        Where there are none, with the networks that there are some for.
    """
    for preset, about in weights.card["presets"].items():
        if about["head"] == asdict(head):
            common = {key: value for key, value in weights.card.items() if key != "presets"}
            return Pretrained(weights.arrays[preset], weights.name, weights.sha256, {**common, "preset": preset, **about})
    found = " and ".join(describe_head(about["head"]) for about in weights.card["presets"].values())
    raise InputError(
        f"{path} holds weights for {found}, but this network is {describe_head(asdict(head))}: change the network's options back, "
        "train other weights (sparsectrecon train mci), or set mci=none",
        "other-head",
    )


def describe_head(head: dict) -> str:
    """A network's kind in words, for messages and cards."""
    kind = [f"{head['channels']} channels x {head['hidden']} neurons", head["activation"], head["output"]]
    kind += ["skip"] if head["skip"] else []
    kind += [] if head["layer_norm"] else ["no layer norm"]
    return ", ".join(kind[:1]) + f" ({', '.join(kind[1:])})"


def write(path, card: dict, parameters: dict[str, np.ndarray]) -> None:
    """Write weights for one or more networks.

    Parameters
    ----------
    path : str or Path
        File to write.
    card : dict
        JSON values: "credit", which says which CT it was, and "presets": {name: {"head": Head as a dict, and how it was trained}}.
    parameters : dict of str to ndarray
        Flat float32 parameters of each of the card's presets.
    """
    arrays = {preset: np.ascontiguousarray(array, dtype=np.float32) for preset, array in parameters.items()}
    weight_files.write(path, FORMAT, {"version": __version__, **card}, arrays)


def read(path) -> WeightFile:
    """Read a file of weights, whose arrays are parameters by preset.

    Raises
    ------
    InputError
        Where it is missing or damaged, is no such file, or its checksum is wrong.
    """
    found = weight_files.read(path, FORMAT, "weights for MCI")
    return replace(found, name=found.name.removeprefix("mci_"))


def markdown(weights: WeightFile) -> str:
    """The card of a file of weights, for people."""
    card = weights.card
    lines = [
        f"# MCI weights: {weights.name}",
        "",
        "A start for the head of a neural field (mapping-consistency initialisation, NI-NeRF): a few thousand numbers that turn normalised",
        "features into attenuation. They hold no image. Research use only.",
        "",
        f"- trained on: {card['credit']}",
        f"- made with: SparseCTRecon {card['version']}, `sparsectrecon train mci`",
        f"- checksum (SHA-256 of card and parameters): {weights.sha256}",
        "",
        "| naf preset | head | encoding | steps x voxels | seed | mean error at the start, at the end (HU) |",
        "|---|---|---|---|---|---|",
    ]
    for preset, about in card["presets"].items():
        encoding = ", ".join(f"{key} {value}" for key, value in about["encoding"].items())
        first, last = (1000 * about[key] for key in ("first_loss", "last_loss"))
        work = f"{about['steps']} x {about['voxels']}"
        lines.append(f"| {preset} | {describe_head(about['head'])} | {encoding} | {work} | {about['seed']} | {first:.0f}, {last:.0f} |")
    return "\n".join([*lines, ""])
