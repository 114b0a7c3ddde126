"""A look at a scan: its projections and its orbit, stepped through together by the sliders of the section."""

import slicer
from slicer.i18n import tr as _

from .orbit import OrbitDisplay
from .projection_view import ProjectionDisplay


class ScanDisplay:
    """Shows projections in the slice views and the orbit in 3D for as long as their boxes are checked.

    Parameters
    ----------
    ui : object
        The section's widgets: the two check boxes, the sliders of view and detector row with their labels.
    """

    def __init__(self, ui):
        self._ui = ui
        self.orbit = OrbitDisplay()
        self.projections = ProjectionDisplay(self._onScrolled)
        self._geometry = self._nodeID = self._transformNodeID = None
        for box in (ui.showProjectionsCheckBox, ui.showOrbitCheckBox):
            box.connect("toggled(bool)", lambda *_: self._show())
        for slider in (ui.viewSlider, ui.rowSlider):
            slider.connect("valueChanged(int)", lambda *_: self._step())

    def follow(self, geometry, node, transformNodeID):
        """Show another scan: its Geometry and its node, both None where there is none (yet)."""
        if geometry is not self._geometry or transformNodeID != self._transformNodeID:
            self.orbit.hide()
        self._geometry, self._transformNodeID = geometry, transformNodeID
        self._nodeID = node.GetID() if node else None
        self._show()

    def hide(self):
        self.orbit.hide()
        self.projections.hide()

    @property
    def _node(self):
        return slicer.mrmlScene.GetNodeByID(self._nodeID) if self._nodeID else None

    def _show(self):
        """Make the scene as the check boxes say."""
        ui, node, geometry = self._ui, self._node, self._geometry
        _offer(
            ui.showOrbitCheckBox, geometry, _("Show the source, the detector and the field of view in 3D."), _("There is no scan to show.")
        )
        _offer(ui.showProjectionsCheckBox, node, _("Show the projections in the slice views."), _("Simulate or load the scan first."))
        orbit = geometry is not None and ui.showOrbitCheckBox.checked
        projections = node is not None and ui.showProjectionsCheckBox.checked
        if projections and self.projections.node is not node:
            self._setRange(geometry)
            ui.rowSlider.value = geometry.detector_shape[0] // 2
            self.projections.show(node)
        elif not projections:
            self.projections.hide()
        if orbit and not self.orbit.shown:
            self.orbit.show(geometry, self._transformNodeID)
            _resetThreeDViews()
        elif not orbit:
            self.orbit.hide()
        for widget in (ui.viewLabel, ui.viewSlider, ui.viewNumberLabel):
            widget.setVisible(orbit or projections)
        for widget in (ui.rowLabel, ui.rowSlider, ui.rowNumberLabel):
            widget.setVisible(projections)
        if orbit or projections:
            self._setRange(geometry)
            self._step()

    def _setRange(self, geometry):
        self._ui.viewSlider.setRange(0, geometry.views - 1)
        self._ui.rowSlider.setRange(0, geometry.detector_shape[0] - 1)

    def _step(self):
        """Show the view and the detector row of the sliders."""
        self.projections.step(self._ui.viewSlider.value, self._ui.rowSlider.value)
        self._follow()

    def _follow(self):
        """What follows from the sliders' values, except in the slice views."""
        ui, geometry = self._ui, self._geometry
        if geometry is None or ui.viewSlider.value >= geometry.views:
            return
        view = ui.viewSlider.value
        angle = geometry.gantry_angles_rad[view] * 57.29577951308232
        ui.viewNumberLabel.text = _("{number} of {views}, {angle:.1f} deg").format(number=view + 1, views=geometry.views, angle=angle)
        ui.rowNumberLabel.text = _("{number} of {rows}").format(number=ui.rowSlider.value + 1, rows=geometry.detector_shape[0])
        self.orbit.setView(view, self._pixels(view))

    def _pixels(self, view):
        """A projection in the gray values of its slice view, 0 to 1; None where there is none."""
        if self._node is None or not self.orbit.shown:
            return None
        lowest = self._node.GetDisplayNode().GetWindowLevelMin()
        width = self._node.GetDisplayNode().GetWindowLevelMax() - lowest
        return (slicer.util.arrayFromVolume(self._node)[view] - lowest) / (width or 1.0)

    def _onScrolled(self, view, row):
        for slider, value in ((self._ui.viewSlider, view), (self._ui.rowSlider, row)):
            if value is not None:
                blocked = slider.blockSignals(True)
                slider.value = value
                slider.blockSignals(blocked)
        self._follow()


def _offer(box, there, purpose, why):
    box.enabled = there is not None
    box.toolTip = purpose if there is not None else why


def _resetThreeDViews():
    """Let the whole orbit be in sight; without a main window there is nothing to see it in."""
    if slicer.app.layoutManager():
        slicer.util.resetThreeDViews()
