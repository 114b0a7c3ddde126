"""Whether what api.toml lists is where the list says, and guesses for what it does not list yet.

A place is one of
    "Libs/MRML/Core/vtkMRMLNode.h"                a file of Slicer's source
    "CTK/Libs/Widgets/ctkCollapsibleButton.h"     a file of CTK's source, at the commit that Slicer's SuperBuild names
    "Qt: QLabel", "VTK: vtkImageData"             a class of the library that Slicer brings
    "Extension PyTorch: PyTorchUtils.py"          a file of another extension

`python Testing/Slicer/api_where.py` adds what the module uses and the list lacks; look at what it guessed before you commit it. It finds
files with SLICER_SOURCE and CTK_SOURCE, folders with the sources of Slicer and CTK.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

import api_use

SOURCES = {"Slicer": os.environ.get("SLICER_SOURCE"), "CTK": os.environ.get("CTK_SOURCE")}
_QT = ("QtWidgets", "QtGui", "QtCore")
_PYTHON = [f"Base/Python/slicer/{name}.py" for name in ("ScriptedLoadableModule", "util", "parameterNodeWrapper/wrapper")]
_MODULE = "Base/QTGUI/qSlicerScriptedLoadableModule.h"


def defined(name: str, where: str) -> bool | None:
    """Whether `name` is defined at `where`, as far as what is installed here tells; None where it does not tell."""
    member = _member(name)
    if where.startswith("Qt: "):
        return _in_qt(where[4:], member)
    if where.startswith("VTK: "):
        return _in_vtk(where[5:], member)
    if where.startswith("Extension "):
        return None
    known = _in_slicer_core(Path(where).stem, member) if where.endswith(".h") else None
    return known if known is not None else _in_source(where, member)


def _member(name: str) -> str:
    """`currentNode` of "qMRMLNodeComboBox.currentNode", `setMRMLScene` of "setMRMLScene(vtkMRMLScene*)"."""
    return name.partition("(")[0].rpartition(".")[2]


@cache
def qt_class(name: str):
    import importlib

    for module in _QT:
        found = getattr(importlib.import_module(f"PySide6.{module}"), name, None)
        if found is not None:
            return found
    return None


def _in_qt(name: str, member: str) -> bool:
    found = qt_class(name)
    if found is None:
        return False
    meta = getattr(found, "staticMetaObject", None)
    return member in (name, "__init__") or hasattr(found, member) or (meta is not None and meta.indexOfProperty(member) >= 0)


def _in_vtk(name: str, member: str) -> bool:
    import vtk
    import vtk.util.numpy_support

    found = vtk
    for part in filter(None, name.split(".")):
        found = getattr(found, part, None)
    return found is not None and (member == name.rpartition(".")[2] or hasattr(found, member))


def _in_slicer_core(name: str, member: str) -> bool | None:
    import slicer

    found = getattr(slicer, name, None)
    own = getattr(found, "__module__", "").startswith("host")  # a stand-in of the test host proves nothing
    return None if found is None or own else member == name or hasattr(found, member)


def _in_source(where: str, member: str) -> bool | None:
    """Whether a file of a source tree speaks of `member`; None where the tree is not here."""
    owner, place = ("CTK", where[4:]) if where.startswith("CTK/") else ("Slicer", where)
    if not SOURCES[owner]:
        return None
    file = Path(SOURCES[owner], place)
    if not file.is_file():
        return False
    # vtkSetMacro(Window, double) and its like define SetWindow, GetWindow, WindowOn.
    macro = re.sub(r"^(Set|Get)|(On|Off)$", "", member)
    return bool(
        re.search(rf"\b({re.escape(member)}\b|vtk\w*Macro\(\s*{re.escape(macro)}\b)", file.read_text(encoding="utf-8", errors="replace"))
    )


@cache
def headers() -> dict[str, str]:
    """Places of the header files of Slicer's and CTK's classes, by class."""
    found = {}
    for owner, folder in SOURCES.items():
        for file in sorted(Path(folder).rglob("*.h")) if folder else ():
            place = file.relative_to(folder).as_posix()
            found.setdefault(file.stem, f"CTK/{place}" if owner == "CTK" else place)
    return found


def guess(section: str, name: str) -> str:
    """Where `name` may be defined; empty where there is no guess."""
    if section == "ui":
        return _guess_widget(*name.partition(".")[::2])
    if section == "chains":
        return _guess_chain(name)
    return _guess_member(_member(name))


def _guess_chain(name: str) -> str:
    first, *rest = name.split(".")
    if rest[0] == "modules":
        return "Base/QTCore/qSlicerAbstractCoreModule.h" if rest[1:] else "Base/Python/slicer/__init__.py"
    if first == "qt":
        return f"Qt: {rest[0]}"
    if first == "vtk":
        return "VTK: " + (rest[0] if rest[0].startswith("vtk") else ".".join(rest[:-1]))
    if first == "ctk" or rest[0] in headers():
        return headers().get(rest[0], "")
    if first == "slicer" and rest[0] == "app":
        return _guess_widget("qSlicerApplication", rest[-1]) or "Qt: QApplication"
    if first == "slicer" and rest[0] == "mrmlScene":
        return headers().get("vtkMRMLScene" if rest[1:] and _in_slicer_core("vtkMRMLScene", rest[-1]) else "", "Base/Python/slicer/util.py")
    for place in (f"Base/Python/{'/'.join(name.split('.')[:2])}.py", f"Base/Python/{'/'.join(name.split('.')[:2])}/__init__.py"):
        if first == "slicer" and SOURCES["Slicer"] and Path(SOURCES["Slicer"], place).is_file():
            return place
    if first == "SampleData":
        return "Modules/Scripted/SampleData/SampleData.py"
    return ""


def _guess_widget(kind: str, member: str) -> str:
    """The class that gives a widget of class `kind` its property, signal or method."""
    member = member.partition("(")[0]
    bases = {"qSlicerApplication": "qSlicerCoreApplication"}
    at = kind
    while at in headers():
        if not member or _in_source(headers()[at], member):
            return headers()[at]
        text = Path(SOURCES["CTK" if headers()[at].startswith("CTK/") else "Slicer"], headers()[at].removeprefix("CTK/")).read_text(
            errors="replace"
        )
        base = re.search(rf"class\s+\w*\s*{at}\s*(?:final\s*)?:\s*public\s+(\w+)", text)
        at = base.group(1) if base else bases.get(at, "")
    found = qt_class(at)
    if found is None:
        return ""
    if not member:
        return f"Qt: {at}"
    bases = [base.__name__ for base in found.__mro__ if base.__name__.startswith("Q") and _in_qt(base.__name__, member)]
    return f"Qt: {bases[-1]}" if bases else ""


@cache
def _used_classes() -> tuple[type, ...]:
    import slicer
    import vtk

    names = {part for chain in api_use.used()["chains"] for part in chain.split(".") if part.startswith("vtk")}
    found = (getattr(slicer, name, None) or getattr(vtk, name, None) for name in sorted(names))
    logics = [getattr(slicer, name) for name in dir(slicer) if name.endswith("Logic")]
    return tuple(one for one in (*found, *logics, slicer.vtkMRMLScriptedModuleNode) if isinstance(one, type))


@cache
def _all_classes() -> tuple[type, ...]:
    """Slicer's classes, then VTK's."""
    import slicer
    import vtk

    named = (getattr(module, name) for module in (slicer, vtk) for name in sorted(dir(module), key=lambda one: ("MRML" not in one, one)))
    return tuple(one for one in named if isinstance(one, type) and issubclass(one, vtk.vtkObjectBase))


def _guess_member(member: str) -> str:
    """The first class that defines `member`, among the bases of the classes that the module names; then Qt's."""
    votes: dict[type, int] = {}
    for kind in _used_classes():
        tops = [base for base in kind.__mro__ if member in vars(base)]
        if tops:
            votes[tops[-1]] = votes.get(tops[-1], 0) + 1 + 10 * (not kind.__name__.endswith("Logic"))
    if not votes:
        votes = {top: 1 for kind in _all_classes() for top in [base for base in kind.__mro__ if member in vars(base)][-1:]}
    if votes:
        name = max(votes, key=lambda one: votes[one]).__name__
        return headers().get(name) or f"VTK: {name}"
    for place in _PYTHON:
        file = Path(SOURCES["Slicer"] or "", place)
        if file.is_file() and re.search(rf"def {member}\b", file.read_text(encoding="utf-8")):
            return place
    widgets = sorted(
        {name.partition(".")[0] for name in api_use.used()["ui"]} | {"QFormLayout", "QBoxLayout", "QProcess", "QTimer", "QObject"}
    )
    further = [
        "QUrl",
        "QDropEvent",
        "QMimeData",
        "QSlider",
        "QHeaderView",
        "QClipboard",
        "QProcessEnvironment",
        "QByteArray",
        "QTableWidgetItem",
    ]
    for widget in [*widgets, *further, "qMRMLLayoutManager", "qMRMLSliceWidget", "qMRMLThreeDWidget", "qSlicerExtensionsManagerModel"]:
        if place := _guess_widget(widget, member):
            return place
    return ""


def add_missing() -> None:
    """Write api.toml anew with what it lacks, sorted, and without what the module no longer uses."""
    lines = [
        "# What the module uses of Slicer, Qt, CTK and VTK, and where it is defined; see api_where.py. Sections and names are sorted.",
        "",
    ]
    for section, names in api_use.used().items():
        known = api_use.listed().get(section, {})
        lines.append(f"[{section}]")
        lines += [f'"{name}" = "{known.get(name) or guess(section, name)}"' for name in sorted(names)]
        lines.append("")
    api_use.LIST.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    add_missing()
    sys.exit(0)
