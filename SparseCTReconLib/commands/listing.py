"""methods: what there is to choose from, with every option."""

from __future__ import annotations

import dataclasses

from rich.console import Console
from rich.table import Table

from .. import evidence, methods
from ..errors import InputError

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<", "multipleOf": "a multiple of"}


def describe(method) -> dict:
    """A method as JSON values: name, title, summary, citation, devices, weights, presets {name: option values} and its options.

    Each option has name, type, default, unit, help, optional, advanced, and as they apply: choices and the bounds of JSON schema
    (minimum, exclusiveMinimum, maximum, exclusiveMaximum, multipleOf).
    """
    properties = method.Options.model_json_schema().get("properties", {})
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "citation": method.citation,
        "devices": list(method.devices),
        "weights": list(method.weights),
        "presets": method.presets,
        "options": [_option(name, schema) for name, schema in properties.items()],
    }


def _option(name: str, schema: dict) -> dict:
    kinds = [schema, *schema.get("anyOf", [])]
    merged = {key: value for kind in kinds for key, value in kind.items()}
    types = [kind["type"] for kind in kinds if "type" in kind and kind["type"] != "null"]
    return {
        "name": name,
        "type": types[0] if types else "string",
        "default": schema.get("default"),
        "unit": schema.get("unit", ""),
        "help": schema.get("description", ""),
        "optional": any(kind.get("type") == "null" for kind in kinds),
        "advanced": schema.get("advanced", False),
        **({"choices": merged["enum"]} if "enum" in merged else {}),
        **{key: merged[key] for key in _BOUNDS if key in merged},
    }


def describe_all() -> list[dict]:
    """Every method, described."""
    return [describe(methods.get(name)) for name in methods.names()]


def advise(views: int | None, device: str = "auto", budget_s: float | None = None) -> dict | None:
    """What the evidence says of a scan with so many views: views, device, budget_s, recommendation (null where there is none), sentence.

    None where no number of views is given. "auto" is the GPU where there is one.

    Raises
    ------
    InputError
        For no views, or a device or budget without a number of views.
    """
    if views is None:
        if budget_s is not None or device != "auto":
            raise InputError("a budget or a device recommends nothing by itself: give the number of views too, --views N", "bad-arguments")
        return None
    if views < 1:
        raise InputError(f"--views {views}: a scan has at least one", "bad-arguments")
    if device == "auto":
        device = _best_device()
    asked = {"views": views, "device": device, "budget_s": budget_s}
    rows, known = evidence.load(), methods.names()
    found = evidence.recommend(rows, **asked, known=known)
    said = evidence.sentence(rows, **asked, known=known)
    return asked | {"recommendation": None if found is None else dataclasses.asdict(found), "sentence": said}


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def print_methods(console: Console) -> None:
    """A table of the options of each method."""
    for method in describe_all():
        console.print(f"\n[bold]{method['name']}[/]  {method['title']}  [dim]({', '.join(method['devices'])})[/]", highlight=False)
        console.print(f"{method['summary']}\n[dim]{method['citation']}[/]", highlight=False)
        if method["options"]:
            table = Table("--set", "default", "bounds", "unit", "what it is", box=None, padding=(0, 2, 0, 0))
            for option in method["options"]:
                table.add_row(option["name"], str(option["default"]), bounds(option), option["unit"], option["help"])
            console.print(table)
        for name, values in method["presets"].items():
            if len(method["presets"]) > 1:
                said = ", ".join(f"{key}={value}" for key, value in values.items()) or "the defaults"
                console.print(f"--preset {name}: {said}", highlight=False, markup=False)


def bounds(option: dict) -> str:
    """Bounds of a described option, for a person: ">= 1, <= 10" or its choices."""
    if "choices" in option:
        return " | ".join(map(str, option["choices"]))
    return ", ".join(f"{sign} {option[key]:.9g}" for key, sign in _BOUNDS.items() if key in option)
