"""What is kept of a run beside its volume: its figures as curves, its previews as a sequence, what it was asked for."""

from .curves import PSNR, Curves
from .preview_psnr import PreviewPSNR
from .snapshots import Snapshots


class Record:
    """Follows a run that makes a volume.

    Parameters
    ----------
    name : str
        Name of the result.
    settings : Settings
        What was asked for.
    referenceNode : vtkMRMLScalarVolumeNode or None
        The CT that the scan was simulated from: with it there is a PSNR.
    keepSnapshots : bool
        Whether the previews stay in the scene as a sequence.
    """

    def __init__(self, name, settings, referenceNode=None, keepSnapshots=False):
        self._settings = settings
        self._curves = Curves(name)
        self._psnr = PreviewPSNR(referenceNode) if referenceNode else None
        self._snapshots = Snapshots(f"{name} snapshots") if keepSnapshots else None

    @property
    def charts(self):
        """A chart for each figure, by name."""
        return self._curves.charts

    def note(self, step, values):
        """Note the figures that the method gives for a step."""
        self._curves.add(step, values)

    def measure(self, step, array, ijkToRas):
        """Note the PSNR of voxels [z, y, x]."""
        if self._psnr:
            self._curves.add(step, {PSNR: self._psnr.of(array, ijkToRas)})

    def look(self, node, step, array, ijkToRas):
        """Note the PSNR of a preview, voxels [z, y, x], and keep a copy of `node`, which holds it."""
        self.measure(step, array, ijkToRas)
        if self._snapshots:
            self._snapshots.add(node, step)

    def flush(self):
        """Show what was noted."""
        self._curves.flush()

    def finish(self, node):
        """Keep everything with the result."""
        self._settings.keep(node)
        self._curves.finish(node)
        if self._snapshots:
            self._snapshots.finish(node)

    def restore(self):
        """Leave the scene as it was before the run."""
        self._curves.remove()
        if self._snapshots:
            self._snapshots.remove()
