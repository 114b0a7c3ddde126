"""PySide6 as PythonQt shows Qt: properties are attributes, signals connect by their signature, `qt` is a flat module.

Only classes that the module `qt` (or `ctk`, `slicer`) hands out, and widgets made from a .ui file, speak this dialect.
"""

from __future__ import annotations

import ctypes
import sys
import types

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

# Qt asks Python for these virtual methods by name: as properties they would not be callable.
_METHODS = frozenset({"sizeHint", "minimumSizeHint", "property", "setProperty", "metaObject", "dynamicPropertyNames"})
_MODULES = (QtCore, QtGui, QtWidgets)


def _is_property(obj, name: str) -> bool:
    return name not in _METHODS and QtCore.QObject.metaObject(obj).indexOfProperty(name) >= 0


class Dialect:
    """Mixed into a QObject class, before it."""

    def __getattribute__(self, name):
        if name.startswith("_"):
            return super().__getattribute__(name)
        if name in ("connect", "disconnect"):
            return _Connector(self, name)
        if name == "name":
            return QtCore.QObject.objectName(self)
        if name == "className":
            return lambda: type(self).__name__
        if _is_property(self, name):
            return QtCore.QObject.property(self, name)
        return super().__getattribute__(name)

    def __setattr__(self, name, value):
        if name == "name":
            QtCore.QObject.setObjectName(self, value)
        elif not name.startswith("_") and _is_property(self, name):
            QtCore.QObject.setProperty(self, name, value)
        else:
            super().__setattr__(name, value)


class _Connector:
    """`object.connect("signal(types)", slot)` of PythonQt."""

    def __init__(self, sender, how):
        self._sender, self._how = sender, how

    def __call__(self, signature, slot):
        signal = super(Dialect, self._sender).__getattribute__(signature.partition("(")[0])
        return getattr(signal, self._how)(slot)


_classes: dict[type, type] = {}


def dialect_of(base: type) -> type:
    """The class `base` of PySide6 speaking PythonQt."""
    if base not in _classes:
        _classes[base] = type(base.__name__, (Dialect, base), {})
    return _classes[base]


class _QtModule(types.ModuleType):
    def __getattr__(self, name):
        # PySide6 makes its types when they are asked for: vars(QtCore) does not list them.
        for module in _MODULES:
            found = getattr(module, name, None)
            if found is not None:
                if isinstance(found, type) and issubclass(found, QtCore.QObject):
                    return dialect_of(found)
                return found
        raise AttributeError(f"module 'qt' has no attribute {name!r}")


class UiLoader(QtUiTools.QUiLoader):
    """Makes every widget of a .ui file in the dialect; `custom` holds the classes that Qt does not have."""

    custom: dict[str, type] = {}

    def __init__(self, parent=None):
        super().__init__(parent)
        # The outermost widget has no parent that would keep its Python half alive until `load` returns it.
        self._made = []

    def createWidget(self, class_name, parent=None, name=""):
        base = getattr(QtWidgets, class_name, None)
        widget_class = self.custom.get(class_name) or (dialect_of(base) if base else None)
        if widget_class is None:
            raise RuntimeError(f"the test host has no stand-in for {class_name}")
        widget = widget_class(parent)
        QtCore.QObject.setObjectName(widget, name)
        self._made.append(widget)
        return widget


def _spare_singletons() -> None:
    """Let None, True and False outlive PySide6 6.12, which gives them away once for each call before Python 3.12 made them immortal."""
    if sys.version_info < (3, 12):
        for one in (None, True, False):
            ctypes.c_ssize_t.from_address(id(one)).value += 1 << 40


def install() -> types.ModuleType:
    """Make `import qt` work and return the module."""
    _spare_singletons()
    module = _QtModule("qt")
    module.QUiLoader = UiLoader
    module.Signal = QtCore.Signal
    sys.modules["qt"] = module
    return module
