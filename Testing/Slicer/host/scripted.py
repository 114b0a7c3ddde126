"""Stand-ins for slicer.ScriptedLoadableModule, slicer.i18n, slicer.packaging and, from parameternode.py, slicer.parameterNodeWrapper."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
import types
import unittest

import slicer

_MODULES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper", "packaging")


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name):
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name):
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", name)

    def setup(self):
        pass

    def cleanup(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        return node or self._newParameterNode()

    def _newParameterNode(self):
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self):
        """What "Reload and Test" calls."""
        for name in [one for one in dir(self) if "test" in one and callable(getattr(self, one))]:
            self.setUp()
            getattr(self, name)()
            self.tearDown()

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        pass


def load_requirements(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip() and not line.startswith(("#", "-"))]


def pip_check(requirement):
    """Whether the package is there; the version is not looked at."""
    try:
        importlib.metadata.version(re.match(r"[\w.-]+", str(requirement)).group())
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def pip_ensure(requirements, **kwargs):
    """As under Slicer's --testing: nothing is installed."""


def install(real_python=None) -> None:
    """Make `slicer.i18n` and the others importable: the stand-ins, or Slicer's own files in the folder `real_python`."""
    if real_python is not None:
        slicer.__path__.append(str(real_python))
        slicer.qMRMLSliderWidget = slicer.qMRMLSpinBox = slicer.qMRMLRangeWidget = type("Absent", (), {})
        slicer.app = types.SimpleNamespace(translate=lambda context, text: text)
        _absent_ctk_classes()
        for name in _MODULES:
            setattr(slicer, name, importlib.import_module(f"slicer.{name}"))
        return
    from . import parameternode

    i18n = {"tr": lambda text: text, "translate": lambda context, text: text}
    here = {name: value for name, value in globals().items() if name.startswith("Scripted")}
    packaging = {"load_requirements": load_requirements, "pip_check": pip_check, "pip_ensure": pip_ensure}
    for name, content in zip(_MODULES, (i18n, here, vars(parameternode), packaging), strict=True):
        module = types.ModuleType(f"slicer.{name}")
        module.__dict__.update({key: value for key, value in content.items() if not key.startswith("__")})
        sys.modules[module.__name__] = module
        setattr(slicer, name, module)


def _absent_ctk_classes() -> None:
    class Ctk(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("ctk"):
                setattr(self, name, type(name, (), {}))
                return self.__dict__[name]
            raise AttributeError(name)

    ctk = Ctk("ctk")
    ctk.__dict__.update({name: value for name, value in vars(sys.modules["ctk"]).items() if name.startswith("ctk")})
    sys.modules["ctk"] = ctk
