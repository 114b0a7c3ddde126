"""`slicer.app`, `slicer.util` and `slicer.modules` as a scripted module finds them, and the host that puts all together."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from . import pythonqt, scripted, widgets
from .files import CoreIOManager
from .scene import Scene


class _ModuleManager(pythonqt.Dialect, QtCore.QObject):
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    _modules: dict[str, _Module]

    def module(self, name):
        return self._modules.get(name)


class _Module:
    """What qSlicerScriptedLoadableModule is for `slicer.util`: a module with one widget, which is made when it is asked for."""

    def __init__(self, host, name):
        self.name = name
        self._host, self._representation = host, None

    def widgetRepresentation(self):
        self._representation = self._representation or _Representation(self._host.open(self.name, entered=False))
        return self._representation

    def close(self) -> None:
        if self._representation:
            self._representation.self().cleanup()
            self._representation.self().parent.close()
        self._representation = None


class _Representation:
    def __init__(self, widget):
        self._widget = widget

    def self(self):
        return self._widget


class Application(pythonqt.Dialect, QtWidgets.QApplication):
    """The part of qSlicerApplication that a module touches."""

    startupCompleted = QtCore.Signal()
    _folder = ""

    temporaryPath = QtCore.Property(str, lambda self: self.__dict__["_folder"])
    applicationName = QtCore.Property(str, lambda self: "SparseCTRecon test host")
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 12)

    def testingEnabled(self):
        return True

    def layoutManager(self):
        return self.__dict__.get("_layout_manager")  # none, as without a main window; a test may put one in, see layout.py

    def moduleManager(self):
        return self.__dict__["_module_manager"]

    def coreIOManager(self):
        return CoreIOManager()

    def commandOptions(self):
        return types.SimpleNamespace(runPythonAndExit=False)

    def translate(self, context, text):
        return text


class Host:
    """One test session's Slicer: `slicer.app`, a real scene, and the modules loaded into them."""

    def __init__(self, real_python: Path | None = None):
        self.folder = tempfile.mkdtemp(prefix="slicer-host-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.errors: list[str] = []
        self.qt = pythonqt.install()
        self.app = QtWidgets.QApplication.instance() or Application(["host"])
        QtCore.QCoreApplication.setApplicationVersion("5.12.3-2026-07-22")
        self.app.__dict__["_folder"] = self.folder
        self._manager = self.app.__dict__["_module_manager"] = _ModuleManager()
        self._manager.__dict__["_modules"] = {}
        widgets.install()
        scripted.install(real_python)
        slicer.app = self.app
        slicer.modules = types.SimpleNamespace()
        slicer.qSlicerScriptedLoadableModule, slicer.qSlicerScriptedLoadableModuleWidget = _Module, _Representation
        slicer.util.mainWindow = lambda: None
        slicer.util.modulePath = lambda name: self.modules[name].parent.path
        slicer.util.settingsValue = lambda key, default, converter=None, settings=None: default
        slicer.util.errorDisplay = self._note_error
        self.modules: dict[str, object] = {}
        self.scene = Scene(self.folder)

    def _note_error(self, text, *args, detailedText="", **kwargs):
        self.errors.append(f"{text}\n{detailedText}".strip())

    def load(self, path) -> types.ModuleType:
        """Import a scripted module's file, unmodified, and make its module object as Slicer does at start-up."""
        path = Path(path)
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        parent = types.SimpleNamespace(path=str(path))
        self.modules[path.stem] = getattr(module, path.stem)(parent)
        self._manager._modules[path.stem] = _Module(self, path.stem)
        return module

    def open(self, name: str, width: int = 460, entered: bool = True):
        """Open the panel of a loaded module: make its widget, set it up, enter it and show it, or not (as for a script)."""
        parent = widgets.qMRMLWidget()
        QtWidgets.QWidget.setLayout(parent, self.qt.QVBoxLayout())
        parent.__dict__["isEntered"] = entered
        QtWidgets.QWidget.resize(parent, width, 700)
        widget = getattr(sys.modules[name], f"{name}Widget")(parent)
        widget.setup()
        if entered:
            widget.enter()
            QtWidgets.QWidget.show(parent)
        self.process_events()
        return widget

    def process_events(self) -> None:
        """Do what an event loop does; deleting later is not part of processEvents, where there is no loop."""
        self.app.processEvents()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)

    def show_views(self):
        """Go on with a layout manager, which is returned, as Slicer does with a main window."""
        from .layout import LayoutManager

        made = self.app.__dict__["_layout_manager"] = LayoutManager(self.scene.mrml, self.scene.application_logic)
        return made

    def hide_views(self) -> None:
        """Go on without a layout manager."""
        self.app.__dict__.pop("_layout_manager").close()

    def clear(self) -> None:
        """Close what scripts have opened and the scene, and forget the errors shown."""
        for module in self._manager._modules.values():
            module.close()
        self.scene.close()
        self.errors.clear()


def start(real_python: Path | None = None) -> Host:
    """Start the host; at most one for each process.

    Parameters
    ----------
    real_python : Path, optional
        ``Base/Python/slicer`` of Slicer's source: its own parameterNodeWrapper, ScriptedLoadableModule, i18n and packaging are then used
        instead of the stand-ins.
    """
    return Host(real_python)
