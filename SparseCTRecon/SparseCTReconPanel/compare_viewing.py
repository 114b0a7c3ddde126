"""What the section "Compare" shows in the views: the linked layout, differences, fading, profiles and presets."""

import qt
import slicer
from slicer.i18n import tr as _

from . import differences, display
from .compare_views import ORIENTATIONS, CompareViews, fadeInSliceViews
from .profiles import LineProfile

PRESETS = {"CT_ABDOMEN": "Abdomen", "CT_BONE": "Bone", "CT_LUNG": "Lung", "CT_BRAIN": "Brain", "CT_AIR": "Air"}


class CompareViewing:
    """Follows the widgets of the group "Views".

    Parameters
    ----------
    ui : object
        The section's widgets.
    chosen : callable
        Gives the reference (or None) and the results.
    say : callable
        Shows a sentence in the panel.
    """

    def __init__(self, ui, chosen, say):
        self._ui, self._chosen, self._say = ui, chosen, say
        self.views = CompareViews()
        self.profile = None
        self._steps = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._goOn)
        ui.compareOrientationSelector.addItems([_(name) for name in ORIENTATIONS])
        ui.windowPresetSelector.addItem(_("as it is"), "")
        for preset in display.WINDOW_PRESETS:
            ui.windowPresetSelector.addItem(_(PRESETS[preset]), preset)
        ui.renderingPresetSelector.addItem(_("off"), "")
        for preset in display.RENDERING_PRESETS:
            ui.renderingPresetSelector.addItem(preset, preset)
        self._connect()

    def refresh(self):
        """Show what is chosen now; as long as nothing is, all stays."""
        self._try(self._showChosen)

    def close(self):
        """Let go of everything; the user's layout comes back."""
        self._timer.stop()
        if self.profile:
            self.profile.close()
        self.views.restore()

    def reset(self):
        """The scene was closed: nothing is shown any more."""
        self._timer.stop()
        self._steps = None
        if self.profile:
            self.profile.close()
            self.profile = None
        self.views.restore()
        for button in (self._ui.sideBySideButton, self._ui.differencesButton, self._ui.profileButton):
            button.checked = False

    def _connect(self):
        ui = self._ui
        for widget, signal, slot in (
            (ui.sideBySideButton, "clicked(bool)", self._onSideBySide),
            (ui.differencesButton, "clicked(bool)", self._onDifferences),
            (ui.profileButton, "clicked(bool)", self._onProfile),
            (ui.compareFadeSlider, "valueChanged(int)", self._onFade),
            (ui.compareOrientationSelector, "currentIndexChanged(int)", self._onOrientation),
            (ui.differenceRangeSpinBox, "valueChanged(double)", self._onRange),
            (ui.windowPresetSelector, "activated(int)", self._onWindowPreset),
            (ui.renderingPresetSelector, "activated(int)", self._onRenderingPreset),
        ):
            widget.connect(signal, lambda *_arguments, slot=slot: self._try(slot))

    def _showChosen(self):
        if not all(self._chosen()):
            self._timer.stop()
            return
        if self._ui.differencesButton.checked:
            self._makeDifferences()
        if self.profile:
            self._makeProfile()
        self._showInLayout()

    def _showInLayout(self):
        if self._ui.sideBySideButton.checked:
            self._show()

    def _layOut(self):
        """Go to the layout that shows differences and profile, if there is a window."""
        if slicer.app.layoutManager() is not None:
            self._ui.sideBySideButton.checked = True
            self._show()

    def _try(self, slot):
        try:
            slot()
        except Exception as error:
            self._say(str(error))

    def _needBoth(self, button):
        """Whether there is something to compare; else `button` comes up again."""
        if all(self._chosen()):
            return True
        button.checked = False
        self._say(_("Select a reference and check at least one result."))
        return False

    def _onSideBySide(self):
        button = self._ui.sideBySideButton
        if not button.checked:
            self.views.restore()
        elif self._needBoth(button) and not self._show():
            button.checked = False
            self._say(_("There is no window to show the volumes in."))

    def _onDifferences(self):
        button = self._ui.differencesButton
        if not button.checked:
            self._timer.stop()
            differences.removeDifferences()
            self._showInLayout()
        elif self._needBoth(button):
            self._makeDifferences()
            self._layOut()

    def _onProfile(self):
        button = self._ui.profileButton
        if not button.checked:
            self._removeProfile()
            self._showInLayout()
        elif self._needBoth(button):
            button.checked = False  # unless it succeeds
            self._makeProfile()
            button.checked = True
            self._layOut()

    def _onFade(self):
        fade = self._ui.compareFadeSlider.value / 100
        reference, results = self._chosen()
        if self.views.shown:
            self.views.setFade(fade)
        elif reference and results:
            fadeInSliceViews(reference, results[0], fade)

    def _onOrientation(self):
        if self.views.shown:
            self.views.setOrientation(self._orientation)

    def _onRange(self):
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if differences.isDifference(node):
                differences.setRange(node, self._ui.differenceRangeSpinBox.value)

    def _onWindowPreset(self):
        reference, results = self._chosen()
        preset = self._ui.windowPresetSelector.currentData
        if preset:
            display.applyWindowPreset([node for node in (reference, *results) if node], preset)

    def _onRenderingPreset(self):
        reference, results = self._chosen()
        node = results[0] if results else reference
        if node:
            display.render(node, self._ui.renderingPresetSelector.currentData)

    @property
    def _orientation(self):
        return ORIENTATIONS[self._ui.compareOrientationSelector.currentIndex]

    def _show(self):
        reference, results = self._chosen()
        if not (reference and results):
            return False
        found = [differences.findDifference(reference, result) for result in results] if self._ui.differencesButton.checked else []
        chart = self.profile.chartNode if self.profile else None
        fade = self._ui.compareFadeSlider.value / 100
        return self.views.show(reference, results, found if all(found) else (), chart, self._orientation, fade)

    def _makeProfile(self):
        line = self.profile.lineNode if self.profile else None
        reference, results = self._chosen()
        made = LineProfile([reference, *results], line)
        if self.profile:
            made.ownsLine = self.profile.ownsLine
            self.profile.remove(keepLine=True)
        self.profile = made

    def _removeProfile(self):
        if self.profile:
            self.profile.remove()
            self.profile = None

    def _makeDifferences(self):
        self._steps = self._allSteps(*self._chosen())
        self._timer.start()

    def _allSteps(self, reference, results):
        for nodeID in [result.GetID() for result in results if not differences.isUpToDate(reference, result)]:
            result = slicer.mrmlScene.GetNodeByID(nodeID)
            if result:
                yield from differences.differenceInSteps(reference, result)
        self._onRange()

    def _goOn(self):
        """Make the differences a slab at a time, so that the window answers between them."""
        try:
            next(self._steps)
        except StopIteration:
            self._timer.stop()
            self._try(self._showInLayout)
        except Exception as error:
            self._timer.stop()
            self._ui.differencesButton.checked = False
            self._say(str(error))
