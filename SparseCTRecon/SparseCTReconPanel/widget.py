"""The panel: its sections, the scene's parameters, and the life of both."""

import sys
import types

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .about_section import AboutSection
from .compare_section import CompareSection
from .corrections_section import CorrectionsSection
from .logic import SparseCTReconLogic, stopAtQuit
from .method_section import MethodSection
from .run_section import RunSection
from .scan_node import isScan
from .scan_section import ScanSection
from .trust_section import TrustSection

SECTIONS = (ScanSection, CorrectionsSection, MethodSection, RunSection, CompareSection, TrustSection, AboutSection)


class SparseCTReconWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Uses ScriptedLoadableModuleWidget base class, available at:
    https://github.com/Slicer/Slicer/blob/main/Base/Python/slicer/ScriptedLoadableModule.py
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self.parameterNode = None
        self.run = None
        self.sections = []
        self._guiTag = None
        self._undoStopAtQuit = None

    def setup(self):
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SparseCTRecon.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        frame = slicer.util.childWidgetVariables(uiWidget)

        self.logic = SparseCTReconLogic()
        self._undoStopAtQuit = stopAtQuit(self.logic)
        self.sections = [Section(self) for Section in SECTIONS]
        self.logic.queue.onRunChanged = self.onRunChanged
        for position, section in enumerate(self.sections, start=1):  # below the notice
            uiWidget.layout().insertWidget(position, section.widget)
        self.ui = types.SimpleNamespace(
            **{name: one for part in (frame, *(s.ui for s in self.sections)) for name, one in vars(part).items()}
        )
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application closes and the module widget is destroyed."""
        if self.logic:
            self.logic.stopAll(_("The panel was closed: the reconstruction was stopped."))
            self._undoStopAtQuit()
            self.logic = None
        for section in self.sections:
            section.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def onReload(self):
        """Reload the panel's own package too: Slicer reloads the module file only."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "SparseCTReconPanel"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def exit(self):
        """Called each time the user opens a different module; a reconstruction goes on."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        """Called just before the scene is closed."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """Called just after a scene was opened: the nodes that the parameters refer to are there only now."""
        if self.parameterNode:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Ensure parameter node exists and observed."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self.parameterNode.inputVolume:
            kind = "vtkMRMLScalarVolumeNode"  # label maps derive from it
            volumeNodes = [node for node in slicer.util.getNodesByClass(kind) if node.GetClassName() == kind]
            firstVolumeNode = next((node for node in volumeNodes if not isScan(node)), None)
            if firstVolumeNode:
                self.parameterNode.inputVolume = firstVolumeNode

    def setParameterNode(self, inputParameterNode):
        """Set and observe parameter node."""
        if self.parameterNode:
            self.parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)
        self.parameterNode = inputParameterNode
        if self.parameterNode:
            # Not connectGui: in Slicer 5.12 it forgets to return the tag that disconnects.
            self._guiTag = self.parameterNode.connectParametersToGui(self._boundWidgets())
            self.addObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)
            self.update()

    def onRunChanged(self, run):
        """Called whenever a run has something new, also one that a script has started."""
        if not run.waiting:
            self.run = run
        for section in self.sections:
            section.onRunChanged(run)

    def update(self, caller=None, event=None):
        """Let every section show what follows from the parameters."""
        if self.parameterNode:
            for section in self.sections:
                section.update()

    def section(self, kind):
        """The section of a class."""
        return next(section for section in self.sections if isinstance(section, kind))

    def _boundWidgets(self):
        """The widgets by the names of the parameters that their dynamic property asks for."""
        bound = ((widget.property("SlicerParameterName"), widget) for widget in vars(self.ui).values() if hasattr(widget, "property"))
        return {name: widget for name, widget in bound if name}
