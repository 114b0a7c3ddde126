"""What the panel's sections have in common."""

import slicer


class Section:
    """A part of the panel: a .ui file of its own, and what happens in it.

    Parameters
    ----------
    panel : SparseCTReconWidget
        Has the logic, the parameter node (None while no scene is open or another module is), the runs and the other sections' widgets.

    Attributes
    ----------
    widget : qMRMLWidget
        The outermost widget, for the panel's layout.
    ui : object
        The widgets of the .ui file by their names, which are unique in the panel.
    """

    uiFile = ""

    def __init__(self, panel):
        self.panel = panel
        self.widget = slicer.util.loadUI(panel.resourcePath(f"UI/{self.uiFile}"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.widget.setMRMLScene(slicer.mrmlScene)

    @property
    def parameters(self):
        return self.panel.parameterNode

    def update(self):
        """Show what follows from the parameters, which are there; called whenever one has changed."""

    def onRunChanged(self, run):
        """Called whenever a run has something new; `run` is its handle."""

    def cleanup(self):
        """Let go of everything; the panel is closed."""
