"""What the module uses of Slicer, Qt, CTK and VTK, read from its source, and the list of it with where it is defined (api.toml).

`python Testing/Slicer/api_where.py` adds what is used and not listed, with a guess where it is defined.
"""

from __future__ import annotations

import ast
import builtins
import collections
import pathlib
import re
import tomllib
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SparseCTRecon"
LIST = Path(__file__).resolve().parent / "api.toml"
MODULES = ("slicer", "qt", "ctk", "vtk")
EXTENSIONS = ("SampleData", "PyTorchUtils", "TotalSegmentator")
"""Modules of Slicer and of other extensions that are imported by name."""
_CLASS = re.compile(r"(vtk(MRML|Slicer)|qMRML|qSlicer|ctk)[A-Z]\w+")
_SIGNAL = re.compile(r"\w+\([\w:*&, ]*\)")


@cache
def listed() -> dict[str, dict[str, str]]:
    """api.toml: "chains", "methods", "signals", "ui", each from a name to where it is defined."""
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


@cache
def used() -> dict[str, dict[str, set[str]]]:
    """What the module uses, by the sections of api.toml: from each name to the files that use it."""
    found: dict[str, dict[str, set[str]]] = {section: collections.defaultdict(set) for section in ("chains", "methods", "signals", "ui")}
    widgets = _widgets(found["ui"])
    own = _own_names()
    for path in sorted(MODULE.rglob("*.py")):
        reader = _Reader(ast.parse(path.read_text(encoding="utf-8")), own, widgets)
        for section, names in reader.found.items():
            for name in names:
                found[section][name].add(path.name)
    return found


class _Reader:
    """What one file uses."""

    def __init__(self, tree: ast.Module, own: set[str], widgets: dict[str, str]):
        self._own, self._widgets = own, widgets
        self.found: dict[str, set[str]] = {"chains": set(), "methods": set(), "signals": set(), "ui": set()}
        self._foreign = self._imports(tree)
        self._skip: set[ast.AST] = set()
        for node in ast.walk(tree):  # from the outside in: the longest chain is met first
            if isinstance(node, ast.Attribute) and node not in self._skip:
                self._attribute(node)
            elif isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _CLASS.fullmatch(node.value):
                self.found["chains"].add(f"slicer.{node.value}")

    def _imports(self, tree: ast.Module) -> set[str]:
        """Note `from slicer.x import y`; return the names of modules that are none of ours and none of Slicer's."""
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
                self.found["chains"] |= {alias.name for alias in node.names if alias.name.startswith("slicer.")}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] in MODULES:
                self.found["chains"] |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and not node.module.startswith("SparseCTRecon"):
                names |= {alias.asname or alias.name for alias in node.names}
        return names - set(MODULES) - set(EXTENSIONS)

    def _attribute(self, node: ast.Attribute) -> None:
        chain, base = _chain(node)
        if base is not None and chain[0] in self._foreign:
            return
        if base is not None and chain[0] in (*MODULES, *EXTENSIONS):
            self._skip.update(_links(node))
            self.found["chains"].add(".".join(chain))
        elif widget := self._widget_of(chain, base):
            self.found["ui"].add(f"{widget}.{node.attr}")
        elif node.attr not in self._own and node.attr not in self._widgets and not node.attr.startswith("_"):
            self.found["methods"].add(node.attr)

    def _widget_of(self, chain: list[str], base: ast.Name | None) -> str | None:
        """The class of the widget that `ui.<name>.<attribute>` is about."""
        known = base is not None and len(chain) >= 3 and chain[-3] == "ui"
        return self._widgets.get(chain[-2]) if known else None

    def _call(self, node: ast.Call) -> None:
        """Signals: the text that names one in connect, and the one that AddObserver takes."""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if called in ("connect", "disconnect") and node.args and isinstance(node.args[0], ast.Constant):
            signal = node.args[0].value
            if isinstance(signal, str) and _SIGNAL.fullmatch(signal):
                self.found["signals"].add(signal)


def _chain(node: ast.Attribute) -> tuple[list[str], ast.Name | None]:
    """["slicer", "app", "exit"] of `slicer.app.exit`, and the name that it begins with; None where it begins with something else."""
    parts, at = [], node
    while isinstance(at, ast.Attribute):
        parts.insert(0, at.attr)
        at = at.value
    return ([at.id, *parts], at) if isinstance(at, ast.Name) else (parts, None)


def _links(node: ast.Attribute):
    while isinstance(node, ast.Attribute):
        yield node
        node = node.value


def _own_names() -> set[str]:
    """Attributes that this project or Python itself defines: one of those says nothing about Slicer."""
    names = {name for kind in (*_python_types(),) for name in dir(kind)}
    for folder in ("SparseCTRecon", "SparseCTReconLib"):
        for path in (ROOT / folder).rglob("*.py"):
            names |= set(_defined(ast.parse(path.read_text(encoding="utf-8"))))
    return names


def _python_types():
    import argparse
    import csv
    import hashlib
    import os
    import unittest

    import numpy as np
    from packaging.requirements import Requirement

    file, process = open(__file__, "rb"), re.match("", "")  # noqa: SIM115
    file.close()
    values = [getattr(builtins, name) for name in dir(builtins)]
    further = (pathlib.Path, collections.deque, type(file), type(process), np.ndarray, np.dtype, os.stat_result, type(hashlib.sha256()))
    return [
        *(value for value in values if isinstance(value, type)),
        *further,
        unittest.TestCase,
        Requirement,
        argparse.ArgumentParser,
        csv.DictWriter,
    ]


def _defined(tree: ast.Module):
    """Functions, methods, fields, attributes and constants that a file defines."""
    constants = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    yield from (name.id for target in constants for name in ast.walk(target) if isinstance(name, ast.Name))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (item.target.id for item in node.body if isinstance(item, ast.AnnAssign))
                assigned = (target for item in node.body if isinstance(item, ast.Assign) for target in item.targets)
                yield from (name.id for target in assigned for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and getattr(node.value, "id", "") == "self":
            yield node.attr


def _widgets(found: dict[str, set[str]]) -> dict[str, str]:
    """Classes by widgets' names in the .ui files; notes classes, properties, and what <connections> name."""
    classes = {}
    for path in sorted((MODULE / "Resources" / "UI").glob("*.ui")):
        tree = ET.parse(path)
        for widget in tree.iter("widget"):
            classes[widget.get("name")] = widget.get("class")
            found[widget.get("class")].add(path.name)
            for one in widget.findall("property"):
                if one.get("stdset") != "0":
                    found[f"{widget.get('class')}.{one.get('name')}"].add(path.name)
        for connection in tree.iter("connection"):
            for end, what in (("sender", "signal"), ("receiver", "slot")):
                found[f"{classes[connection.findtext(end)]}.{connection.findtext(what)}"].add(path.name)
    return classes


def unlisted() -> dict[str, dict[str, set[str]]]:
    """What is used and not on the list, by section, with the files."""
    return {
        section: {name: files for name, files in sorted(names.items()) if name not in listed().get(section, {})}
        for section, names in used().items()
    }
