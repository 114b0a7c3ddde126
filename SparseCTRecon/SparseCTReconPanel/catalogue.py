"""What the library says about its methods, read from its source: importing a method would need packages that the panel may not have yet."""

import ast
from functools import cache
from pathlib import Path


@cache
def describe(name):
    """Return {"title", "summary", "citation"} of the method called `name`, as far as its class states them."""
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
                return {key: texts[key] for key in ("title", "summary", "citation") if key in texts}
    return {}


def _text(statement):
    """(name, string) of a class attribute that is a plain string."""
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    if not isinstance(target, ast.Name) or getattr(statement, "value", None) is None:
        return None
    try:
        value = ast.literal_eval(statement.value)
    except ValueError:
        return None
    return (target.id, value) if isinstance(value, str) else None
