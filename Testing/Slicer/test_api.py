"""Each API of Slicer, Qt, CTK and VTK that the module uses is on a list that says where it is defined, and it is defined there.

A name that this project or Python defines as well is not looked at: a method called `text` says nothing about whose it is.
"""

import importlib
import json
import os
from pathlib import Path

import api_use
import api_where
import pytest

SECTIONS = ("chains", "methods", "signals", "ui")
ENTRIES = [(section, name, where) for section in SECTIONS for name, where in api_use.listed().get(section, {}).items()]
RUN = "run: SLICER_SOURCE=... CTK_SOURCE=... python Testing/Slicer/api_where.py, and look at what it wrote"


def test_everything_that_the_module_uses_is_on_the_list():
    lacking = {section: dict(names) for section, names in api_use.unlisted().items() if names}
    assert not lacking, RUN


def test_nothing_is_on_the_list_that_the_module_does_not_use():
    left = {name for section, name, _where in ENTRIES if name not in api_use.used()[section]}
    assert not left, RUN


def test_what_installed_packages_can_tell_confirms_the_list(session_host):
    wrong = [entry for entry in ENTRIES if api_where.defined(*entry[1:]) is False]
    assert not wrong


def test_most_of_the_list_is_confirmed_without_a_source(session_host, monkeypatch):
    monkeypatch.setattr(api_where, "SOURCES", dict.fromkeys(api_where.SOURCES))
    told = [api_where.defined(*entry[1:]) for entry in ENTRIES]
    assert sum(one is True for one in told) > 0.7 * len(told)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("SetWindwLevel", "Libs/MRML/Core/vtkMRMLScalarVolumeDisplayNode.h"),
        ("slicer.mrmlScene.GetNodeByIdentity", "Libs/MRML/Core/vtkMRMLScene.h"),
        ("qt.QTextCodec", "Qt: QTextCodec"),
        ("QLabel.collapsed", "Qt: QLabel"),
        ("vtk.vtkImageReslicer", "VTK: vtkImageReslicer"),
    ],
)
def test_a_name_that_is_not_there_is_found_out(session_host, name, where):
    assert api_where.defined(name, where) is False


def test_the_reader_sees_chains_methods_signals_and_widgets():
    import ast

    source = """
import slicer, json
from slicer.util import VTKObservationMixin
def f(self, node):
    slicer.app.layoutManager().sliceWidget("Red")
    node.GetDisplayNode().SetWindowLevel(1, 2)
    self.ui.applyButton.toolTip = json.dumps(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLModelNode"))
    node.connect("clicked(bool)", f)
"""
    found = api_use._Reader(ast.parse(source), {"f", "ui"}, {"applyButton": "QPushButton"}).found
    assert found["chains"] == {
        "slicer.util.VTKObservationMixin",
        "slicer.app.layoutManager",
        "slicer.mrmlScene.GetFirstNodeByClass",
        "slicer.vtkMRMLModelNode",
    }
    assert found["methods"] == {"sliceWidget", "GetDisplayNode", "SetWindowLevel", "connect"}
    assert found["signals"] == {"clicked(bool)"} and found["ui"] == {"QPushButton.toolTip"}


@pytest.mark.skipif(not os.environ.get("SLICER_SOURCE"), reason="SLICER_SOURCE names no checkout of Slicer's source")
def test_the_list_agrees_with_slicers_source():
    wrong = []
    for _section, name, where in ENTRIES:
        if where.startswith(("Qt: ", "VTK: ", "Extension ")):
            continue
        if api_where._in_source(where, api_where._member(name)) is False and not _inherited(name, where):
            wrong.append((name, where))
    assert not wrong


def _inherited(name, where):
    """Whether the class of a header file has `name` from a base class, as far as slicer-core tells."""
    return (
        api_where._in_slicer_core(Path(where).stem, api_where._member(name)) is True and Path(os.environ["SLICER_SOURCE"], where).is_file()
    )


@pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="PyQt5, which brings Qt 5.15, is not installed")
def test_qt_5_has_it_too():
    """PyQt5 has signals of its own kind instead of connect and disconnect, which PythonQt gives every object."""
    wrong = []
    for _section, name, where in ENTRIES:
        if where.startswith("Qt: "):
            member, kind = api_where._member(name), where[4:]
            modules = (importlib.import_module(f"PyQt5.{module}") for module in ("QtWidgets", "QtGui", "QtCore"))
            found = next(filter(None, (getattr(module, kind, None) for module in modules)), None)
            meta = getattr(found, "staticMetaObject", None)
            if not (
                member in (kind, "connect", "disconnect", "__init__")
                or hasattr(found, member)
                or (meta is not None and meta.indexOfProperty(member) >= 0)
            ):
                wrong.append((name, where))
    assert not wrong


@pytest.mark.skipif(not os.environ.get("SLICER_SOURCE"), reason="SLICER_SOURCE names no checkout of Slicer's source")
def test_the_extensions_description_is_valid_against_slicers_own_schema():
    schema = json.loads(Path(os.environ["SLICER_SOURCE"], "Schemas", "slicer-extension-catalog-entry-schema-v1.0.2.json").read_text())
    said = json.loads((api_use.ROOT / "Resources" / "SparseCTRecon.json").read_text(encoding="utf-8"))
    assert set(schema["required"]) <= set(said) <= set(schema["properties"])
    kinds = {"string": str, "array": list, "integer": int, "boolean": bool}
    for key, value in said.items():
        rule = schema["properties"][key]
        assert isinstance(value, kinds[rule["type"]])
        assert rule.get("minimum", 0) <= (value if isinstance(value, int) else 0) <= rule.get("maximum", 99) or isinstance(value, str)
    assert said["$schema"] == schema["$id"]
