"""The methods a user chooses from, by name; each is one file and is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from ..errors import InputError, nearest_name, within_sentence

_CLASSES = {
    "fdk": "fdk:FDK",
    "os-sart": "os_sart:OSSART",
    "cgls": "cgls:CGLS",
    "admm-tv": "admm_tv:ADMMTV",
    "naf": "naf:NAF",
    "inr": "inr:INR",
    "r2-gaussian": "r2_gaussian:R2Gaussian",
    "diffnr-naf": "diffnr:DiffNRNAF",
    "diffnr-gaussian": "diffnr:DiffNRGaussian",
    "deepsparse": "deepsparse:DeepSparse",
    "x-grm": "x_grm:XGRMMethod",
}


def names() -> list[str]:
    """Names of all methods, classical ones first."""
    return list(_CLASSES)


def get(name: str):
    """The method called `name`.

    Raises
    ------
    InputError
        For an unknown name, with the nearest known one.
    """
    if name not in _CLASSES:
        raise InputError(f"no method {name!r}{nearest_name(name, _CLASSES)}", "unknown-method")
    module, class_name = _CLASSES[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), class_name)()


def preset_name(method, values: dict) -> str:
    """The preset that `values` ask for under "preset"; the method's first one where they do not.

    Raises
    ------
    InputError
        For an unknown preset, with the nearest known one.
    """
    name = values.get("preset")
    if name is None:
        return next(iter(method.presets))
    if name not in method.presets:
        raise InputError(f"{method.name} has no preset {name!r}{nearest_name(str(name), method.presets)}", "unknown-preset")
    return name


def parse_options(method, values: dict):
    """Options of `method` from names and values (strings are converted); "preset" names the values that the others are put on.

    Raises
    ------
    InputError
        For an unknown option or preset (with the nearest known one) or a value out of its bounds.
    """
    from pydantic import ValidationError

    known = method.Options.model_fields
    explicit = {key: value for key, value in values.items() if key != "preset"}
    for key in explicit:
        if key not in known:
            raise InputError(f"{method.name} has no option {key!r}{nearest_name(key, known) if known else ''}", "unknown-option")
    try:
        return method.Options(**{**method.presets[preset_name(method, values)], **explicit})
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        where = f"option {option}={first['input']!r}" if option else "options"
        raise InputError(f"{method.name}: {where}: {within_sentence(first['msg'].removeprefix('Value error, '))}", "bad-option") from None
