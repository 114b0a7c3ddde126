"""Options of the methods that the user has set, one JSON text in the parameter node: {method: {option: value}}."""

import json
import math

from .catalogue import describe, presetValues


def read(text, method):
    """The values that the text holds for a method; what is no value of one of its options is left out."""
    try:
        values = json.loads(text or "{}").get(method, {})
        known = {option["name"]: option for option in describe(method)["options"]}
        return {name: value for name, value in values.items() if name in known and fits(known[name], value)}
    except (ValueError, AttributeError):
        return {}


def write(text, method, values):
    """The text with `values` in the place of those that it held for the method."""
    try:
        kept = dict(json.loads(text or "{}"))
    except (ValueError, TypeError):
        kept = {}
    kept[method] = values
    return json.dumps({name: of for name, of in kept.items() if of}, sort_keys=True)


def changed(method, preset, values):
    """Those of `values` that are not what the preset has."""
    usual = presetValues(method, preset)
    return {name: value for name, value in values.items() if name not in usual or value != usual[name]}


def fits(option, value):
    """Whether a value has the option's type and lies within its bounds."""
    if value is None:
        return option["optional"]
    if "choices" in option:
        return value in option["choices"]
    kinds = {"integer": int, "number": (int, float), "boolean": bool, "string": str}
    if not isinstance(value, kinds[option["type"]]) or isinstance(value, bool) is not (option["type"] == "boolean"):
        return False
    if option["type"] in ("string", "boolean"):
        return True
    return (
        option.get("minimum", value) <= value <= option.get("maximum", value)
        and option.get("exclusiveMinimum", -math.inf) < value < option.get("exclusiveMaximum", math.inf)
        and value % option.get("multipleOf", 1 if option["type"] == "integer" else value or 1) == 0
    )
