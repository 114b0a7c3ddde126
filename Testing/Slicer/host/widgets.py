"""Stand-ins for the CTK and qMRML widgets that the panel uses: the same names, properties and signals, none of the code."""

from __future__ import annotations

import sys
import types

import slicer
from PySide6 import QtCore, QtWidgets

from .pythonqt import Dialect, UiLoader


def _property(kind, name, default):
    """A Qt property that is only stored."""

    def get(self):
        return self.__dict__.get(f"_{name}", default)

    def put(self, value):
        self.__dict__[f"_{name}"] = value
        self._refresh()

    return QtCore.Property(kind, get, put)


class ctkCollapsibleButton(Dialect, QtWidgets.QGroupBox):
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.__dict__["_collapsed"] = False
        self.__dict__["_text"] = ""

    def _put_text(self, text):
        self.__dict__["_text"] = text
        self._refresh()

    def _put_collapsed(self, collapsed):
        changed = self.__dict__["_collapsed"] != collapsed
        self.__dict__["_collapsed"] = collapsed
        self._refresh()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    def _refresh(self):
        collapsed = self.__dict__["_collapsed"]
        QtWidgets.QGroupBox.setTitle(self, ("\u25b8 " if collapsed else "\u25be ") + self.__dict__["_text"])
        QtWidgets.QGroupBox.setMaximumHeight(self, 22 if collapsed else 16777215)

    text = QtCore.Property(str, lambda self: self.__dict__["_text"], _put_text)
    collapsed = QtCore.Property(bool, lambda self: self.__dict__["_collapsed"], _put_collapsed)


class qMRMLWidget(Dialect, QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene):
        """What the .ui file's connections do in Slicer: they name a type that Qt does not know here."""
        for child in QtCore.QObject.findChildren(self, QtWidgets.QWidget):
            if isinstance(child, qMRMLNodeComboBox):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


class _SortFilterProxyModel(Dialect, QtCore.QObject):
    """The part of qMRMLSortFilterProxyModel that hides nodes."""

    def __init__(self, selector):
        super().__init__()
        self.__dict__["_selector"] = selector

    def invalidate(self):
        self._refresh()

    def _refresh(self):
        self._selector._refresh()

    hiddenNodeIDs = _property("QStringList", "hiddenNodeIDs", [])


class qMRMLNodeComboBox(Dialect, QtWidgets.QComboBox):
    currentNodeChanged = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)

    nodeTypes = _property("QStringList", "nodeTypes", [])
    showChildNodeTypes = _property(bool, "showChildNodeTypes", True)
    addEnabled = _property(bool, "addEnabled", True)
    removeEnabled = _property(bool, "removeEnabled", True)
    renameEnabled = _property(bool, "renameEnabled", False)
    noneEnabled = _property(bool, "noneEnabled", False)
    noneDisplay = _property(str, "noneDisplay", "None")
    baseName = _property(str, "baseName", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None
        self._id = None
        self._observations = []
        self._attributes = {}
        self._filter = _SortFilterProxyModel(self)
        QtWidgets.QWidget.setSizePolicy(self, QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self.activated.connect(self._chosen)
        self.destroyed.connect(lambda *_: self._unobserve())

    def setMRMLScene(self, scene):
        self._unobserve()
        self._scene = scene
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent)
            self._observations = [(scene, scene.AddObserver(event, lambda *_: self._refresh())) for event in events]
        self._refresh()

    def addAttribute(self, node_type, name, value=None):
        """Show only those nodes of a type that have an attribute, with a value if one is given."""
        self._attributes[node_type] = (name, value)
        self.setMRMLScene(self._scene)

    def sortFilterProxyModel(self):
        return self._filter

    def _shown(self, node):
        if node.GetID() in self._filter.hiddenNodeIDs:
            return False
        name, value = self._attributes.get(node.GetClassName(), (None, None))
        if name and self._scene is not None and not any(observed is node for observed, _ in self._observations):
            self._observations.append((node, node.AddObserver("ModifiedEvent", lambda *_: self._refresh())))
        found = node.GetAttribute(name) if name else None
        return not node.GetHideFromEditors() and (name is None or (found is not None and value in (None, found)))

    def currentNode(self):
        return self._scene.GetNodeByID(self._id) if self._scene is not None and self._id else None

    def currentNodeID(self):
        return self._id or ""

    def setCurrentNode(self, node):
        new_id = node.GetID() if node is not None else None
        if new_id != self._id:
            self._id = new_id
            self._refresh()
            self.currentNodeChanged.emit(node)

    def setCurrentNodeID(self, node_id):
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def addNode(self):
        node = self._scene.AddNewNodeByClass(self.nodeTypes[0], self._scene.GenerateUniqueName(self.baseName or "Volume"))
        self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def _unobserve(self):
        for scene, tag in self._observations:
            scene.RemoveObserver(tag)
        self._observations = []

    def _refresh(self):
        if self._scene is None:
            return
        nodes = [node for kind in self.nodeTypes for node in slicer.util.getNodesByClass(kind, self._scene)]
        nodes = [node for node in nodes if self._shown(node)]
        gone = self._id is not None and self._id not in [node.GetID() for node in nodes]
        if gone:
            self._id = None
        QtWidgets.QComboBox.clear(self)
        if self.noneEnabled or not nodes or self._id is None:
            QtWidgets.QComboBox.addItem(self, self.noneDisplay if self.noneEnabled else "Select a volume", None)
        for node in nodes:
            QtWidgets.QComboBox.addItem(self, node.GetName(), node.GetID())
        QtWidgets.QComboBox.setCurrentIndex(self, max(0, QtWidgets.QComboBox.findData(self, self._id)))
        if gone:
            self.currentNodeChanged.emit(None)

    def _chosen(self, index):
        node_id = QtWidgets.QComboBox.itemData(self, index)
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if node_id else None)


def install() -> None:
    """Make `import ctk` and slicer.qMRML* work, and let .ui files name them."""
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = ctkCollapsibleButton
    sys.modules["ctk"] = ctk
    for one in (qMRMLWidget, qMRMLNodeComboBox):
        setattr(slicer, one.__name__, one)
    UiLoader.custom = {one.__name__: one for one in (ctkCollapsibleButton, qMRMLWidget, qMRMLNodeComboBox)}
