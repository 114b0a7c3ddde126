"""What the library says about its methods, from the file that it keeps of them: importing a method would need packages that the panel may
not have yet."""

import json
from functools import cache
from pathlib import Path

from slicer.i18n import tr as _

ABBREVIATIONS = {"mci": "MCI", "cg": "CG", "sd": "SD"}


@cache
def _methods():
    import SparseCTReconLib.methods as methods

    text = (Path(methods.__file__).parent / "methods.json").read_text(encoding="ascii")
    return {about["name"]: about for about in json.loads(text)}


def describe(name):
    """The method called `name`: title, summary, citation, devices, weights, presets {name: values} and options."""
    return _methods()[name]


def presetOf(name, preset):
    """`preset`, or the method's first one where that is empty or not one of its presets."""
    presets = describe(name)["presets"]
    return preset if preset in presets else next(iter(presets))


def presetValues(name, preset):
    """The value of every option of the method `name` with a preset; None where the method decides."""
    about = describe(name)
    return {option["name"]: option["default"] for option in about["options"]} | about["presets"][presetOf(name, preset)]


def missingWeights(name):
    """Names of the pretrained weights that the method may use and this installation does not have."""
    from SparseCTReconLib import resources

    return [one for one in describe(name)["weights"] if not _has(resources, one)]


def _has(resources, name):
    """Whether weights came with the library, or lie in a folder of the user's or among those that were fetched."""
    from SparseCTReconLib import weights

    try:
        resources.find(f"Weights/{name}.safetensors")
    except ValueError:
        return any((folder / f"{name}.safetensors").is_file() for folder in weights.own_folders())
    return True


def needs(name, gpus=None):
    """What the method needs beside a scan, in one sentence, and whether this machine has it; `gpus` are those found, None before that."""
    about, missing = describe(name), missingWeights(name)
    device = _("Runs on the CPU or on an NVIDIA GPU") if "cuda" in about["devices"] else _("Runs on the CPU")
    if "cuda" in about["devices"] and gpus is not None:
        device += _(" (found: {name})").format(name=gpus[0].name) if gpus else _(" (none found)")
    if not about["weights"]:
        return _("{device}; needs no pretrained weights.").format(device=device)
    if not missing:
        return _("{device}; its pretrained weights are installed.").format(device=device)
    return _("{device}; pretrained weights are missing: {names}.").format(device=device, names=", ".join(missing))


def label(option):
    """An option's name as it stands before its widget."""
    words = [ABBREVIATIONS.get(word, word) for word in option["name"].split("_")]
    return " ".join([words[0] if words[0].isupper() else words[0].capitalize(), *words[1:]])


def hint(option):
    """An option's help with its bounds and default, for a tool tip."""
    bounds = _bounds(option)
    default = _("chosen by the method") if option["default"] is None else said(option["default"])
    end = (
        _("{bounds}; default: {default}").format(bounds=bounds, default=default)
        if bounds
        else _("Default: {default}").format(default=default)
    )
    return f"{option['help']}\n{end}"


def _bounds(option):
    low = option.get("minimum", option.get("exclusiveMinimum"))
    high = option.get("maximum", option.get("exclusiveMaximum"))
    above = _("more than {n}") if "exclusiveMinimum" in option else _("at least {n}")
    below = _("less than {n}") if "exclusiveMaximum" in option else _("at most {n}")
    said = [text.format(n=f"{n:.9g}") for text, n in ((above, low), (below, high)) if n is not None]
    if "multipleOf" in option:
        said.append(_("a multiple of {n}").format(n=option["multipleOf"]))
    return ", ".join(said).capitalize()


def said(value):
    """An option's value as a text."""
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return f"{value:.9g}" if isinstance(value, float) else str(value)
