"""A small stand-in for slicer.parameterNodeWrapper: typed properties over a vtkMRMLScriptedModuleNode, bound to widgets by name."""

from __future__ import annotations

import enum
import typing
from dataclasses import dataclass

import qt
import slicer
import vtk


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


class Choice:
    def __init__(self, choices):
        self.choices = list(choices)

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")


class _Parameter:
    """One typed parameter: its text or node reference in the parameter node."""

    def __init__(self, name, annotation, default):
        self.name = name
        self.type, *self.notes = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        self.default = default

    def note(self, kind):
        return next((note for note in self.notes if isinstance(note, kind)), None)

    def read(self, node):
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node, value):
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
            return
        if not isinstance(value, self.type):
            raise ValueError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        for note in self.notes:
            note.check(value)
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class _Binding:
    """A widget and how its value is read, written and followed."""

    def __init__(self, widget, parameter):
        self.widget, self._slot = widget, None
        self._prepare(parameter)

    def _prepare(self, parameter):
        widget = self.widget
        kinds = (
            (qt.QCheckBox, "checked", "toggled"),
            (qt.QSpinBox, "value", "valueChanged"),
            (qt.QDoubleSpinBox, "value", "valueChanged"),
            (qt.QLineEdit, "text", "textChanged"),
        )
        if isinstance(widget, slicer.qMRMLNodeComboBox):
            self.read, self.write, self._signal = widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
        elif isinstance(widget, qt.QComboBox):
            self._prepare_combo(parameter)
        else:
            name, signal = next((name, signal) for kind, name, signal in kinds if isinstance(widget, kind))
            self.read, self.write = lambda: getattr(widget, name), lambda value: setattr(widget, name, value)
            self._signal = getattr(widget, signal)
            limits = parameter.note(WithinRange)
            if limits:
                widget.setRange(limits.minimum, limits.maximum)

    def _prepare_combo(self, parameter):
        widget, choice = self.widget, parameter.note(Choice)
        values = choice.choices if choice else list(parameter.type)
        label = getattr(parameter.type, "label", lambda one: one.name)
        widget.clear()
        for value in values:
            widget.addItem(value if choice else label(value))
        self.read = lambda: values[widget.currentIndex]
        self.write = lambda value: setattr(widget, "currentIndex", values.index(value))
        self._signal = widget.currentIndexChanged

    def follow(self, slot):
        self._slot = lambda *_: slot()
        self._signal.connect(self._slot)

    def forget(self):
        self._signal.disconnect(self._slot)


def parameterNodeWrapper(cls):
    """Class decorator: annotations become properties over a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {name: getattr(cls, name, None) for name in hints}
    cls.allParameters = {name: _Parameter(name, hint, defaults[name]) for name, hint in hints.items()}
    for name, parameter in cls.allParameters.items():
        setattr(cls, name, _property(parameter))
    for name, function in vars(_Wrapper).items():
        if callable(function):
            setattr(cls, name, function)
    return cls


def _property(parameter):
    return property(lambda self: parameter.read(self.parameterNode), lambda self, value: parameter.write(self.parameterNode, value))


class _Wrapper:
    """Methods of every wrapped class."""

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._bindings, self._tags, self._showing = {}, {}, False
        for parameter in self.allParameters.values():
            if not parameter.is_node and not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    def connectParametersToGui(self, mapping):
        tag = len(self._bindings)
        bindings = {name: _Binding(widget, self.allParameters[name]) for name, widget in mapping.items()}
        self._bindings[tag] = bindings
        for name, binding in bindings.items():
            binding.write(getattr(self, name))
            binding.follow(lambda name=name, binding=binding: self._take(name, binding))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())
        return tag

    def disconnectGui(self, tag):
        for binding in self._bindings.pop(tag, {}).values():
            binding.forget()
        if tag in self._tags:
            self.RemoveObserver(self._tags.pop(tag))

    def _take(self, name, binding):
        if not self._showing:
            setattr(self, name, binding.read())

    def _show(self):
        if self._showing:
            return
        self._showing = True
        try:
            for bindings in self._bindings.values():
                for name, binding in bindings.items():
                    if binding.read() != getattr(self, name):
                        binding.write(getattr(self, name))
        finally:
            self._showing = False

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()
