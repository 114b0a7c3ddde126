"""What the library says about its methods, read from its source: importing a method would need packages that the panel may not have yet."""

import ast
from functools import cache
from pathlib import Path


@cache
def describe(name):
    """Return {"title", "summary", "citation", "presets": [name, ...]} of the method called `name`, as far as its class states them."""
    import SparseCTReconLib.methods as methods

    file = Path(methods.__file__).parent / f"{name.replace('-', '_')}.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            texts = dict(filter(None, map(_text, node.body)))
            if texts.get("name") == name:
                presets = next(filter(None, map(_presets, node.body)), [])
                return {key: texts[key] for key in ("title", "summary", "citation") if key in texts} | {"presets": presets}
    return {}


def _presets(statement):
    """The names in a class's dictionary of presets; None for any other statement."""
    if _name(statement) != "presets" or not isinstance(statement.value, ast.Dict):
        return None
    return [key.value for key in statement.value.keys if isinstance(key, ast.Constant)]


def _text(statement):
    """(name, string) of a class attribute that is a plain string."""
    name = _name(statement)
    if name is None or getattr(statement, "value", None) is None:
        return None
    try:
        value = ast.literal_eval(statement.value)
    except ValueError:
        return None
    return (name, value) if isinstance(value, str) else None


def _name(statement):
    """The name that a statement assigns to, or None."""
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    return target.id if isinstance(target, ast.Name) else None
