"""Makes the pictures of the README's tutorial by doing what it says, with real workers:

python Testing/Slicer/screenshots.py [FOLDER]

To the left the panel in the test host, whose widgets stand in for Slicer's own; to the right what is in the scene, see host/rendering.py.
"""

import sys
import tempfile
import time
from pathlib import Path

import host
from conftest import ROOT, put_on_path
from host import rendering
from PySide6 import QtCore, QtGui, QtWidgets

WIDTH = 440
MARGIN = 8
COLOURS = 255
"""Of a picture: with a palette it takes a third of the space."""


class Tutorial:
    """One session: each method is a step of the tutorial and returns its picture."""

    def __init__(self):
        self.session = host.start()
        put_on_path(Path(tempfile.mkdtemp()), "PythonSlicer")
        self.session.load(ROOT / "SparseCTRecon" / "SparseCTRecon.py")
        import slicer

        self.slicer = slicer
        self.manager = self.session.show_views()
        slicer.util.loadVolume(str(ROOT / "Resources" / "SampleData" / "head_vhp_female_2mm.nrrd"), {"name": "SparseCTReconHead"})
        self.panel = self.session.open("SparseCTRecon", width=WIDTH)
        self.ui = self.panel.ui

    def scan(self):
        """Simulate: projections, sinogram, orbit."""
        self.ui.simulateButton.click()
        self.wait(lambda: not self.panel.run.active)
        self.ui.showOrbitCheckBox.checked = True
        self.ui.viewSlider.value = 12
        panel = self.grab("ScanSection")
        side = panel.height() // 2
        top = [self.view(name, side, fitted=False) for name in ("Red", "Green")]
        orbit = rendering.models_image((2 * side, panel.height() - side))
        return beside(panel, stacked(beside(*top), orbit))

    def corrections(self):
        """The detector's offset found and shown; what a scan needs, chosen."""
        self.ui.correctionsButton.collapsed = False
        section = self.section("CorrectionsSection")
        self.panel.update()
        self.ui.findOffsetButton.click()
        self.wait(lambda: section._run is None)
        section.choose("scatter", "on", "fraction=0.05")
        section.choose("rings", "measured")
        picture = self.grab("CorrectionsSection")
        for name in section.chosen():
            section.choose(name, "off")
        self.ui.correctionsButton.collapsed = True
        return picture

    def method(self):
        """Choose a method."""
        self.ui.showOrbitCheckBox.checked = self.ui.showProjectionsCheckBox.checked = False
        self.panel.parameterNode.method = "admm-tv"
        self.panel.parameterNode.voxelSize = 2.0
        return self.grab("MethodSection")

    def run(self):
        """Apply, and look at the volume while it sharpens."""
        self.ui.keepSnapshotsCheckBox.checked = True
        self.ui.logButton.collapsed = False
        self.ui.applyButton.click()
        self.ui.plotButton.checked = True
        self.wait(lambda: self.panel.run.previews >= 5 or not self.panel.run.active)
        panel = self.grab("RunSection")
        chart = next(iter(self.panel.run.charts.values()))
        side = panel.height() // 2
        views = beside(*(self.view(name, side) for name in ("Red", "Yellow")))
        picture = beside(panel, stacked(views, rendering.chart_image(chart, (2 * side, panel.height() - side))))
        self.wait(lambda: not self.panel.run.active)
        return picture

    def trust(self):
        """What contradicts the measurements, and what the views determine, over the result."""
        self.ui.trustSectionButton.collapsed = False
        section = self.section("TrustSection")
        section.refresh()
        self.ui.trustButton.click()
        self.wait(lambda: section.examination and not section.examination.active, 1800)
        label = self.ui.trustStatusLabel
        label.setMinimumHeight(label.heightForWidth(label.width))
        panel = self.grab("TrustSection")
        side = panel.height()
        maps = []
        for shown in (1, 2):
            self.ui.trustMapSelector.currentIndex = shown
            maps.append(self.view("Green", side))
        self.ui.trustMapSelector.currentIndex = 0
        self.ui.trustSectionButton.collapsed = True
        return beside(panel, *maps)

    def compare(self):
        """A second method beside the first one, their differences from the CT, and the figures."""
        self.panel.parameterNode.method = "fdk"
        self.ui.applyButton.click()
        self.wait(lambda: not self.panel.run.active)
        for button in (self.ui.compareSectionButton, self.ui.compareViewsButton):
            button.collapsed = False
        self.ui.compareButton.click()
        self.wait(lambda: not self.section("CompareSection").comparison.active)
        self.ui.differencesButton.click()
        self.wait(lambda: len(self.manager.sliceViewNames()) == 5)
        self.ui.compareOrientationSelector.currentIndex = 2
        panel = self.grab("CompareSection")
        side = panel.height() // 3
        names = self.manager.sliceViewNames()
        rows = [[name for name in names if name.endswith(number)] for number in "012"]
        return beside(panel, stacked(*(beside(*(self.view(name, side) for name in row)) for row in rows)))

    def section(self, name):
        return next(section for section in self.panel.sections if type(section).__name__ == name)

    def grab(self, section):
        """The picture of a section, as high as it wants to be."""
        self.session.process_events()
        widget = self.section(section).widget
        QtWidgets.QWidget.resize(self.panel.parent, WIDTH, self.panel.parent.sizeHint().height())
        self.session.process_events()
        picture = widget.grab().toImage()
        framed = QtGui.QImage(picture.width() + 2 * MARGIN, picture.height() + 2 * MARGIN, QtGui.QImage.Format_RGB888)
        framed.fill(picture.pixelColor(0, picture.height() - 1))
        return _painted(framed, [(QtCore.QPoint(MARGIN, MARGIN), picture)])

    def view(self, name, side, fitted=True):
        logic = self.manager.sliceWidget(name).sliceLogic()
        logic.ResizeSliceNode(side, side)
        if fitted:
            logic.FitSliceToBackground()
        return rendering.slice_image(self.manager, name)

    def wait(self, condition, seconds=600):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.session.errors
            self.session.process_events()
            time.sleep(0.01)


def beside(*images):
    return _joined(images, lambda place, image: QtCore.QPoint(place.x() + image.width(), 0))


def stacked(*images):
    return _joined(images, lambda place, image: QtCore.QPoint(0, place.y() + image.height()))


def _joined(images, step):
    places, place = [], QtCore.QPoint(0, 0)
    for image in images:
        places.append(place)
        place = step(place, image)
    size = [max(getattr(p, a)() + getattr(i, b)() for p, i in zip(places, images)) for a, b in (("x", "width"), ("y", "height"))]
    whole = QtGui.QImage(*size, QtGui.QImage.Format_RGB888)
    whole.fill(QtCore.Qt.black)
    return _painted(whole, zip(places, images))


def _painted(canvas, pieces):
    painter = QtGui.QPainter(canvas)
    for place, image in pieces:
        painter.drawImage(place, image)
    painter.end()
    return canvas


def save(picture, path):
    """Write a PNG with a palette."""
    from PIL import Image

    picture = picture.convertToFormat(QtGui.QImage.Format_RGB888)
    rows = Image.frombuffer("RGB", (picture.width(), picture.height()), bytes(picture.constBits()), "raw", "RGB", picture.bytesPerLine(), 1)
    rows.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main(folder: str = str(ROOT / "Resources" / "Screenshots")) -> None:
    tutorial = Tutorial()
    for name in ("scan", "corrections", "method", "run", "trust", "compare"):
        picture = getattr(tutorial, name)()
        save(picture, Path(folder) / f"{'trust_panel' if name == 'trust' else name}.png")
    tutorial.panel.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
